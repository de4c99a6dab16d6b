"""The control plane is killed before and after each of its effects, and everything comes right all the same."""

from pathlib import Path
from typing import Any

import pytest
from tests.support import capacity

from moorage.engine.contract import InstanceSpec
from moorage.state import instances
from moorage.state.records import EndpointKey
from moorage.testing.builders import ACCOUNT, REGION
from moorage.testing.fake_node import Script
from moorage.testing.virtual_time import run_virtually
from moorage.testing.world import ControlWorld, Killer

KEY = EndpointKey(ACCOUNT, REGION, "ep")


async def whole_life(world: ControlWorld) -> None:
    """Create, scale out and in, lose an instance, delete."""
    world.killer.armed = True
    await world.create({"a": 2, "b": 1})
    await world.until_status("InService")
    await until_counts(world, [2, 1])
    await ask_for(world, {"a": 1, "b": 2})
    await world.until_status("InService")
    await until_counts(world, [1, 2])
    await world.node.kill(min(world.node.alive))

    async def repaired() -> bool:
        return await counts(world) == [1, 2] and len(world.node.reports) == 3

    await world.until(repaired)
    await world.ask("DeleteEndpoint", EndpointName="ep")
    await world.until_status(None)


async def failing_life(world: ControlWorld) -> None:
    """Create, fail to scale out, roll back, delete."""
    world.killer.armed = True
    await world.create({"a": 1})
    await world.until_status("InService")
    await ask_for(world, {"a": 3})
    await world.until_status("InService")
    await until_counts(world, [1])
    await world.ask("DeleteEndpoint", EndpointName="ep")
    await world.until_status(None)


async def updating_life(world: ControlWorld) -> None:
    """Create, update to another configuration, delete."""
    world.killer.armed = True
    await world.create({"a": 1, "b": 1}, source="old")
    await world.until_status("InService")
    await world.deploy({"a": 2}, "new", DeploymentConfig=BAKING)
    await world.until_status("InService")
    await until_counts(world, [2])
    await see_configuration(world, "new-config", failed=False)
    await world.ask("DeleteEndpoint", EndpointName="ep")
    await world.until_status(None)


async def failing_update_life(world: ControlWorld) -> None:
    """Create, update to what never gets ready, delete; the old fleet is never taken away."""
    world.killer.armed = True
    await world.create({"a": 2}, source="old")
    await world.until_status("InService")
    serving = world.routed
    await world.deploy({"a": 1}, "bad")
    await world.until_status("InService")
    await until_counts(world, [2])
    await see_configuration(world, "old-config", failed=True)
    assert world.routed == serving
    await world.ask("DeleteEndpoint", EndpointName="ep")
    await world.until_status(None)


async def shadowed_life(world: ControlWorld) -> None:
    """Create with a shadow and capture, scale the shadow, lose one of it, update to another shadow, delete."""
    world.killer.armed = True
    await world.create({"a": 1}, source="old", shadows={"s": 1}, capture=CAPTURE)
    await world.until_status("InService")
    await ask_for(world, {"s": 2})
    await world.until_status("InService")
    await until_shadows(world, {"s": 2})
    (shadow,) = world.gateway.snapshot.endpoints[KEY].shadows
    await world.node.kill(shadow.instances[0].instance_id)
    await until_shadows(world, {"s": 2})
    await world.deploy({"a": 1}, "new", shadows={"t": 1})
    await world.until_status("InService")
    await until_shadows(world, {"t": 1})
    assert world.gateway.snapshot.endpoints[KEY].capture is None
    await world.ask("DeleteEndpoint", EndpointName="ep")
    await world.until_status(None)


async def until_shadows(world: ControlWorld, wanted: dict[str, int]) -> None:
    async def done() -> bool:
        described = await world.ask("DescribeEndpoint", EndpointName="ep")
        told = {v["VariantName"]: v["CurrentInstanceCount"] for v in described.get("ShadowProductionVariants", ())}
        route = world.gateway.snapshot.endpoints.get(KEY)
        routed = {v.name: len(v.instances) for v in route.shadows} if route is not None else {}
        return told == routed == wanted and len(world.node.reports) == 1 + sum(wanted.values())

    await world.until(done)


CAPTURE = {
    "InitialSamplingPercentage": 50,
    "DestinationS3Uri": "s3://captured/here",
    "CaptureOptions": [{"CaptureMode": "Input"}],
}
BAKING = {
    "BlueGreenUpdatePolicy": {
        "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0},
        "TerminationWaitInSeconds": 2,
    }
}


async def see_configuration(world: ControlWorld, name: str, *, failed: bool) -> None:
    described = await world.ask("DescribeEndpoint", EndpointName="ep")
    assert (described["EndpointConfigName"], bool(described["FailureReason"])) == (name, failed)


async def ask_for(world: ControlWorld, wanted: dict[str, int]) -> None:
    await world.ask(
        "UpdateEndpointWeightsAndCapacities",
        EndpointName="ep",
        DesiredWeightsAndCapacities=[
            {"VariantName": name, "DesiredInstanceCount": count} for name, count in wanted.items()
        ],
    )


async def until_counts(world: ControlWorld, wanted: list[int]) -> None:
    async def done() -> bool:
        return await counts(world) == wanted

    await world.until(done, seconds=5.0)


async def counts(world: ControlWorld) -> list[int]:
    described = await world.ask("DescribeEndpoint", EndpointName="ep")
    return [variant["CurrentInstanceCount"] for variant in described["ProductionVariants"]]


async def nothing_is_left(world: ControlWorld) -> None:
    """See that no instance, report, record or route has outlived the endpoint."""

    async def done() -> bool:
        recorded = await world.store.read(lambda connection: instances.of_endpoint(connection, KEY))
        return not world.node.reports and not recorded and not world.routed

    await world.until(done, seconds=60.0)
    assert world.violations == []


def live(
    folder: Path, life: Any, at: int | None, scripts: Any = lambda _spec: Script(), *, strict: bool = False
) -> Killer:
    killer = Killer(at)

    async def main() -> None:
        world = ControlWorld(
            folder, killer=killer, scripts=scripts, apply_seconds=0.1, drain_seconds=0.3, strict=strict
        )
        try:
            await life(world)
            await nothing_is_left(world)
        finally:
            await world.close()

    run_virtually(main())
    return killer


def third_fails() -> Any:
    launched: list[str] = []

    def script(spec: InstanceSpec) -> Script:
        launched.append(spec.instance_id)
        return Script() if len(launched) != 3 else Script(fails_after=1.0)

    return script


@pytest.mark.slow  # some 80 whole lives of an endpoint, each with a database file
def test_whole_life_survives_a_kill_at_every_point(tmp_path: Path) -> None:
    points = live(make(tmp_path, "whole"), whole_life, None).passed
    assert points > 40
    for at in range(points):
        live(make(tmp_path, f"at-{at}"), whole_life, at)


@pytest.mark.slow  # some 60 lives, each with a database file
def test_rollback_survives_a_kill_at_every_point(tmp_path: Path) -> None:
    points = live(make(tmp_path, "whole"), failing_life, None, third_fails()).passed
    assert points > 20
    for at in range(points):
        live(make(tmp_path, f"at-{at}"), failing_life, at, third_fails())


@pytest.mark.slow  # some 80 lives, each with a database file
def test_update_survives_a_kill_at_every_point(tmp_path: Path) -> None:
    points = live(make(tmp_path, "whole"), updating_life, None).passed
    assert points > 40
    for at in range(points):
        live(make(tmp_path, f"at-{at}"), updating_life, at)


@pytest.mark.slow  # some 80 lives, each with a database file
def test_shadow_survives_a_kill_at_every_point(tmp_path: Path) -> None:
    points = live(make(tmp_path, "whole"), shadowed_life, None).passed
    assert points > 40
    for at in range(points):
        live(make(tmp_path, f"at-{at}"), shadowed_life, at)


@pytest.mark.slow  # some 60 lives, each with a database file
def test_failed_update_survives_a_kill_at_every_point(tmp_path: Path) -> None:
    points = live(make(tmp_path, "whole"), failing_update_life, None, third_fails()).passed
    assert points > 20
    for at in range(points):
        live(make(tmp_path, f"at-{at}"), failing_update_life, at, third_fails())


async def waiting_life(world: ControlWorld) -> None:
    """On a full machine: one waits, another loses an instance and keeps its room, then goes, and is followed."""
    world.killer.armed = True
    await capacity.create(world, "ep", 2)
    await world.until_status("InService")
    await capacity.create(world, "next", kind=capacity.XLARGE)
    await world.node.kill(min(world.node.alive))
    await capacity.until_count(world, "ep", 2)
    assert await world.status("next") == "Creating"
    await capacity.scale(world, "ep", 1)
    await world.until_status("InService")
    await capacity.delete(world, "ep")
    await world.until_status("InService", "next")
    await capacity.delete(world, "next")


@pytest.mark.slow  # some 80 lives, each with a database file
def test_waiting_for_room_survives_a_kill_at_every_point_and_no_room_is_given_twice(tmp_path: Path) -> None:
    points = live_strictly(make(tmp_path, "whole"), None)
    assert points > 40
    for at in range(points):
        live_strictly(make(tmp_path, f"at-{at}"), at)


def live_strictly(folder: Path, at: int | None) -> int:
    guard = capacity.Guard()

    async def life(world: ControlWorld) -> None:
        guard.world = world
        await waiting_life(world)

    killer = live(folder, life, at, guard, strict=True)
    assert guard.violations == []
    return killer.passed


def make(folder: Path, name: str) -> Path:
    made = folder / name
    made.mkdir()
    return made
