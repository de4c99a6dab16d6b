"""Random histories: whatever happens in whatever order, endpoints come to rest where they should."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from moorage.aws.errors import ClientFault
from moorage.engine.contract import InstanceSpec
from moorage.testing.fake_node import Script
from moorage.testing.virtual_time import run_virtually
from moorage.testing.world import ControlWorld

HAPPENINGS = st.one_of(
    st.tuples(st.just("create"), st.integers(1, 3)),
    st.tuples(st.just("scale"), st.integers(1, 4)),
    st.tuples(st.just("weigh"), st.integers(0, 3)),
    st.tuples(st.just("deploy"), st.integers(1, 3)),
    st.tuples(st.just("shadow"), st.integers(1, 3)),
    st.tuples(st.just("delete"), st.just(0)),
    st.tuples(st.just("kill"), st.integers(0, 5)),
    st.tuples(st.just("lose node"), st.just(0)),
    st.tuples(st.just("restart"), st.just(0)),
    st.tuples(st.just("wait"), st.integers(0, 40)),
)
LIVES = st.lists(
    st.sampled_from([Script(), Script(ready_after=8.0), Script(fails_after=2.0), Script(dies_after=3.0)]),
    max_size=12,
)


async def happen(world: ControlWorld, what: str, number: int) -> None:
    match what:
        case "create":
            await world.create({"a": number, "b": 1}, source=new_name(world))
        case "deploy" | "shadow":
            await deploy(world, what, number)
        case "scale":
            await update(world, DesiredInstanceCount=number)
        case "weigh":
            await update(world, DesiredWeight=float(number))
        case "delete":
            await world.ask("DeleteEndpoint", EndpointName="ep")
        case "kill" if world.node.alive:
            alive = sorted(world.node.alive)
            await world.node.kill(alive[number % len(alive)])
        case "lose node":
            await world.node.restart()
        case "restart":
            await world.restart()
        case "wait":
            await world.pass_time(number / 4)


async def deploy(world: ControlWorld, what: str, number: int) -> None:
    # The wait varies too, so that histories go on in the middle of it. A shadow may have the name of a variant of
    # others, so that names change sides.
    counts = {"a": 1} if what == "shadow" else {"a": number, "c": 1}
    shadows = {"b" if number == 1 else "s": number} if what == "shadow" else {}
    await world.deploy(counts, new_name(world), shadows=shadows, DeploymentConfig=waiting(number * 3))


def new_name(world: ControlWorld) -> str:
    return f"at{world.clock.monotonic():.6f}-{len(world.node.calls)}".replace(".", "-")


def waiting(seconds: int) -> dict[str, Any]:
    traffic = {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}
    return {
        "BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": traffic, "TerminationWaitInSeconds": seconds},
    }


async def update(world: ControlWorld, **item: Any) -> None:
    await world.ask(
        "UpdateEndpointWeightsAndCapacities",
        EndpointName="ep",
        DesiredWeightsAndCapacities=[{"VariantName": "a", **item}],
    )


async def try_happen(world: ControlWorld, what: str, number: int) -> None:
    try:
        await happen(world, what, number)
    except ClientFault:
        return  # the API has refused it: nothing has happened


async def has_come_to_rest(world: ControlWorld) -> None:
    await world.pass_time(700.0)
    status = await world.status()
    assert status in {None, "InService", "Failed"}
    if status == "InService":
        described = await world.ask("DescribeEndpoint", EndpointName="ep")
        variants = [*described["ProductionVariants"], *described.get("ShadowProductionVariants", ())]
        desired = sum(variant["DesiredInstanceCount"] for variant in variants)
        assert sum(variant["CurrentInstanceCount"] for variant in variants) == desired
        assert len(world.routed) == desired
        assert set(world.node.alive) == set(world.routed)
        assert "PendingDeploymentSummary" not in described
    else:
        assert world.node.reports == {}
        assert world.routed == frozenset()
    assert world.violations == []


@pytest.mark.slow  # 150 histories of several minutes of virtual time each
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(HAPPENINGS, max_size=12), LIVES)
@example([("wait", 0), ("restart", 0)], [])  # asyncio.wait_for of Python 3.11 swallowed the cancellation
def test_every_history_comes_to_rest(history: list[tuple[str, int]], lives: list[Script]) -> None:
    ahead = iter(lives)

    def script(_spec: InstanceSpec) -> Script:
        return next(ahead, Script())

    async def main(folder: Path) -> None:
        world = ControlWorld(folder, scripts=script, apply_seconds=0.05, drain_seconds=0.4)
        try:
            for what, number in [("create", 2), *history]:
                await try_happen(world, what, number)
            await has_come_to_rest(world)
        finally:
            await world.close()

    with tempfile.TemporaryDirectory() as folder:
        run_virtually(main(Path(folder)))
