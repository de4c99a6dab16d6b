"""What has changed about an endpoint, as events in EventBridge's shapes."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from moorage.state.events import Mark
from moorage.state.records import EndpointKey
from moorage.telemetry.changes import Moment, changes, is_news, upper_snake

MOMENT = Moment(EndpointKey("123456789012", "eu-west-1", "wine"), 1_700_000_000.5, lambda: "the-id")
ARN = "arn:aws:sagemaker:eu-west-1:123456789012:endpoint/wine"


def described(status: str, *variants: Mapping[str, Any], **members: Any) -> dict[str, Any]:
    return {
        "EndpointName": "wine",
        "EndpointArn": ARN,
        "EndpointConfigName": "config",
        "EndpointStatus": status,
        "FailureReason": None,
        "CreationTime": 1.5,
        "LastModifiedTime": 2.25,
        "ProductionVariants": list(variants) or [variant()],
        **members,
    }


def variant(*statuses: str, name: str = "a") -> dict[str, Any]:
    doing = [{"Status": status, "StatusMessage": "x", "StartTime": 3.0} for status in statuses]
    return {
        "VariantName": name,
        "DeployedImages": None,
        "CurrentWeight": 1.0,
        "DesiredWeight": 2.0,
        "CurrentInstanceCount": 0,
        "DesiredInstanceCount": 1,
        "VariantStatus": doing or None,
    }


def told(*descriptions: Mapping[str, Any] | None) -> Sequence[Mapping[str, Any]]:
    """Give the events of the last of several descriptions in a row."""
    mark: Mark | None = None
    events: Sequence[Mapping[str, Any]] = ()
    for description in descriptions:
        mark, events = changes(mark, description, {"team": "a"}, MOMENT)
    return events


def kinds(events: Sequence[Mapping[str, Any]]) -> list[str]:
    return [event["detail-type"].removeprefix("SageMaker Endpoint ") for event in events]


def test_state_change_has_eventbridge_s_shape() -> None:
    (event,) = told(described("InService"))
    assert event == {
        "version": "0",
        "id": "the-id",
        "detail-type": "SageMaker Endpoint State Change",
        "source": "aws.sagemaker",
        "account": "123456789012",
        "time": "2023-11-14T22:13:20Z",
        "region": "eu-west-1",
        "resources": [ARN],
        "detail": {
            "EndpointName": "wine",
            "EndpointArn": ARN,
            "EndpointConfigName": "config",
            "ProductionVariants": [{"DesiredWeight": 2.0, "DesiredInstanceCount": 1}],
            "EndpointStatus": "IN_SERVICE",
            "CreationTime": 1500.0,
            "LastModifiedTime": 2250.0,
            "Tags": {"team": "a"},
        },
    }


def test_deployment_change_has_full_summaries_and_times_in_milliseconds() -> None:
    pending = {"EndpointConfigName": "next", "StartTime": 4.0, "ProductionVariants": [variant("Creating")]}
    serving = described("Updating", variant("Baking"))
    _, event = told(described("InService"), {**serving, "PendingDeploymentSummary": pending})
    baking, creating = (
        {
            "VariantName": "a",
            "CurrentWeight": 1.0,
            "DesiredWeight": 2.0,
            "CurrentInstanceCount": 0,
            "DesiredInstanceCount": 1,
            "VariantStatus": [{"Status": status, "StatusMessage": "x", "StartTime": 3000.0}],
        }
        for status in ("Baking", "Creating")
    )
    assert event["detail-type"] == "SageMaker Endpoint Deployment State Change"
    assert event["detail"]["ProductionVariants"] == [baking]
    assert event["detail"]["PendingDeploymentSummary"] == {
        "EndpointConfigName": "next",
        "StartTime": 4000.0,
        "ProductionVariants": [creating],
    }


def test_creation_tells_what_is_desired_before_anything_serves() -> None:
    creating = described("Creating", PendingDeploymentSummary=None)
    pending = {"EndpointConfigName": "config", "StartTime": 1.5, "ProductionVariants": [variant("Creating")]}
    del creating["ProductionVariants"]
    state, deployment = told({**creating, "PendingDeploymentSummary": pending})
    assert kinds([state, deployment]) == ["State Change", "Deployment State Change"]
    assert state["detail"]["ProductionVariants"] == [{"DesiredWeight": 2.0, "DesiredInstanceCount": 1}]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (described("InService"), described("InService"), []),
        (described("InService"), described("Updating"), ["State Change"]),
        (described("Updating"), described("Updating", variant("Updating")), ["Deployment State Change"]),
        (
            described("Updating", variant("Updating")),
            described("Updating", variant("Deleting")),
            ["Deployment State Change"],
        ),
        (
            described("Updating", variant("Deleting")),
            described("InService"),
            ["State Change", "Deployment State Change"],
        ),
        (described("Updating", variant(name="a")), described("Updating", variant(name="b")), []),
    ],
)
def test_only_what_has_changed_is_told(before: dict[str, Any], after: dict[str, Any], expected: list[str]) -> None:
    mark, _ = changes(None, before, {}, MOMENT)
    assert kinds(told(before, after)) == expected
    assert is_news(mark, after) == bool(expected)


def test_failure_tells_its_reason() -> None:
    (event,) = told(described("Creating"), described("Failed", FailureReason="No."))
    assert (event["detail"]["EndpointStatus"], event["detail"]["FailureReason"]) == ("FAILED", "No.")


def test_end_of_an_endpoint_is_told_once() -> None:
    (event,) = told(described("Deleting"), None)
    assert (event["detail"]["EndpointStatus"], event["detail"]["EndpointConfigName"]) == ("DELETED", "config")
    assert told(described("Deleting"), None, None) == []


@pytest.mark.parametrize(
    ("status", "expected"),
    [("InService", "IN_SERVICE"), ("UpdateRollbackFailed", "UPDATE_ROLLBACK_FAILED"), ("Failed", "FAILED")],
)
def test_statuses_are_in_upper_snake_case(status: str, expected: str) -> None:
    assert upper_snake(status) == expected


def test_shadow_variants_are_told_apart_from_those_that_have_the_traffic() -> None:
    pending = {
        "EndpointConfigName": "next",
        "StartTime": 4.0,
        "ProductionVariants": [variant()],
        "ShadowProductionVariants": [variant("Creating", name="s")],
    }
    serving = described("Updating", variant(), ShadowProductionVariants=[variant("Deleting", name="t")])
    before = described("Updating", ShadowProductionVariants=[variant(name="t")])
    (event,) = told(before, {**serving, "PendingDeploymentSummary": pending})
    detail = event["detail"]
    assert [one["VariantName"] for one in detail["ProductionVariants"]] == ["a"]
    assert [one["VariantName"] for one in detail["ShadowProductionVariants"]] == ["t"]
    assert [one["VariantName"] for one in detail["PendingDeploymentSummary"]["ShadowProductionVariants"]] == ["s"]
    (state,) = told(described("InService", ShadowProductionVariants=[variant(name="t")]))
    assert state["detail"]["ShadowProductionVariants"] == [{"DesiredWeight": 2.0, "DesiredInstanceCount": 1}]
