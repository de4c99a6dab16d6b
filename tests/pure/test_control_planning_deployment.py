"""A deployment, one pass at a time: records and observations in, the complete plan out."""

from dataclasses import replace
from typing import Any

import pytest

from moorage.control.planning.deployment import STAGES, StageEvent
from moorage.control.planning.endpoint import Plan, plan
from moorage.control.planning.failures import NO_CAPACITY
from moorage.control.planning.fleets import Place
from moorage.control.planning.observed import Observed, Patience
from moorage.control.planning.routes import route_of
from moorage.engine.contract import Failure, InstanceReport, InstanceState
from moorage.state.records import EndpointRecord, EndpointStatus, InstanceRecord, Stage
from moorage.testing.builders import a_deployment, a_report, a_variant, an_endpoint, an_instance

NOW = 100.0
PATIENCE = Patience(drain_seconds=20.0, capacity_seconds=600.0, download_seconds=300.0, startup_seconds=100.0)
LATEST = PATIENCE.change_seconds(a_variant())
OLD, NEW = an_instance("i-old"), an_instance("i-new", fleet=1)
CAPTURE = {
    "InitialSamplingPercentage": 20,
    "DestinationS3Uri": "s3://bucket/prefix",
    "CaptureOptions": [{"CaptureMode": "Input"}],
}
READY = (a_report("i-old"), a_report("i-new"))


def updating(stage: Stage, **changes: Any) -> EndpointRecord:
    deployment = a_deployment(stage=stage, **changes)
    return an_endpoint(status=EndpointStatus.UPDATING, deployment=deployment)


def seen(endpoint: EndpointRecord, records: list[InstanceRecord], *reports: InstanceReport) -> Observed:
    """Observe reports, with what the endpoint should be routed by published and in force."""
    by_id = {report.instance_id: report for report in reports}
    return Observed(reports=by_id, route=route_of(endpoint, records, by_id))


def at(stage: Stage, endpoint: EndpointRecord, since: float = NOW, **changes: Any) -> EndpointRecord:
    """Give the endpoint with its deployment at another stage."""
    assert endpoint.deployment is not None
    return replace(endpoint, deployment=replace(endpoint.deployment, stage=stage, stage_since=since), **changes)


def test_new_fleet_is_launched_beside_the_old_one() -> None:
    endpoint = updating(Stage.LAUNCHING)
    observed = seen(endpoint, [OLD], a_report("i-old"))
    made = plan(endpoint, [OLD], observed, NOW, PATIENCE)
    assert made == Plan(endpoint, route=observed.route, add=(Place("AllTraffic", 1),), wake_at=LATEST)


def test_traffic_stays_with_the_old_fleet_until_the_new_one_is_whole() -> None:
    endpoint = updating(Stage.LAUNCHING)
    observed = seen(endpoint, [OLD, NEW], a_report("i-old"), a_report("i-new", InstanceState.STARTING))
    made = plan(endpoint, [OLD, NEW], observed, NOW, PATIENCE)
    assert made == Plan(endpoint, route=observed.route, wake_at=LATEST)


def test_whole_new_fleet_is_routed_to_in_the_pass_that_finds_it_so() -> None:
    endpoint = updating(Stage.LAUNCHING)
    made = plan(endpoint, [OLD, NEW], seen(endpoint, [OLD, NEW], *READY), NOW, PATIENCE)
    assert made.endpoint == at(Stage.SHIFTING, endpoint)
    assert made.route is not None
    assert [instance.instance_id for instance in made.route.variants[0].instances] == ["i-new"]
    assert made.retire == ()


def test_bake_begins_when_the_switch_is_in_force() -> None:
    endpoint = updating(Stage.SHIFTING)
    observed = seen(endpoint, [OLD, NEW], *READY)
    waiting = replace(observed, route_in_force=False)
    assert plan(endpoint, [OLD, NEW], waiting, NOW, PATIENCE).endpoint == endpoint
    assert plan(endpoint, [OLD, NEW], observed, NOW, PATIENCE).endpoint == at(Stage.BAKING, endpoint)


@pytest.mark.parametrize(("now", "retire", "wake_at"), [(129.9, (), 130.0), (130.0, ("i-old",), None)])
def test_old_fleet_leaves_after_the_termination_wait(now: float, retire: tuple[str, ...], wake_at: float) -> None:
    config = {"BlueGreenUpdatePolicy": {"TerminationWaitInSeconds": 30}}
    endpoint = updating(Stage.BAKING, config=config, stage_since=100.0)
    made = plan(endpoint, [OLD, NEW], seen(endpoint, [OLD, NEW], *READY), now, PATIENCE)
    assert (made.retire, made.wake_at) == (retire, wake_at)


def test_update_is_done_when_the_old_fleet_is_gone() -> None:
    endpoint = updating(Stage.TERMINATING, config={"BlueGreenUpdatePolicy": {}}, capture=CAPTURE)
    leaving = replace(OLD, retired_at=NOW)
    observed = seen(endpoint, [leaving, NEW], a_report("i-old", InstanceState.STOPPING), a_report("i-new"))
    assert plan(endpoint, [leaving, NEW], observed, NOW, PATIENCE).endpoint == endpoint
    made = plan(endpoint, [NEW], seen(endpoint, [NEW], a_report("i-new")), NOW, PATIENCE)
    assert endpoint.deployment is not None
    assert made.endpoint == an_endpoint(
        *endpoint.deployment.variants,
        status=EndpointStatus.IN_SERVICE,
        config_name="new-config",
        fleet=1,
        deployment_config={"BlueGreenUpdatePolicy": {}},
        capture=CAPTURE,
        modified_at=NOW,
    )
    assert made.route == observed.route


@pytest.mark.parametrize(
    ("report", "now", "reason"),
    [
        (a_report("i-new", InstanceState.FAILED, failure=Failure.IMAGE), NOW, "Please make sure all images"),
        (a_report("i-new", InstanceState.STARTING), LATEST, NO_CAPACITY),
    ],
)
def test_fleet_that_cannot_be_had_is_given_up_with_a_reason(report: InstanceReport, now: float, reason: str) -> None:
    endpoint = updating(Stage.LAUNCHING)
    observed = seen(endpoint, [OLD, NEW], a_report("i-old"), report)
    made = plan(endpoint, [OLD, NEW], observed, now, PATIENCE)
    assert made.endpoint is not None
    assert made.endpoint.failure_reason is not None
    assert made.endpoint.failure_reason.startswith(reason)
    assert made.endpoint == at(Stage.ABANDONING, endpoint, now, failure_reason=made.endpoint.failure_reason)
    assert made.route == observed.route
    assert "i-old" not in made.retire


@pytest.mark.parametrize("stage", [Stage.LAUNCHING, Stage.SHIFTING, Stage.BAKING])
def test_time_for_all_of_it_ends_a_deployment_at_any_stage_before_the_old_fleet_leaves(stage: Stage) -> None:
    config = {"BlueGreenUpdatePolicy": {"MaximumExecutionTimeoutInSeconds": 600, "TerminationWaitInSeconds": 3000}}
    endpoint = updating(stage, config=config)
    observed = seen(endpoint, [OLD, NEW], a_report("i-old"), a_report("i-new", InstanceState.STARTING))
    assert plan(endpoint, [OLD, NEW], observed, 599.0, PATIENCE).wake_at == 600.0
    made = plan(endpoint, [OLD, NEW], observed, 600.0, PATIENCE)
    assert made.endpoint is not None
    assert made.endpoint.deployment is not None
    assert (made.endpoint.deployment.stage, made.retire) == (Stage.ABANDONING, ("i-new",))
    assert made.route is not None
    assert [instance.instance_id for instance in made.route.variants[0].instances] == ["i-old"]


def test_given_up_update_ends_in_service_with_the_old_configuration_when_the_new_fleet_is_gone() -> None:
    endpoint = replace(updating(Stage.ABANDONING), failure_reason="why")
    leaving = replace(NEW, retired_at=NOW)
    observed = seen(endpoint, [OLD, leaving], a_report("i-old"), a_report("i-new", InstanceState.STOPPING))
    assert plan(endpoint, [OLD, leaving], observed, NOW, PATIENCE).endpoint == endpoint
    made = plan(endpoint, [OLD], seen(endpoint, [OLD], a_report("i-old")), NOW, PATIENCE)
    assert made.endpoint == an_endpoint(status=EndpointStatus.IN_SERVICE, failure_reason="why", modified_at=NOW)


def test_lost_instances_of_both_fleets_are_replaced_while_the_new_one_bakes() -> None:
    config = {"BlueGreenUpdatePolicy": {"TerminationWaitInSeconds": 3000}}
    endpoint = updating(Stage.BAKING, config=config)
    lost = (a_report("i-old", InstanceState.EXITED), a_report("i-new", InstanceState.FAILED))
    made = plan(endpoint, [OLD, NEW], seen(endpoint, [OLD, NEW], *lost), NOW, PATIENCE)
    assert made.add == (Place("AllTraffic", 0), Place("AllTraffic", 1))
    assert made.endpoint is not None
    assert made.endpoint.deployment is not None
    assert made.endpoint.deployment.stage == Stage.BAKING


def test_instances_of_no_known_generation_leave() -> None:
    endpoint = updating(Stage.LAUNCHING)
    stranger = an_instance("i-9", fleet=7)
    observed = seen(endpoint, [OLD, NEW, stranger], a_report("i-old"), a_report("i-9"))
    assert plan(endpoint, [OLD, NEW, stranger], observed, NOW, PATIENCE).retire == ("i-9",)


def test_images_of_the_new_fleet_are_noted_in_the_new_copy() -> None:
    endpoint = updating(Stage.LAUNCHING)
    told = a_report("i-new", resolved_images=("repo@sha256:1",), since=7.0)
    made = plan(endpoint, [OLD, NEW], seen(endpoint, [OLD, NEW], a_report("i-old"), told), NOW, PATIENCE)
    assert made.endpoint is not None
    assert made.endpoint.deployment is not None
    images = [
        variant.containers[0].resolved_image
        for variant in (*made.endpoint.variants, *made.endpoint.deployment.variants)
    ]
    assert images == [None, "repo@sha256:1"]


def test_every_stage_but_the_last_two_can_fail_and_none_is_entered_again() -> None:
    can_fail = {stage for stage, event in STAGES if event == StageEvent.FAILED}
    assert can_fail == set(Stage) - {Stage.TERMINATING, Stage.ABANDONING}
    order = list(Stage)
    assert all(order.index(before) < order.index(after) for (before, _event), after in STAGES.items())


def test_new_fleet_is_whole_when_its_shadow_is() -> None:
    deployment = a_deployment(a_variant(), a_variant("s", shadow=True))
    endpoint = an_endpoint(status=EndpointStatus.UPDATING, deployment=deployment)
    records = [OLD, NEW, an_instance("i-s", "s", fleet=1)]
    for state, stage in ((InstanceState.STARTING, Stage.LAUNCHING), (InstanceState.READY, Stage.SHIFTING)):
        made = plan(endpoint, records, seen(endpoint, records, *READY, a_report("i-s", state)), NOW, PATIENCE)
        assert made.endpoint is not None
        assert made.endpoint.deployment is not None
        assert made.endpoint.deployment.stage == stage


def test_shadow_of_the_new_fleet_that_cannot_start_gives_the_deployment_up() -> None:
    deployment = a_deployment(a_variant(), a_variant("s", shadow=True))
    endpoint = an_endpoint(status=EndpointStatus.UPDATING, deployment=deployment)
    records = [OLD, NEW, an_instance("i-s", "s", fleet=1)]
    failed = a_report("i-s", InstanceState.FAILED, failure=Failure.IMAGE)
    made = plan(endpoint, records, seen(endpoint, records, *READY, failed), NOW, PATIENCE)
    assert made.endpoint is not None
    assert made.endpoint.deployment is not None
    assert made.endpoint.deployment.stage == Stage.ABANDONING


def test_capture_that_was_to_come_goes_with_a_deployment_that_is_given_up() -> None:
    endpoint = replace(updating(Stage.ABANDONING, capture=CAPTURE), failure_reason="why")
    made = plan(endpoint, [OLD], seen(endpoint, [OLD], a_report("i-old")), NOW, PATIENCE)
    assert made.endpoint is not None
    assert (made.endpoint.status, made.endpoint.capture) == (EndpointStatus.IN_SERVICE, None)
