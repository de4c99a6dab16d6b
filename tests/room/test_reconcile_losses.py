"""What an instance's end does, whatever its cause: to its endpoint's status, its FailureReason and its events."""

from pathlib import Path

import pytest
from tests.support.capacity import create, describe, notices, until_count
from tests.support.scenes import play

from moorage.engine.contract import Failure, InstanceSpec
from moorage.state import events
from moorage.telemetry.changes import STATE_CHANGE
from moorage.testing.fake_node import Script, Scripts
from moorage.testing.world import ControlWorld

PING = "The primary container for production variant v did not pass the ping health check."


async def failed_events(world: ControlWorld, name: str) -> list[str]:
    """Give the reasons in the events that tell of a failure."""
    found = await world.store.read(lambda connection: events.read_after(connection, 0, 1000))
    details = [r.document["detail"] for r in found if r.document["detail-type"] == STATE_CHANGE]
    return [d["FailureReason"] for d in details if d["EndpointStatus"] == "FAILED" and d["EndpointName"] == name]


@pytest.mark.parametrize(
    ("failure", "message", "begins"),
    [
        (Failure.OUT_OF_MEMORY, "Killed at the memory limit of the instance (8 GiB)", PING),
        (Failure.HEALTH_CHECK, "It ended with exit code 1: No space left on device", PING),
        (Failure.ARTIFACT, "No space left on device", "Failed to download model data for container"),
        (Failure.START, "Cannot fork: too many processes", "CannotStartContainerError."),
        (Failure.UNSUPPORTED, "VolumeSizeInGB: it needs root", "The production variant v asks for what no engine"),
    ],
)
def test_creation_that_ends_so_is_failed_at_once_with_the_reason_and_an_event(
    tmp_path: Path, failure: Failure, message: str, begins: str
) -> None:
    async def scene(world: ControlWorld) -> None:
        await create(world, "one")
        await world.until_status("Failed", "one", seconds=3.0)
        reason = (await describe(world, "one"))["FailureReason"]
        assert reason.startswith(begins)
        assert reason.endswith(f" {message}.")
        assert await failed_events(world, "one") == [reason]

    play(tmp_path, scene, lambda _spec: Script(fails_after=1.0, failure=failure, message=message))


def loops(first_good: int = 0) -> Scripts:
    """Make instances die a moment after they are ready, but for the first ones."""
    launched: list[str] = []

    def script(spec: InstanceSpec) -> Script:
        launched.append(spec.instance_id)
        return Script() if len(launched) <= first_good else Script(dies_after=0.2)

    return script


def test_crash_loop_of_a_creation_of_several_ends_with_the_reason(tmp_path: Path) -> None:
    launched: list[str] = []

    def one_never_comes_and_the_other_dies(spec: InstanceSpec) -> Script:
        launched.append(spec.instance_id)
        return Script(ready_after=1000.0) if len(launched) == 1 else Script(dies_after=0.2)

    async def scene(world: ControlWorld) -> None:
        await create(world, "one", 2)
        await world.until_status("Failed", "one", seconds=60.0)
        reason = (await describe(world, "one"))["FailureReason"]
        assert reason.startswith(PING)
        assert "It ended again and again after it was ready." in reason
        assert await failed_events(world, "one") == [reason]

    play(tmp_path, scene, one_never_comes_and_the_other_dies)


def test_crash_loop_of_an_endpoint_that_serves_is_slowed_down_and_told_twice(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        await create(world, "one", 2)
        await world.until_status("InService", "one")
        await world.node.kill(max(world.node.alive))
        await world.pass_time(600.0)
        assert await world.status("one") == "InService"
        assert len(world.routed) >= 1
        assert sum(1 for op, _ in world.node.calls if op == "launch") < 25  # without back-off some 500
        assert await notices(world, "one") == [
            "An instance of the variant v has ended; another takes its place.",
            "An instance of the variant v has ended, 5 in a row: the next launch waits 4 seconds, later ones longer.",
        ]
        await world.ask("DeleteEndpoint", EndpointName="one")
        await world.until_status(None, "one")

    play(tmp_path, scene, loops(first_good=2))


def test_single_loss_is_repaired_and_told(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        await create(world, "one")
        await world.until_status("InService", "one")
        await world.node.kill(next(iter(world.node.alive)))
        await until_count(world, "one", 1, seconds=5.0)
        assert await notices(world, "one") == ["An instance of the variant v has ended; another takes its place."]

    play(tmp_path, scene)
