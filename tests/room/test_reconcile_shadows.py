"""Shadow variants and data capture in a simulated world: launched, routed to, changed, drained like all others."""

from pathlib import Path
from typing import Any

import pytest
from tests.support.scenes import Play, play

from moorage.aws.errors import ClientFault
from moorage.engine.contract import InstanceSpec
from moorage.routing.snapshot import Endpoint
from moorage.testing.builders import ACCOUNT, REGION
from moorage.testing.fake_node import Script, Scripts
from moorage.testing.world import ControlWorld

CAPTURE = {
    "InitialSamplingPercentage": 30,
    "DestinationS3Uri": "s3://captured",
    "CaptureOptions": [{"CaptureMode": "InputAndOutput"}],
}


def play_shadowed(folder: Path, scene: Play, scripts: Scripts = lambda _spec: Script()) -> None:
    """Play a scene with an endpoint that has a shadow of two instances; nothing is ever stopped in use."""

    async def whole(world: ControlWorld) -> None:
        await world.create({"a": 1}, source="old", shadows={"s": 2}, capture=CAPTURE)
        await scene(world)

    play(folder, whole, scripts, apply_seconds=0.3, drain_seconds=1.0)


def routes(world: ControlWorld) -> list[Endpoint]:
    """Give what the gateway has routed by, in order; each differs from the one before."""
    key = (ACCOUNT, REGION, "ep")
    return [snapshot.endpoints[key] for snapshot in world.gateway.history if key in snapshot.endpoints]


def shape(route: Endpoint) -> tuple[list[tuple[str, int]], list[tuple[str, int]], float | None]:
    """Give the variants and shadows of a route with their numbers of instances, and its capture's percentage."""
    variants, shadows = (
        [(variant.name, len(variant.instances)) for variant in group] for group in (route.variants, route.shadows)
    )
    return variants, shadows, None if route.capture is None else route.capture.percentage


async def describe(world: ControlWorld) -> dict[str, Any]:
    return await world.ask("DescribeEndpoint", EndpointName="ep")


async def ask_for(world: ControlWorld, **item: Any) -> None:
    wanted = [{"VariantName": "s", **item}]
    await world.ask("UpdateEndpointWeightsAndCapacities", EndpointName="ep", DesiredWeightsAndCapacities=wanted)


def slow_shadow(spec: InstanceSpec) -> Script:
    return Script(ready_after=20.0) if spec.variant == "s" else Script()


def test_endpoint_comes_into_service_when_its_shadow_is_ready_too(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        await world.pass_time(10.0)
        assert (await world.status(), world.routed) == ("Creating", frozenset())
        pending = (await describe(world))["PendingDeploymentSummary"]
        assert [variant["VariantName"] for variant in pending["ShadowProductionVariants"]] == ["s"]
        await world.until_status("InService", seconds=15.0)
        assert [shape(route) for route in routes(world)] == [([("a", 1)], [("s", 2)], 30.0)]
        described = await describe(world)
        assert [variant["VariantName"] for variant in described["ProductionVariants"]] == ["a"]
        assert [variant["CurrentInstanceCount"] for variant in described["ShadowProductionVariants"]] == [2]
        assert described["DataCaptureConfig"]["CaptureStatus"] == "Started"

    play_shadowed(tmp_path, scene, slow_shadow)


def test_shadow_that_never_gets_healthy_fails_the_endpoint_and_frees_its_instances(tmp_path: Path) -> None:
    def scripts(spec: InstanceSpec) -> Script:
        return Script(fails_after=5.0) if spec.variant == "s" else Script()

    async def scene(world: ControlWorld) -> None:
        await world.until_status("Failed", seconds=7.0)
        described = await describe(world)
        assert "for production variant s did not pass the ping health check" in described["FailureReason"]
        assert described["DataCaptureConfig"]["CaptureStatus"] == "Stopped"
        await world.pass_time(10.0)
        assert (world.node.reports, world.routed) == ({}, frozenset())

    play_shadowed(tmp_path, scene, scripts)


def test_dead_shadow_is_replaced_while_the_endpoint_stays_in_service(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        await world.until_status("InService")
        (shadow,) = routes(world)[-1].shadows
        await world.node.kill(shadow.instances[0].instance_id)
        await world.pass_time(0.6)
        assert await world.status() == "InService"
        await world.pass_time(10.0)
        assert [shape(route)[1] for route in routes(world)] == [[("s", 2)], [("s", 1)], [("s", 2)]]
        assert [route.shadows[0].coming for route in routes(world)] == [False, True, False]

    play_shadowed(tmp_path, scene)


def test_update_switches_variants_shadow_and_capture_in_one_snapshot(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        await world.until_status("InService")
        capture = {**CAPTURE, "InitialSamplingPercentage": 70}
        await world.deploy({"b": 2}, "new", shadows={"t": 1}, capture=capture)
        during = await describe(world)
        assert [v["VariantName"] for v in during["ShadowProductionVariants"]] == ["s"]
        assert [v["VariantName"] for v in during["PendingDeploymentSummary"]["ShadowProductionVariants"]] == ["t"]
        await world.until_status("InService")
        assert [shape(route) for route in routes(world)] == [
            ([("a", 1)], [("s", 2)], 30.0),
            ([("b", 2)], [("t", 1)], 70.0),
        ]
        await world.deploy({"c": 1}, "plain")
        await world.until_status("InService")
        assert shape(routes(world)[-1]) == ([("c", 1)], [], None)
        described = await describe(world)
        assert not {"ShadowProductionVariants", "DataCaptureConfig"} & described.keys()
        assert set(world.node.alive) == world.routed

    play_shadowed(tmp_path, scene)


def test_update_whose_shadow_cannot_start_keeps_everything_as_it_was(tmp_path: Path) -> None:
    def scripts(spec: InstanceSpec) -> Script:
        return Script(fails_after=2.0) if spec.variant == "bad" else Script()

    async def scene(world: ControlWorld) -> None:
        await world.until_status("InService")
        before = world.routed
        await world.deploy({"a": 1}, "new", shadows={"bad": 1})
        await world.until_status("InService", seconds=20.0)
        described = await describe(world)
        assert described["EndpointConfigName"] == "old-config"
        assert "variant bad did not pass" in described["FailureReason"]
        assert (world.routed, len(routes(world))) == (before, 1)
        assert described["DataCaptureConfig"]["CurrentSamplingPercentage"] == 30

    play_shadowed(tmp_path, scene, scripts)


def test_shadow_keeps_its_share_and_capacity_and_capture_does_not_when_properties_are_retained(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        await world.until_status("InService")
        await ask_for(world, DesiredInstanceCount=3, DesiredWeight=0.25)
        await world.until_status("InService")
        await world.deploy({"a": 1}, "new", shadows={"s": 1}, RetainAllVariantProperties=True)
        await world.until_status("InService")
        described = await describe(world)
        (shadow,) = described["ShadowProductionVariants"]
        assert (shadow["CurrentInstanceCount"], shadow["CurrentWeight"]) == (3, 0.25)
        assert "DataCaptureConfig" not in described

    play_shadowed(tmp_path, scene)


def test_share_of_a_shadow_is_in_force_at_once_and_its_capacity_follows(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        await world.until_status("InService")
        before = set(world.node.alive)
        await ask_for(world, DesiredWeight=0.5)
        await world.until_status("InService", seconds=1.0)
        assert set(world.node.alive) == before
        assert routes(world)[-1].shadows[0].weight == 0.5
        await ask_for(world, DesiredInstanceCount=1)
        await world.until_status("InService", seconds=10.0)
        assert len(routes(world)[-1].shadows[0].instances) == 1
        assert set(world.node.alive) == world.routed
        assert (await describe(world))["ProductionVariants"][0]["CurrentInstanceCount"] == 1

    play_shadowed(tmp_path, scene)


def test_shadow_that_cannot_be_scaled_out_is_rolled_back(tmp_path: Path) -> None:
    lives = iter([Script(), Script(), Script()])

    async def scene(world: ControlWorld) -> None:
        await world.until_status("InService")
        await ask_for(world, DesiredInstanceCount=4)
        await world.until_status("InService")
        described = await describe(world)
        assert described["ShadowProductionVariants"][0]["DesiredInstanceCount"] == 2
        assert "variant s did not pass" in described["FailureReason"]

    play_shadowed(tmp_path, scene, lambda _spec: next(lives, Script(fails_after=1.0)))


def test_deletion_drains_the_shadow_too_and_leaves_nothing(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        await world.until_status("InService")
        await world.ask("DeleteEndpoint", EndpointName="ep")
        await world.until_status(None)
        assert (world.node.reports, world.routed) == ({}, frozenset())

    play_shadowed(tmp_path, scene)


def test_restarted_control_plane_adopts_the_shadow_without_touching_it(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        await world.until_status("InService")
        calls, before = list(world.node.calls), routes(world)[-1]
        await world.restart()
        await world.pass_time(100.0)
        assert (world.node.calls, routes(world)[-1]) == (calls, before)

    play_shadowed(tmp_path, scene)


def test_no_snapshot_is_made_for_capacity_on_its_way_alone(tmp_path: Path) -> None:
    """Instances are added one by one, fail and are launched again: what gateways hear of is what is ready."""
    lives = iter([*[Script()] * 3, Script(ready_after=3.0), Script(ready_after=6.0), Script(ready_after=9.0)])

    async def scene(world: ControlWorld) -> None:
        await world.until_status("InService")
        await ask_for(world, DesiredInstanceCount=5)
        await world.until_status("InService")
        (shadow,) = routes(world)[-1].shadows
        for instance in shadow.instances[:2]:
            await world.node.kill(instance.instance_id)
            await world.pass_time(30.0)
        ready = [shape(route)[1] for route in routes(world)]
        # The second is that of the request: from then on more is wanted than is there.
        assert ready == [[("s", count)] for count in (2, 2, 3, 4, 5, 4, 5, 4, 5)]
        coming = [route.shadows[0].coming for route in routes(world)]
        assert coming == [False, True, True, True, False, True, False, True, False]

    play_shadowed(tmp_path, scene, lambda _spec: next(lives, Script()))


def test_shadow_counts_for_the_quotas(tmp_path: Path) -> None:
    async def scene(world: ControlWorld) -> None:
        await world.until_status("InService")
        world.quotas["ml.m5.large for endpoint usage"] = 5
        for counts, shadows in (({"a": 1}, {"s": 2}), ({"a": 2}, {"s": 1})):
            with pytest.raises(ClientFault) as fault:
                await world.create(counts, name="more", source=f"more-{counts['a']}", shadows=shadows)
            assert fault.value.code == "ResourceLimitExceeded"
            assert "utilization of 3 Instances and a request delta of 3 Instances" in fault.value.message
        with pytest.raises(ClientFault) as fault:
            await ask_for(world, DesiredInstanceCount=5)
        assert fault.value.code == "ResourceLimitExceeded"

    play_shadowed(tmp_path, scene)
