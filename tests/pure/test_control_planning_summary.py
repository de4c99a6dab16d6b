"""What DescribeEndpoint tells."""

from moorage.control.planning.routes import route_of
from moorage.control.planning.summary import describe
from moorage.engine.contract import InstanceState
from moorage.state.records import EndpointStatus
from moorage.testing.builders import a_report, a_variant, an_endpoint, an_instance

READY = {"i-1": a_report("i-1")}
RECORDS = [an_instance("i-1")]


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
            "VariantStatus": None,
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
