"""UpdateEndpoint in a simulated world: what serves when, what is told of it, and what is left."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.scenes import Play, play

from moorage.aws.errors import ClientFault
from moorage.testing.fake_gateway import instances_of
from moorage.testing.fake_node import Script, Scripts
from moorage.testing.world import ControlWorld

ARN = "arn:aws:sagemaker:us-east-1:000000000000"


def play_serving(folder: Path, scene: Play, scripts: Scripts = lambda _spec: Script(), **options: Any) -> None:
    """Play a scene with an endpoint of two variants that serves; then see that nothing more is done."""

    async def whole(world: ControlWorld) -> None:
        await world.create({"a": 2, "b": 1}, source="old")
        await world.until_status("InService")
        await scene(world)

    def check(world: ControlWorld) -> None:
        assert set(world.node.alive) == world.routed
        assert always_served(world)

    play(folder, whole, scripts, check=check, **options)


def always_served(world: ControlWorld) -> bool:
    """Say whether each variant of each snapshot since the first with the endpoint has an instance."""
    served = [snapshot for snapshot in world.gateway.history if snapshot.endpoints]
    after_first = world.gateway.history[world.gateway.history.index(served[0]) :]
    return after_first == served and all(
        variant.instances
        for snapshot in served
        for endpoint in snapshot.endpoints.values()
        for variant in endpoint.variants
    )


async def describe(world: ControlWorld) -> dict[str, Any]:
    return await world.ask("DescribeEndpoint", EndpointName="ep")


async def fleets_that_served(world: ControlWorld, counts: list[int], source: str) -> list[frozenset[str]]:
    """Update to variants of these counts and give the distinct sets of instances that were routed to."""
    seen = len(world.gateway.history) - 1
    await world.deploy(dict(zip("ab", counts, strict=False)), source)
    await world.until_status("InService")
    return list(dict.fromkeys(instances_of(snapshot) for snapshot in world.gateway.history[seen:]))


def after(ready: int, script: Script) -> Scripts:
    """Give so many instances a normal life, and all that follow another one."""
    scripts: Iterator[Script] = iter([Script()] * ready)
    return lambda _spec: next(scripts, script)


def test_new_fleet_takes_over_whole_in_one_switch(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        served = await fleets_that_served(world, [1, 2], "new")
        assert [len(fleet) for fleet in served] == [3, 3]
        assert not served[0] & served[1]
        described = await describe(world)
        assert described["EndpointConfigName"] == "new-config"
        assert [variant["CurrentInstanceCount"] for variant in described["ProductionVariants"]] == [1, 2]
        assert "PendingDeploymentSummary" not in described
        assert described["FailureReason"] is None

    play_serving(tmp_path, scene, apply_seconds=0.3, drain_seconds=1.0)


def test_update_is_told_step_by_step(tmp_path: Path) -> None:
    steps: list[tuple[str, list[str | None], str | None]] = []

    def note(described: dict[str, Any]) -> None:
        pending = described.get("PendingDeploymentSummary", {}).get("ProductionVariants", [])
        step = (
            described["EndpointStatus"],
            [message_of(variant) for variant in pending],
            message_of(described["ProductionVariants"][0]),
        )
        if not steps or steps[-1] != step:
            steps.append(step)

    async def scene(world: ControlWorld) -> None:
        config = {"BlueGreenUpdatePolicy": {**ALL_AT_ONCE, "TerminationWaitInSeconds": 30}}
        await world.deploy({"a": 2}, "new", DeploymentConfig=config)

        async def done() -> bool:
            described = await describe(world)
            note(described)
            assert described["EndpointConfigName"] == ("new-config" if len(steps) == 5 else "old-config")
            return len(steps) == 5

        await world.until(done)
        assert (await describe(world))["LastDeploymentConfig"] == config

    play_serving(tmp_path, scene, apply_seconds=1.0, drain_seconds=2.0)
    assert steps == [
        ("Updating", ["Launching 2 instance(s)."], None),
        ("Updating", ["Activating traffic on full capacity of 2 instance(s)."], None),
        (
            "Updating",
            [BAKING],
            None,
        ),
        ("Updating", [None], "Terminating 2 instance(s)."),
        ("InService", [], None),
    ]


BAKING = "Baking for 30 seconds (TerminationWaitInSeconds) with traffic enabled on full capacity of 2 instance(s)."
ALL_AT_ONCE = {"TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}}


def message_of(variant: dict[str, Any]) -> str | None:
    status = variant["VariantStatus"]
    return None if status is None else status[0]["StatusMessage"]


def test_old_fleet_is_kept_for_the_termination_wait(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        old = world.routed
        policy = {"BlueGreenUpdatePolicy": {**ALL_AT_ONCE, "TerminationWaitInSeconds": 100}}
        await world.deploy({"a": 1}, "new", DeploymentConfig=policy)
        await world.pass_time(90.0)
        assert old <= set(world.node.alive)
        assert not old & world.routed
        assert await world.status() == "Updating"
        await world.until_status("InService", seconds=20.0)
        assert not old & set(world.node.alive)

    play_serving(tmp_path, scene)


def test_failed_update_keeps_old_fleet_serving(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        old = world.routed
        versions = len(world.gateway.history)
        await world.deploy({"a": 2}, "bad")
        await world.until_status("InService", seconds=20.0)
        described = await describe(world)
        assert described["EndpointConfigName"] == "old-config"
        assert "for production variant a did not pass the ping health check" in described["FailureReason"]
        assert "PendingDeploymentSummary" not in described
        assert (world.routed, len(world.gateway.history)) == (old, versions)
        assert set(world.node.alive) == old

    play_serving(tmp_path, scene, after(4, Script(fails_after=3.0)))


def test_next_update_clears_the_failure_reason(tmp_path: Path) -> None:
    lives = iter([*[Script()] * 3, Script(fails_after=1.0)])

    async def scene(world: ControlWorld) -> None:
        await world.deploy({"a": 1}, "bad")
        await world.until_status("InService")
        assert (await describe(world))["FailureReason"]
        await world.deploy({"a": 1}, "good")
        assert (await describe(world))["FailureReason"] is None
        await world.until_status("InService")
        assert (await describe(world))["EndpointConfigName"] == "good-config"

    play_serving(tmp_path, scene, lambda _spec: next(lives, Script()))


def test_deployment_that_takes_too_long_is_given_up_and_the_old_fleet_takes_over_again(tmp_path: Path) -> None:
    policy = {**ALL_AT_ONCE, "TerminationWaitInSeconds": 500, "MaximumExecutionTimeoutInSeconds": 600}

    async def scene(world: ControlWorld) -> None:
        old = world.routed
        await world.deploy({"a": 1}, "slow", DeploymentConfig={"BlueGreenUpdatePolicy": policy})
        await world.pass_time(500.0)
        assert not old & world.routed
        await world.until_status("InService", seconds=110.0)
        described = await describe(world)
        assert described["EndpointConfigName"] == "old-config"
        assert "MaximumExecutionTimeoutInSeconds of 600 seconds" in described["FailureReason"]
        assert world.routed == old

    play_serving(tmp_path, scene, after(3, Script(ready_after=200.0)))


def test_dead_instances_of_either_fleet_are_replaced_during_an_update(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        old = world.routed
        policy = {"BlueGreenUpdatePolicy": {**ALL_AT_ONCE, "TerminationWaitInSeconds": 60}}
        await world.deploy({"a": 2}, "new", DeploymentConfig=policy)
        await world.pass_time(10.0)
        await world.node.kill(min(old))
        await world.node.kill(min(world.routed))
        await world.pass_time(10.0)
        assert len(world.node.alive) == 5
        assert len(world.routed) == 2
        await world.until_status("InService")

    play_serving(tmp_path, scene)


def test_retained_variants_keep_what_was_asked_of_them(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        asked = [{"VariantName": "a", "DesiredInstanceCount": 3, "DesiredWeight": 7.0}]
        await world.ask("UpdateEndpointWeightsAndCapacities", EndpointName="ep", DesiredWeightsAndCapacities=asked)
        await world.until_status("InService")
        await world.deploy(
            {"a": 1, "c": 1},
            "new",
            RetainAllVariantProperties=True,
            ExcludeRetainedVariantProperties=[{"VariantPropertyType": "DesiredWeight"}],
        )
        await world.until_status("InService")
        variants = (await describe(world))["ProductionVariants"]
        assert [(v["VariantName"], v["CurrentInstanceCount"], v["CurrentWeight"]) for v in variants] == [
            ("a", 3, 1.0),
            ("c", 1, 1.0),
        ]

    play_serving(tmp_path, scene)


def test_deployment_config_is_kept_when_asked_and_forgotten_when_not(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        config = {"BlueGreenUpdatePolicy": {**ALL_AT_ONCE, "TerminationWaitInSeconds": 5}}
        kept = []
        updates: dict[str, dict[str, Any]] = {
            "one": {"DeploymentConfig": config},
            "two": {"RetainDeploymentConfig": True},
            "three": {},
        }
        for source, members in updates.items():
            await world.deploy({"a": 1}, source, **members)
            await world.until_status("InService")
            kept.append((await describe(world))["LastDeploymentConfig"])
        assert kept == [config, config, None]

    play_serving(tmp_path, scene)


def test_same_configuration_is_deployed_again(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        old = world.routed
        await world.ask("UpdateEndpoint", EndpointName="ep", EndpointConfigName="old-config")
        await world.until_status("InService")
        assert len(world.routed) == 3
        assert not old & world.routed

    play_serving(tmp_path, scene)


def test_update_needs_the_deployed_configuration_and_an_endpoint_that_serves(tmp_path: Path) -> None:
    async def refused(world: ControlWorld, operation: str, **members: Any) -> str:
        with pytest.raises(ClientFault) as fault:
            await world.ask(operation, EndpointName="ep", **members)
        return fault.value.message

    async def scene(world: ControlWorld) -> None:
        missing = await refused(world, "UpdateEndpoint", EndpointConfigName="none")
        assert missing == f'Could not find endpoint configuration "{ARN}:endpoint-config/none".'
        await world.deploy({"a": 1}, "new")
        busy = f'Cannot update in-progress endpoint "{ARN}:endpoint/ep".'
        weights = [{"VariantName": "a", "DesiredWeight": 2.0}]
        assert await refused(world, "UpdateEndpoint", EndpointConfigName="new-config") == busy
        assert await refused(world, "UpdateEndpointWeightsAndCapacities", DesiredWeightsAndCapacities=weights) == busy
        assert await refused(world, "DeleteEndpoint") == busy
        await world.until_status("InService")
        await world.ask("DeleteEndpointConfig", EndpointConfigName="new-config")
        gone = await refused(world, "UpdateEndpoint", EndpointConfigName="old-config")
        assert gone == f'Could not find endpoint configuration "{ARN}:endpoint-config/new-config".'

    play_serving(tmp_path, scene)


def test_both_fleets_count_for_the_quotas(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        world.quotas["ml.m5.large for endpoint usage"] = 4
        await world.configure({"a": 2}, "new")
        with pytest.raises(ClientFault) as fault:
            await world.ask("UpdateEndpoint", EndpointName="ep", EndpointConfigName="new-config")
        assert fault.value.code == "ResourceLimitExceeded"
        assert fault.value.message.startswith(
            "The account-level service limit 'ml.m5.large for endpoint usage' is 4 Instances, with current utilization "
            "of 3 Instances and a request delta of 2 Instances. "
        )
        assert await world.status() == "InService"
        world.quotas["ml.m5.large for endpoint usage"] = 5
        await world.ask("UpdateEndpoint", EndpointName="ep", EndpointConfigName="new-config")
        await world.until_status("InService")

    play_serving(tmp_path, scene)
