"""Routing strategies in a whole gateway: what it knows of the body and of its instances reaches the decision."""

import asyncio
from dataclasses import replace

from tests.support.gateway import World, answers, endpoint, hangs, until, variant, world

from moorage.routing.snapshot import PrefixAware, Strategy


async def start(made: World, strategy: Strategy) -> None:
    servers = [await made.instance(f"n{n}", answers(b"")) for n in range(2)]
    prefix = PrefixAware(1024, 1024) if strategy is Strategy.PREFIX_AWARE else None
    await made.start(endpoint("ep", replace(variant("v1", *servers), strategy=strategy, prefix_aware=prefix)))


def asked(made: World) -> list[int]:
    return [len(server.requests) for server in made.servers.values()]


async def test_invocations_that_begin_alike_go_to_one_instance() -> None:
    async with world() as made:
        await start(made, Strategy.PREFIX_AWARE)
        for number in range(10):
            await made.invoke("ep", b"x" * 1024 + bytes([number]))
        assert sorted(asked(made)) == [0, 10]


async def test_prefix_aware_id_tells_like_bodies_apart() -> None:
    async with world() as made:
        await start(made, Strategy.PREFIX_AWARE)
        for number in range(20):
            await made.invoke("ep", b"same", x_amzn_sagemaker_prefix_aware_id=str(number))
        assert 0 not in asked(made)


async def test_prefix_aware_id_without_the_strategy_is_ignored() -> None:
    async with world() as made:
        await start(made, Strategy.RANDOM)
        for _ in range(40):
            answer = await made.invoke("ep", b"same", x_amzn_sagemaker_prefix_aware_id="one")
            assert answer.status == 200
        assert 0 not in asked(made)


async def test_a_busy_instance_is_passed_over_by_least_outstanding() -> None:
    async with world() as made:
        await start(made, Strategy.LEAST_OUTSTANDING_REQUESTS)
        for server in made.servers.values():
            server.scripts = [hangs, answers(b"")]
        stuck = asyncio.ensure_future(made.invoke("ep", b""))
        await until(lambda: sum(asked(made)) == 1)
        busy = next(server for server in made.servers.values() if server.requests)
        for server in made.servers.values():
            server.scripts = [answers(b"")]
        for _ in range(10):
            assert (await made.invoke("ep", b"")).status == 200
        assert len(busy.requests) == 1
        stuck.cancel()
        await asyncio.gather(stuck, return_exceptions=True)


async def test_a_prompt_goes_where_its_start_is() -> None:
    async with world() as made:
        await start(made, Strategy.KV_AWARE)
        for length in range(1, 11):
            await made.invoke("ep", b"x" * 512 * length)
        assert sorted(asked(made)) == [0, 10]
