"""What DescribeEndpoint tells."""

import json
from typing import Any

import pytest

from moorage.aws.json11 import serialize_output
from moorage.aws.shapes import load_service
from moorage.aws.validate import check
from moorage.control.planning.routes import route_of
from moorage.control.planning.summary import describe
from moorage.engine.contract import InstanceState
from moorage.state.records import EndpointStatus, Stage
from moorage.testing.builders import a_deployment, a_report, a_variant, an_endpoint, an_instance

READY = {"i-1": a_report("i-1")}
RECORDS = [an_instance("i-1")]
SHADOW = a_variant("s", 2, shadow=True, desired_weight=0.5)
CAPTURE = {
    "InitialSamplingPercentage": 20,
    "DestinationS3Uri": "s3://bucket/prefix/",
    "CaptureOptions": [{"CaptureMode": "Input"}],
}


def test_stable_endpoint_shows_counts_and_weights_and_nothing_in_progress() -> None:
    endpoint = an_endpoint(a_variant(desired_weight=2.0), status=EndpointStatus.IN_SERVICE)
    answer = describe(endpoint, RECORDS, READY, route_of(endpoint, RECORDS, READY))
    assert answer["ProductionVariants"] == [
        {
            "VariantName": "AllTraffic",
            "DeployedImages": None,
            "CurrentWeight": 2.0,
            "DesiredWeight": 2.0,
            "CurrentInstanceCount": 1,
            "DesiredInstanceCount": 1,
            "InstancePools": None,
            "VariantStatus": None,
            "RoutingConfig": None,
            "CapacityReservationConfig": None,
        }
    ]
    assert "PendingDeploymentSummary" not in answer


def test_weight_that_is_not_published_yet_is_desired_and_not_current() -> None:
    before = an_endpoint(a_variant(desired_weight=1.0), status=EndpointStatus.IN_SERVICE)
    endpoint = an_endpoint(a_variant(desired_weight=3.0), status=EndpointStatus.UPDATING)
    (variant,) = describe(endpoint, RECORDS, READY, route_of(before, RECORDS, READY))["ProductionVariants"]
    assert (variant["CurrentWeight"], variant["DesiredWeight"]) == (1.0, 3.0)


def test_creating_endpoint_shows_only_what_is_to_come() -> None:
    endpoint = an_endpoint(a_variant(count=3), status=EndpointStatus.CREATING)
    answer = describe(endpoint, RECORDS, READY, None)
    assert "ProductionVariants" not in answer
    (pending,) = answer["PendingDeploymentSummary"]["ProductionVariants"]
    assert pending["InstanceType"] == "ml.m5.large"
    assert pending["VariantStatus"][0]["StatusMessage"] == "Launching 2 instance(s)."


def test_changes_under_way_are_told_in_aws_words() -> None:
    out = an_endpoint(a_variant(count=2), status=EndpointStatus.UPDATING)
    (variant,) = describe(out, RECORDS, READY, None)["ProductionVariants"]
    assert variant["VariantStatus"][0]["StatusMessage"] == "Scaling out desired instance count to 2."
    records = [*RECORDS, an_instance("i-2", retired_at=1.0)]
    reports = {**READY, "i-2": a_report("i-2", InstanceState.STOPPING)}
    scaling_in = an_endpoint(status=EndpointStatus.UPDATING)
    (variant,) = describe(scaling_in, records, reports, None)["ProductionVariants"]
    assert variant["VariantStatus"][0]["StatusMessage"] == "Terminating 1 instance(s)."
    (variant,) = describe(an_endpoint(status=EndpointStatus.DELETING), RECORDS, READY, None)["ProductionVariants"]
    assert variant["VariantStatus"][0] == {
        "Status": "Deleting",
        "StatusMessage": "Terminating 1 instance(s).",
        "StartTime": 0.0,
    }


def test_what_is_routed_to_is_believed_to_run_until_the_node_agent_tells() -> None:
    endpoint = an_endpoint(status=EndpointStatus.IN_SERVICE)
    route = route_of(endpoint, RECORDS, READY)
    (variant,) = describe(endpoint, RECORDS, None, route)["ProductionVariants"]
    assert variant["CurrentInstanceCount"] == 1


@pytest.mark.parametrize("stage", [Stage.LAUNCHING, Stage.ABANDONING, Stage.SHIFTING, Stage.BAKING])
def test_update_shows_both_fleets_and_where_the_traffic_goes(stage: Stage) -> None:
    endpoint = an_endpoint(
        a_variant(desired_weight=2.0),
        status=EndpointStatus.UPDATING,
        deployment=a_deployment(a_variant(count=2, desired_weight=3.0), stage=stage, started_at=7.0),
    )
    records = [*RECORDS, an_instance("i-2", fleet=1)]
    reports = {**READY, "i-2": a_report("i-2")}
    answer = describe(endpoint, records, reports, route_of(endpoint, records, reports))
    (old,), pending = answer["ProductionVariants"], answer["PendingDeploymentSummary"]
    (new,) = pending["ProductionVariants"]
    assert (answer["EndpointConfigName"], pending["EndpointConfigName"], pending["StartTime"]) == (
        "config",
        "new-config",
        7.0,
    )
    assert (old["CurrentInstanceCount"], new["CurrentInstanceCount"], new["DesiredInstanceCount"]) == (1, 1, 2)
    switched = stage in {Stage.SHIFTING, Stage.BAKING}
    assert (old["CurrentWeight"], new["CurrentWeight"]) == ((0.0, 3.0) if switched else (2.0, 0.0))
    assert new["InstanceType"] == "ml.m5.large"


@pytest.mark.parametrize(
    ("status", "stage"),
    [*((status, None) for status in EndpointStatus), *((EndpointStatus.UPDATING, stage) for stage in Stage)],
)
@pytest.mark.parametrize("launched", [True, False])
def test_answer_has_all_that_typed_clients_require_in_every_state(
    status: EndpointStatus,
    stage: Stage | None,
    launched: bool,  # noqa: FBT001 - one of the cases
) -> None:
    deployment = None if stage is None else a_deployment(a_variant(), SHADOW, stage=stage, capture=CAPTURE)
    endpoint = an_endpoint(
        a_variant(), SHADOW, status=status, deployment=deployment, failure_reason="why", capture=CAPTURE
    )
    records = [*RECORDS, an_instance("i-2", fleet=1)] if launched else []
    answer = describe(endpoint, records, READY, route_of(endpoint, records, READY))
    operation = load_service("sagemaker").operations["DescribeEndpoint"]
    assert operation.output is not None
    check(operation.output, json.loads(serialize_output(operation, answer)))


def test_shadow_is_summed_up_by_itself_with_what_it_does() -> None:
    endpoint = an_endpoint(a_variant(), SHADOW, status=EndpointStatus.UPDATING)
    records = [*RECORDS, an_instance("i-s", "s")]
    reports = {**READY, "i-s": a_report("i-s", variant="s")}
    answer = describe(endpoint, records, reports, route_of(endpoint, records, reports))
    assert [variant["VariantName"] for variant in answer["ProductionVariants"]] == ["AllTraffic"]
    (shadow,) = answer["ShadowProductionVariants"]
    assert (shadow["CurrentWeight"], shadow["CurrentInstanceCount"], shadow["DesiredInstanceCount"]) == (0.5, 1, 2)
    assert shadow["VariantStatus"][0]["StatusMessage"] == "Scaling out desired instance count to 2."


def test_weight_of_a_shadow_is_current_when_it_is_published() -> None:
    before = an_endpoint(a_variant(), SHADOW, status=EndpointStatus.IN_SERVICE)
    lighter = a_variant("s", 2, shadow=True, desired_weight=0.1)
    endpoint = an_endpoint(a_variant(), lighter, status=EndpointStatus.UPDATING)
    (shadow,) = describe(endpoint, RECORDS, READY, route_of(before, RECORDS, READY))["ShadowProductionVariants"]
    assert (shadow["CurrentWeight"], shadow["DesiredWeight"]) == (0.5, 0.1)


def test_shadow_of_the_fleet_to_come_is_pending() -> None:
    creating = describe(an_endpoint(a_variant(), SHADOW, status=EndpointStatus.CREATING), [], {}, None)
    deployment = a_deployment(a_variant(), SHADOW)
    updating = describe(an_endpoint(status=EndpointStatus.UPDATING, deployment=deployment), RECORDS, READY, None)
    for answer in (creating, updating):
        assert "ShadowProductionVariants" not in answer
        (pending,) = answer["PendingDeploymentSummary"]["ShadowProductionVariants"]
        assert (pending["VariantName"], pending["InstanceType"], pending["DesiredInstanceCount"]) == (
            "s",
            "ml.m5.large",
            2,
        )
        assert pending["VariantStatus"][0]["StatusMessage"] == "Launching 2 instance(s)."


def test_shadow_that_is_routed_to_is_believed_to_run_until_the_node_agent_tells() -> None:
    endpoint = an_endpoint(a_variant(), SHADOW, status=EndpointStatus.IN_SERVICE)
    records = [*RECORDS, an_instance("i-s", "s")]
    route = route_of(endpoint, records, {**READY, "i-s": a_report("i-s", variant="s")})
    (shadow,) = describe(endpoint, records, None, route)["ShadowProductionVariants"]
    assert shadow["CurrentInstanceCount"] == 1


def test_routing_config_is_shown_as_it_was_given() -> None:
    routing = {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"}
    endpoint = an_endpoint(a_variant(routing=routing), status=EndpointStatus.IN_SERVICE)
    (variant,) = describe(endpoint, RECORDS, READY, route_of(endpoint, RECORDS, READY))["ProductionVariants"]
    assert variant["RoutingConfig"] == routing


@pytest.mark.parametrize(
    ("status", "config", "enabled", "state"),
    [
        (EndpointStatus.IN_SERVICE, CAPTURE, True, "Started"),
        (EndpointStatus.IN_SERVICE, {**CAPTURE, "EnableCapture": True}, True, "Started"),
        (EndpointStatus.IN_SERVICE, {**CAPTURE, "EnableCapture": False}, False, "Stopped"),
        (EndpointStatus.FAILED, CAPTURE, True, "Stopped"),
        (EndpointStatus.DELETING, CAPTURE, True, "Stopped"),
    ],
)
def test_capture_has_started_when_the_gateways_are_told_of_it(
    status: EndpointStatus,
    config: dict[str, Any],
    enabled: bool,  # noqa: FBT001 - what is shown
    state: str,
) -> None:
    endpoint = an_endpoint(status=status, capture=config)
    assert describe(endpoint, RECORDS, READY, route_of(endpoint, RECORDS, READY))["DataCaptureConfig"] == {
        "EnableCapture": enabled,
        "CaptureStatus": state,
        "CurrentSamplingPercentage": 20,
        "DestinationS3Uri": "s3://bucket/prefix/",
        "KmsKeyId": "",
    }


def test_capture_of_the_fleet_that_serves_is_shown_during_an_update() -> None:
    shown = {}
    for stage in (Stage.LAUNCHING, Stage.BAKING):
        deployment = a_deployment(stage=stage, capture={**CAPTURE, "InitialSamplingPercentage": 50})
        endpoint = an_endpoint(status=EndpointStatus.UPDATING, capture=CAPTURE, deployment=deployment)
        answer = describe(endpoint, RECORDS, READY, route_of(endpoint, RECORDS, READY))
        shown[stage] = answer["DataCaptureConfig"]["CurrentSamplingPercentage"]
    assert shown == {Stage.LAUNCHING: 20, Stage.BAKING: 50}


def test_nothing_is_said_of_capture_and_shadows_where_there_are_none() -> None:
    answer = describe(an_endpoint(status=EndpointStatus.IN_SERVICE), RECORDS, READY, None)
    assert not {"DataCaptureConfig", "ShadowProductionVariants"} & answer.keys()
