"""An endpoint's whole life in a simulated world, with the texts, the order of things and the time they take."""

from pathlib import Path
from typing import Any

import pytest
from tests.support.scenes import play

from moorage.aws.errors import ClientFault
from moorage.engine.contract import InstanceSpec
from moorage.testing.fake_node import Script
from moorage.testing.virtual_time import run_virtually
from moorage.testing.world import ControlWorld


def test_endpoint_comes_into_service_when_all_instances_are_ready_and_routed_to(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        await world.create({"a": 2, "b": 1})
        assert await world.status() == "Creating"
        assert world.routed == frozenset()
        await world.until_status("InService", seconds=3.0)
        assert world.routed == frozenset(world.node.alive)
        assert len(world.routed) == 3

    play(tmp_path, scene, apply_seconds=0.5)


def test_endpoint_is_not_in_service_before_the_gateway_has_applied_its_route(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        await world.create({"a": 1})
        await world.pass_time(4.0)
        assert await world.status() == "Creating"
        await world.until_status("InService", seconds=10.0)

    play(tmp_path, scene, apply_seconds=5.0)


@pytest.mark.parametrize("strict", [False, True])
def test_instance_is_launched_as_soon_as_it_is_recorded_and_never_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, strict: bool
) -> None:
    async def scene(world: ControlWorld) -> None:
        did: list[str] = []

        def note(owner: Any, name: str) -> None:
            does = getattr(owner, name)

            async def noted(*arguments: Any) -> Any:
                result = await does(*arguments)
                did.append(name)
                return result

            monkeypatch.setattr(owner, name, noted)

        note(world.store, "read")
        note(world.store, "transact")
        note(world.link, "launch")
        await world.create({"a": 1})
        await world.until_status("InService", seconds=3.0)
        first = did.index("launch")
        assert did[first - 1] == "transact"

    play(tmp_path, scene, strict=strict)


def test_failure_is_logged_whole_and_shown_on_the_terminal_in_brief(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log_tail = "Traceback (most recent call last):\n  File x\nKeyError: 'x'"

    async def scene(world: ControlWorld) -> None:
        await world.create({"a": 1})
        await world.until_status("Failed", seconds=6.0)

    play(tmp_path, scene, lambda _: Script(fails_after=5.0, log_tail=log_tail))
    (record,) = [one for one in caplog.records if hasattr(one, "in_brief")]
    assert log_tail in record.getMessage()
    assert record.in_brief == (
        "endpoint ep: The primary container for production variant a did not pass the ping health check. Please check "
        "CloudWatch logs for this endpoint. Last: KeyError: 'x' (more: moorage logs ep)"
    )


def test_model_that_never_gets_healthy_fails_the_endpoint_and_frees_its_instances(tmp_path: Path) -> None:
    def scripts(spec: InstanceSpec) -> Script:
        return Script(fails_after=5.0, log_tail="KeyError: 'x'") if spec.variant == "b" else Script()

    async def scene(world: ControlWorld) -> None:
        await world.create({"a": 2, "b": 1})
        await world.until_status("Failed", seconds=6.0)
        described = await world.ask("DescribeEndpoint", EndpointName="ep")
        assert described["FailureReason"] == (
            "The primary container for production variant b did not pass the ping health check. Please check "
            "CloudWatch logs for this endpoint.\nLast lines of the container's log:\nKeyError: 'x'"
        )
        await world.pass_time(10.0)
        assert world.node.reports == {}
        assert world.routed == frozenset()
        await world.ask("DeleteEndpoint", EndpointName="ep")
        await world.until_status(None, seconds=1.0)

    play(tmp_path, scene, scripts)


def test_dead_instance_is_replaced_while_the_endpoint_stays_in_service(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        await world.create({"a": 2})
        await world.until_status("InService")
        dead = min(world.routed)
        await world.node.kill(dead)
        await world.pass_time(0.05)
        assert len(world.routed) == 1
        assert await world.status() == "InService"
        await world.pass_time(1.5)
        assert len(world.routed) == 2
        assert dead not in world.routed

    play(tmp_path, scene)


def test_crash_loop_in_service_is_slowed_down_and_leaves_the_status_alone(tmp_path: Path) -> None:
    lives = iter([Script(), *[Script(dies_after=0.1)] * 40])

    async def scene(world: ControlWorld) -> None:
        await world.create({"a": 1})
        await world.until_status("InService")
        await world.node.kill(next(iter(world.routed)))
        await world.pass_time(300.0)
        assert await world.status() == "InService"
        launches = [call for call in world.node.calls if call[0] == "launch"]
        assert 6 <= len(launches) <= 14

    async def main() -> None:
        world = ControlWorld(tmp_path, scripts=lambda _spec: next(lives))
        await scene(world)
        await world.close()

    run_virtually(main())


def test_scaling_out_and_in_follows_the_request_and_drains_what_leaves(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        await world.create({"a": 1, "b": 2})
        await world.until_status("InService")
        await weights(world, a={"DesiredInstanceCount": 3}, b={"DesiredInstanceCount": 1, "DesiredWeight": 4.0})
        assert await world.status() == "Updating"
        await world.until_status("InService", seconds=10.0)
        described = await world.ask("DescribeEndpoint", EndpointName="ep")
        assert [variant["CurrentInstanceCount"] for variant in described["ProductionVariants"]] == [3, 1]
        assert [variant["CurrentWeight"] for variant in described["ProductionVariants"]] == [1.0, 4.0]
        assert len(world.node.alive) == 4

    play(tmp_path, scene, drain_seconds=2.0)


async def weights(world: ControlWorld, **variants: dict[str, Any]) -> None:
    asked = [{"VariantName": name, **item} for name, item in variants.items()]
    await world.ask("UpdateEndpointWeightsAndCapacities", EndpointName="ep", DesiredWeightsAndCapacities=asked)


def test_weights_alone_are_in_force_at_once(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        await world.create({"a": 1, "b": 1})
        await world.until_status("InService")
        await weights(world, a={"DesiredWeight": 3.0})
        await world.until_status("InService", seconds=0.5)
        (endpoint,) = world.gateway.snapshot.endpoints.values()
        assert [variant.weight for variant in endpoint.variants] == [3.0, 1.0]

    play(tmp_path, scene)


def test_failed_scale_out_rolls_back_to_the_previous_values(tmp_path: Path) -> None:
    lives = iter([Script(), Script(), Script(fails_after=3.0)])

    async def scene(world: ControlWorld) -> None:
        await world.create({"a": 1})
        await world.until_status("InService")
        serving = world.routed
        await weights(world, a={"DesiredInstanceCount": 3, "DesiredWeight": 5.0})
        await world.until_status("RollingBack", seconds=5.0)
        await world.until_status("InService", seconds=30.0)
        described = await world.ask("DescribeEndpoint", EndpointName="ep")
        (variant,) = described["ProductionVariants"]
        assert (variant["DesiredInstanceCount"], variant["CurrentInstanceCount"]) == (1, 1)
        assert variant["DesiredWeight"] == 1.0
        assert "did not pass the ping health check" in described["FailureReason"]
        assert len(world.routed) == 1
        assert serving == world.routed

    play(tmp_path, scene, lambda _spec: next(lives))


def test_deletion_takes_the_endpoint_out_of_routing_drains_it_and_leaves_nothing(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        await world.create({"a": 2})
        await world.until_status("InService")
        await world.ask("DeleteEndpoint", EndpointName="ep")
        assert await world.status() == "Deleting"
        await world.pass_time(1.0)
        assert world.routed == frozenset()
        assert len(world.node.alive) == 2
        await world.until_status(None, seconds=10.0)
        assert world.node.reports == {}

    play(tmp_path, scene, drain_seconds=3.0)


def test_instance_that_is_never_drained_is_stopped_after_the_bound(tmp_path: Path) -> None:
    async def main() -> None:
        world = ControlWorld(tmp_path, drain_seconds=1000.0)
        await world.create({"a": 1})
        await world.until_status("InService")
        await world.ask("DeleteEndpoint", EndpointName="ep")
        await world.until_status(None, seconds=22.0)
        await world.close()

    run_virtually(main())


def test_restarted_control_plane_adopts_what_runs_without_touching_it(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        await world.create({"a": 2})
        await world.until_status("InService")
        routed, calls = world.routed, list(world.node.calls)
        await world.restart()
        await world.pass_time(5.0)
        assert world.node.calls == calls
        assert all(len(snapshot.endpoints) == 1 for snapshot in world.gateway.history[1:])
        assert world.routed == routed

    play(tmp_path, scene)


def test_restarted_node_agent_gets_all_instances_launched_again(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        await world.create({"a": 2})
        await world.until_status("InService")
        await world.node.restart()
        await world.pass_time(0.5)
        assert await world.status() == "InService"
        assert world.routed == frozenset()
        await world.pass_time(2.0)
        assert len(world.routed) == 2

    play(tmp_path, scene)


def test_creation_cannot_be_cancelled_or_updated(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        await world.create({"a": 1})
        arn = "arn:aws:sagemaker:us-east-1:000000000000:endpoint/ep"
        with pytest.raises(ClientFault) as fault:
            await world.ask("DeleteEndpoint", EndpointName="ep")
        assert fault.value.message == f'Cannot update in-progress endpoint "{arn}".'
        with pytest.raises(ClientFault) as fault:
            await weights(world, a={"DesiredWeight": 2.0})
        assert fault.value.message == f'Cannot update in-progress endpoint "{arn}".'
        await world.until_status("InService")

    play(tmp_path, scene)


def test_endpoint_keeps_its_own_copy_of_model_and_configuration(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        await world.create({"a": 1})
        await world.ask("DeleteModel", ModelName="ep-model")
        await world.ask("DeleteEndpointConfig", EndpointConfigName="ep-config")
        await world.until_status("InService")
        await world.node.kill(next(iter(world.routed)))
        await world.pass_time(2.0)
        assert len(world.routed) == 1

    play(tmp_path, scene)
