"""Invocations that nobody can take at the moment: who waits, for what, for how long, and who is refused at once."""

import asyncio
from dataclasses import replace

import pytest
from tests.support.gateway import (
    Answer,
    FakeServer,
    Request,
    World,
    answers,
    endpoint,
    hangs,
    snapshot,
    until,
    variant,
    world,
)

from moorage.gateway.invocation import RECOVERY_SECONDS
from moorage.routing.snapshot import Variant

NOT_READY = "Endpoint ep has no instance that is ready. Try your call again."


def coming(name: str, *servers: FakeServer) -> Variant:
    return replace(variant(name, *servers), coming=True)


class Gate:
    """A script that answers when it is opened, and counts who is in front of it."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.inside = 0
        self.most = 0

    async def __call__(self, _: Request, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        await self.opened.wait()
        self.inside -= 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def ask(made: World, number: int = 1) -> list["asyncio.Task[Answer]"]:
    return [made.tasks.start(f"client {n}", made.invoke("ep")) for n in range(number)]


async def waiting(made: World, number: int) -> None:
    """Wait until so many are held, as the meter of the control plane is told."""

    def held() -> int:
        told = [m for m in made.control.said("metrics") if m["in_flight"]]
        return sum(entry[4] for entry in told[-1]["in_flight"]) if told else 0

    await until(lambda: held() == number)


async def test_who_finds_no_instance_waits_for_the_one_that_is_coming() -> None:
    async with world() as made:
        server = await made.instance("a", answers(b"ok"))
        await made.start(endpoint("ep", coming("v1")))
        asked = ask(made, 5)
        await waiting(made, 5)
        await made.control.publish(snapshot(2, endpoint("ep", variant("v1", server))))
        assert [(answer.status, answer.body) for answer in await asyncio.gather(*asked)] == [(200, b"ok")] * 5


async def test_who_finds_no_instance_and_none_is_coming_is_refused_at_once() -> None:
    async with world() as made:
        await made.start(endpoint("ep", variant("v1")))
        answer = await made.invoke("ep")
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (503, "ServiceUnavailable")
    assert answer.json["Message"] == NOT_READY


async def test_nobody_waits_for_longer_than_the_setting() -> None:
    async with world(speed=100, hold_seconds=5.0) as made:
        await made.start(endpoint("ep", coming("v1")))
        answer = await made.invoke("ep")
    assert (answer.status, answer.json["Message"]) == (503, NOT_READY)


async def test_no_more_wait_than_the_setting() -> None:
    async with world(held_invocations=2) as made:
        server = await made.instance("a", answers(b"ok"))
        await made.start(endpoint("ep", coming("v1")))
        asked = ask(made, 2)
        await waiting(made, 2)
        assert (await made.invoke("ep")).status == 503
        await made.control.publish(snapshot(2, endpoint("ep", variant("v1", server))))
        assert [(await one).status for one in asked] == [200, 200]


async def test_who_waits_is_told_when_the_endpoint_is_deleted() -> None:
    async with world() as made:
        await made.start(endpoint("ep", coming("v1")))
        (asked,) = ask(made)
        await waiting(made, 1)
        await made.control.publish(snapshot(2))
        answer = await asked
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (400, "ValidationError")


async def test_who_has_left_waits_no_more() -> None:
    async with world(held_invocations=1) as made:
        server = await made.instance("a", answers(b"ok"))
        await made.start(endpoint("ep", coming("v1")))
        async with made.connected() as (_, writer):
            writer.write(made.invocation("ep"))
            await waiting(made, 1)
        await until(lambda: made.control.said("metrics")[-1]["in_flight"] == [])
        (asked,) = ask(made)
        await made.control.publish(snapshot(2, endpoint("ep", variant("v1", server))))
        assert (await asked).status == 200
    assert len(server.requests) == 1


async def test_places_are_handed_over_one_by_one() -> None:
    gate = Gate()
    async with world(invocations_per_instance=2) as made:
        server = await made.instance("a", gate)
        await made.start(endpoint("ep", coming("v1")))
        asked = ask(made, 6)
        await waiting(made, 6)
        await made.control.publish(snapshot(2, endpoint("ep", variant("v1", server))))
        await until(lambda: gate.inside == 2)
        gate.opened.set()
        assert [(await one).status for one in asked] == [200] * 6
    assert gate.most == 2


async def test_an_instance_with_no_place_left_throttles_at_once() -> None:
    gate = Gate()
    async with world(invocations_per_instance=2) as made:
        server = await made.instance("a", gate)
        await made.start(endpoint("ep", variant("v1", server)))
        asked = ask(made, 2)
        await until(lambda: gate.inside == 2)
        refused = await made.invoke("ep")
        gate.opened.set()
        assert [(await one).status for one in asked] == [200, 200]
        assert (await made.invoke("ep")).status == 200
    assert (refused.status, refused.headers["x-amzn-errortype"]) == (400, "ThrottlingException")
    assert refused.json == {"message": None}


async def test_who_finds_one_instance_full_gets_another() -> None:
    gate = Gate()
    async with world(invocations_per_instance=1) as made:
        servers = [await made.instance(name, gate) for name in "ab"]
        await made.start(endpoint("ep", variant("v1", *servers)))
        asked = ask(made, 2)
        await until(lambda: gate.inside == 2)
        gate.opened.set()
        assert [(await one).status for one in asked] == [200, 200]
    assert [len(server.requests) for server in servers] == [1, 1]


async def test_the_only_instance_that_comes_back_costs_no_invocation(monkeypatch: pytest.MonkeyPatch) -> None:
    # The meter, by which the test sees that somebody is held, is told once a second: too near to two.
    monkeypatch.setattr("moorage.gateway.invocation.RECOVERY_SECONDS", 20.0)
    async with world() as made:
        server = await made.instance("a", answers(b"ok"))
        await made.start(endpoint("ep", variant("v1", server)))
        assert (await made.invoke("ep")).status == 200
        await server.kill()
        (asked,) = ask(made)
        await waiting(made, 1)
        await server.start()
        assert (await asked).status == 200


async def test_the_only_instance_that_stays_away_is_a_model_error() -> None:
    async with world(speed=50) as made:
        server = await made.instance("a", answers(b"ok"))
        await made.start(endpoint("ep", variant("v1", server)))
        await server.kill()
        answer = await made.invoke("ep")
    assert (answer.status, answer.json["OriginalStatusCode"]) == (424, 0)
    assert "could not get a response from the ep endpoint" in answer.json["Message"]


async def test_who_was_refused_waits_on_when_a_replacement_is_coming() -> None:
    async with world() as made:
        server = await made.instance("a", answers(b"ok"))
        await made.start(endpoint("ep", variant("v1", server)))
        await server.kill()
        (asked,) = ask(made)
        await until(lambda: bool(made.control.said("unreachable")))
        await made.control.publish(snapshot(2, endpoint("ep", coming("v1"))))
        reports = len(made.control.said("metrics"))
        await until(lambda: len(made.control.said("metrics")) >= reports + 1 + RECOVERY_SECONDS)  # one each second
        await server.start()
        await made.control.publish(snapshot(3, endpoint("ep", variant("v1", server))))
        assert (await asked).status == 200


async def test_an_instance_that_refuses_is_dialled_before_it_is_asked_again() -> None:
    async with world(speed=20) as made:
        dead, alive = await made.instance("a", answers(b"a")), await made.instance("b", answers(b"b"))
        await made.start(endpoint("ep", variant("v1", dead, alive)))
        await dead.kill()
        while not made.control.said("unreachable"):
            assert (await made.invoke("ep")).body == b"b"
        assert [(await made.invoke("ep")).body for _ in range(20)] == [b"b"] * 20
        await dead.start()
        await until(lambda: dead.connections == 1)
        assert dead.requests == []
        while not dead.requests:
            assert (await made.invoke("ep")).status == 200


async def test_bodies_have_no_more_memory_than_the_setting() -> None:
    body = b"x" * 300_000
    async with world(buffered_bytes=500_000) as made:
        server = await made.instance("a", hangs)
        await made.start(endpoint("ep", variant("v1", server)))
        first = made.tasks.start("client", made.invoke("ep", body))
        await until(lambda: server.requests)
        refused = await made.invoke("ep", body)
        assert (refused.status, refused.headers["x-amzn-errortype"]) == (503, "ServiceUnavailable")
        first.cancel()
        server.scripts = [answers(b"ok")]
        await until(lambda: server.open_connections == 0)
        assert (await made.invoke("ep", body)).status == 200
