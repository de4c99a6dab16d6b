"""Strict capacity in a simulated world: who waits for room, who gets it, and what becomes of those who get none."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tests.support.capacity import (
    LARGE,
    XLARGE,
    Guard,
    alive,
    configure,
    create,
    delete,
    describe,
    notices,
    scale,
    until_count,
)
from tests.support.scenes import play

from moorage.engine.contract import Failure, InstanceSpec
from moorage.testing.fake_node import Script, Scripts
from moorage.testing.world import ControlWorld

WORDS = (
    "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error. "
    "Please retry using a different ML instance type or after some time."
)


def play_strictly(
    folder: Path, scene: Callable[[ControlWorld], Awaitable[None]], scripts: Scripts = lambda _spec: Script()
) -> None:
    """Play a scene on a machine of 4 vCPUs and 16 GiB, of which no more is ever used."""
    guard = Guard(scripts)

    async def guarded(world: ControlWorld) -> None:
        guard.world = world
        await scene(world)

    play(folder, guarded, guard, strict=True)
    assert guard.violations == []


def test_what_does_not_fit_waits_and_takes_what_becomes_free(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        await create(world, "one", 2)
        await world.until_status("InService", "one")
        await create(world, "two")
        await world.pass_time(100.0)
        assert await world.status("two") == "Creating"
        assert alive(world, "two") == []
        await delete(world, "one")
        await world.until_status("InService", "two")

    play_strictly(tmp_path, scene)


def test_first_come_first_served_and_nobody_overtakes(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        await create(world, "one", 2)
        await world.until_status("InService", "one")
        await create(world, "large", kind=XLARGE)
        await world.pass_time(1.0)
        await create(world, "small")
        await scale(world, "one", 1)
        await world.until_status("InService", "one")
        await world.pass_time(50.0)
        assert (alive(world, "large"), alive(world, "small")) == ([], [])
        await delete(world, "one")
        await world.until_status("InService", "large")
        assert await world.status("small") == "Creating"
        await delete(world, "large")
        await world.until_status("InService", "small")

    play_strictly(tmp_path, scene)


def test_wait_for_room_ends_with_awss_words(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        await create(world, "one", 2)
        await world.until_status("InService", "one")
        asked_at = world.clock.now()
        await create(world, "two", 3, VariantInstanceProvisionTimeoutInSeconds=450)
        await world.until_status("Failed", "two", seconds=1000.0)
        assert 450.0 <= world.clock.now() - asked_at <= 450.2
        assert (await describe(world, "two"))["FailureReason"] == (
            f"{WORDS} Within 450 seconds there was no room for 3 of 3 instance(s) of the production variant v "
            "(ml.m5.large)."
        )
        assert await world.status("one") == "InService"

    play_strictly(tmp_path, scene)


def test_without_a_time_of_its_own_a_variant_waits_as_aws_does(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        asked_at = world.clock.now()
        await create(world, "one", kind="ml.p4d.24xlarge")
        await world.until_status("Failed", "one", seconds=1000.0)
        assert 300.0 <= world.clock.now() - asked_at <= 300.2  # the world's patience

    play_strictly(tmp_path, scene)


def test_what_can_never_fit_is_in_nobodys_way(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        await create(world, "huge", kind="ml.m5.24xlarge")
        await create(world, "one", 2)
        await world.until_status("InService", "one")
        await world.until_status("Failed", "huge", seconds=400.0)

    play_strictly(tmp_path, scene)


def test_time_of_waiting_is_not_taken_from_download_and_start(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        await create(world, "one", 2)
        await world.until_status("InService", "one")
        await create(world, "two", ContainerStartupHealthCheckTimeoutInSeconds=600)
        await world.pass_time(250.0)
        await delete(world, "one")
        await world.until_status("InService", "two", seconds=700.0)

    play_strictly(tmp_path, scene, lambda spec: Script(ready_after=590.0 if spec.endpoint == "two" else 1.0))


def test_lost_instance_keeps_its_room_also_while_its_launch_is_put_off(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        await create(world, "one", kind=XLARGE)
        await world.until_status("InService", "one")
        await create(world, "two")
        for _ in range(4):
            await world.node.kill(next(i for i, r in world.node.alive.items() if r.endpoint == "one"))
            await until_count(world, "one", 1, seconds=10.0)
            assert alive(world, "two") == []
        await delete(world, "one")
        await world.until_status("InService", "two")

    play_strictly(tmp_path, scene)


def test_node_agent_that_is_started_again_gives_everybody_the_same_room(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        await create(world, "one", 2)
        await world.until_status("InService", "one")
        await create(world, "two")
        await world.node.restart()
        await until_count(world, "one", 2)
        assert alive(world, "two") == []
        await delete(world, "one")
        await world.until_status("InService", "two")

    play_strictly(tmp_path, scene)


def test_update_without_room_for_both_fleets_leaves_the_old_one_serving(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        await create(world, "one", kind=XLARGE)
        await world.until_status("InService", "one")
        await configure(world, "new")
        await world.ask("UpdateEndpoint", EndpointName="one", EndpointConfigName="new")
        await world.until_status("InService", "one", seconds=400.0)
        described = await describe(world, "one")
        assert described["EndpointConfigName"] == "one"
        assert described["FailureReason"].startswith(WORDS)
        assert alive(world, "one") == [XLARGE]

    play_strictly(tmp_path, scene)


def test_scale_out_without_room_is_rolled_back(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        await create(world, "one")
        await world.until_status("InService", "one")
        await scale(world, "one", 4)
        await until_count(world, "one", 2)
        await world.until_status("InService", "one", seconds=400.0)
        await until_count(world, "one", 1)
        assert (await describe(world, "one"))["FailureReason"].startswith(WORDS)

    play_strictly(tmp_path, scene)


def pools(*types: str) -> dict[str, Any]:
    return {"InstancePools": [{"InstanceType": name, "Priority": rank} for rank, name in enumerate(types, 1)]}


def test_pools_fall_back_where_room_is_short_and_come_back_when_there_is_room(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        await create(world, "other")
        await world.until_status("InService", "other")
        await create(world, "one", kind=None, **pools(XLARGE, LARGE))
        await world.until_status("InService", "one")
        assert alive(world, "one") == [LARGE]
        (variant,) = (await describe(world, "one"))["ProductionVariants"]
        assert variant["InstancePools"] == [
            {"InstanceType": XLARGE, "CurrentInstanceCount": 0},
            {"InstanceType": LARGE, "CurrentInstanceCount": 1},
        ]
        assert await notices(world, "one") == [
            f"Capacity of {XLARGE} is short: 1 instance(s) of the variant v run on {LARGE}."
        ]
        await delete(world, "other")
        await world.node.kill(next(iter(world.node.alive)))
        await until_count(world, "one", 1)
        assert alive(world, "one") == [XLARGE]

    play_strictly(tmp_path, scene)


def test_scale_in_takes_the_pool_of_the_lowest_priority_first(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        world.node.machine = {"vcpus": 8, "memory_mib": 24 * 1024, "gpus": 0}
        await world.node.restart()
        await create(world, "one", 2, kind=None, **pools(XLARGE, LARGE))
        await world.until_status("InService", "one")
        assert alive(world, "one") == [LARGE, XLARGE]
        await scale(world, "one", 1)
        await world.until_status("InService", "one")
        await until_count(world, "one", 1)
        assert alive(world, "one") == [XLARGE]

    play_strictly(tmp_path, scene)


def test_people_are_told_who_waits_for_what(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        await create(world, "one", 3)
        await world.pass_time(5.0)
        (told,) = await notices(world, "one")
        assert told == (
            "1 instance(s) of the variant v wait for room: each needs ml.m5.large (2 vCPUs, 8 GiB of memory). "
            "This machine has 4 vCPUs, 16 GiB of memory, with what others use of it."
        )
        await world.until_status("Failed", "one", seconds=400.0)

    play_strictly(tmp_path, scene)


def test_people_are_told_once_that_more_is_promised_than_there_is(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        await create(world, "one", 2)
        await world.until_status("InService", "one")
        await create(world, "two")
        await world.until_status("InService", "two")
        await create(world, "three")
        await world.until_status("InService", "three")
        assert (await notices(world, "one"), await notices(world, "three")) == ([], [])
        (told,) = await notices(world, "two")
        assert told.startswith("More memory and vCPUs than there are is promised by now")
        assert "6 vCPUs, 24 GiB of memory by their types, and this machine has 4 vCPUs, 16 GiB of memory" in told

    play(tmp_path, scene)


def test_an_instance_that_takes_another_s_place_is_no_news_of_what_is_promised(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        await create(world, "one", 2)
        await world.until_status("InService", "one")
        await create(world, "two")
        await world.until_status("InService", "two")
        lost = next(one for one in world.node.alive if world.node.reports[one].endpoint == "two")
        await world.node.kill(lost)

        async def replaced() -> bool:
            return lost not in world.node.alive and len(world.node.alive) == 3

        await world.until(replaced)
        told = [text for text in await notices(world, "two") if text.startswith("More ")]
        assert len(told) == 1

    play(tmp_path, scene)


def test_people_are_told_once_of_drivers_for_gpus_that_are_not_there(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        image = "al2-ami-sagemaker-inference-gpu-3-1"
        await create(world, "one", kind="ml.g4dn.xlarge", InferenceAmiVersion=image)
        await world.until_status("InService", "one")
        await world.node.kill(next(iter(world.node.alive)))
        await until_count(world, "one", 1)
        told = f"InferenceAmiVersion {image} of the variant v sets nothing: this machine has no GPU."
        assert (await notices(world, "one")).count(told) == 1

    play(tmp_path, scene)


def test_people_are_told_of_a_driver_that_is_older_than_was_asked_for(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        world.node.machine, world.node.gpu_driver = {"vcpus": 64, "memory_mib": 2**18, "gpus": 4}, "535.161.08"
        await world.node.restart()
        await create(world, "new", kind="ml.g4dn.xlarge", InferenceAmiVersion="al2-ami-sagemaker-inference-gpu-3-1")
        await create(world, "old", kind="ml.g4dn.xlarge", InferenceAmiVersion="al2-ami-sagemaker-inference-gpu-2")
        await world.until_status("InService", "new")
        await world.until_status("InService", "old")
        (told,) = await notices(world, "new")
        assert "stands for NVIDIA driver 550 and CUDA 12.4, and this machine has driver 535.161.08" in told
        assert await notices(world, "old") == []

    play(tmp_path, scene)


def unsupported_after(launches: int) -> Scripts:
    launched: list[str] = []

    def script(spec: InstanceSpec) -> Script:
        launched.append(spec.instance_id)
        if len(launched) <= launches:
            return Script()
        return Script(fails_after=0.5, failure=Failure.UNSUPPORTED, message="EnableSSMAccess: no engine here")

    return script


def test_creation_that_no_engine_can_keep_fails_at_once_and_says_why(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        await create(world, "one", 2)
        await world.until_status("Failed", "one", seconds=2.0)
        assert (await describe(world, "one"))["FailureReason"] == (
            "The production variant v asks for what no engine of this machine can promise. "
            "EnableSSMAccess: no engine here."
        )
        assert sum(1 for op, _ in world.node.calls if op == "launch") <= 2

    play(tmp_path, scene, unsupported_after(0))


def test_instance_that_can_no_longer_be_run_is_not_tried_again_and_the_others_serve(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        await create(world, "one", 2)
        await world.until_status("InService", "one")
        await world.node.kill(min(world.node.alive))
        await world.pass_time(300.0)
        assert await world.status("one") == "InService"
        assert len(world.routed) == 1
        assert sum(1 for op, _ in world.node.calls if op == "launch") == 3
        await scale(world, "one", 1)
        await world.until_status("InService", "one")
        await until_count(world, "one", 1)
        await delete(world, "one")

    play(tmp_path, scene, unsupported_after(2))
