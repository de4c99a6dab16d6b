"""boto3 against the control plane alone: UpdateEndpoint, conflicts, equal calls at once, lists, tags and quotas."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.support.control import IMAGE, ROLE, ControlPlane, control_plane

from moorage.testing.fake_node import Script

FAST = {"Delay": 0.05, "MaxAttempts": 400}
CAPTURE = {
    "EnableCapture": True,
    "InitialSamplingPercentage": 20,
    "DestinationS3Uri": "s3://captured/here",
    "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
    "CaptureContentTypeHeader": {"CsvContentTypes": ["text/csv"], "JsonContentTypes": ["application/json"]},
}
LEAST_OUTSTANDING = {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"}
PREFIX_AWARE = {
    "RoutingStrategy": "PREFIX_AWARE",
    "PrefixAwareRoutingConfig": {"PrefixLength": 2048, "ConcurrencyThreshold": 8},
}
TRAFFIC = {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with control_plane(tmp_path_factory.mktemp("c")) as running:
        yield running


@pytest.fixture
def sagemaker(plane: ControlPlane, request: pytest.FixtureRequest) -> Any:
    """A client of a region of the test's own, so that tests do not see each other's resources."""
    return plane.client(region=f"us-test-{abs(hash(request.node.nodeid)) % 10**9}")


def a_variant(name: str = "AllTraffic", **changes: Any) -> dict[str, Any]:
    return {
        "VariantName": name,
        "ModelName": "m",
        "InstanceType": "ml.m5.large",
        "InitialInstanceCount": 1,
        **changes,
    }


def make_config(sagemaker: Any, name: str, *variants: dict[str, Any]) -> None:
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=list(variants) or [a_variant()])


def make_endpoint(sagemaker: Any, name: str = "ep", *variants: dict[str, Any], **members: Any) -> str:
    sagemaker.create_model(ModelName="m", PrimaryContainer={"Image": IMAGE}, ExecutionRoleArn=ROLE)
    make_config(sagemaker, "old", *variants)
    arn: str = sagemaker.create_endpoint(EndpointName=name, EndpointConfigName="old", **members)["EndpointArn"]
    in_service(sagemaker, name)
    return arn


def in_service(sagemaker: Any, name: str = "ep") -> dict[str, Any]:
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig=FAST)
    described: dict[str, Any] = sagemaker.describe_endpoint(EndpointName=name)
    return described


def refused(call: Any, **members: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as fault:
        call(**members)
    assert fault.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    error = fault.value.response["Error"]
    return error["Code"], error["Message"]


def test_update_shows_what_is_to_come_and_ends_with_the_new_configuration(plane: ControlPlane, sagemaker: Any) -> None:
    arn = make_endpoint(sagemaker, "slow", a_variant("a"), a_variant("b"))
    make_config(sagemaker, "new", a_variant("a", InitialInstanceCount=2, InstanceType="ml.c5.large"))
    plane.scripts["slow"] = Script(ready_after=1.0)
    assert sagemaker.update_endpoint(EndpointName="slow", EndpointConfigName="new")["EndpointArn"] == arn
    described = sagemaker.describe_endpoint(EndpointName="slow")
    pending = described["PendingDeploymentSummary"]
    assert (described["EndpointStatus"], described["EndpointConfigName"]) == ("Updating", "old")
    assert [variant["CurrentInstanceCount"] for variant in described["ProductionVariants"]] == [1, 1]
    assert (pending["EndpointConfigName"], "StartTime" in pending) == ("new", True)
    (new,) = pending["ProductionVariants"]
    assert (new["InstanceType"], new["DesiredInstanceCount"], new["CurrentInstanceCount"]) == ("ml.c5.large", 2, 0)
    assert new["VariantStatus"][0]["Status"] == "Creating"
    assert new["VariantStatus"][0]["StatusMessage"] == "Launching 2 instance(s)."
    busy = ("ValidationException", f'Cannot update in-progress endpoint "{arn}".')
    assert refused(sagemaker.update_endpoint, EndpointName="slow", EndpointConfigName="new") == busy
    assert refused(sagemaker.delete_endpoint, EndpointName="slow") == busy
    described = in_service(sagemaker, "slow")
    assert described["EndpointConfigName"] == "new"
    assert [variant["VariantName"] for variant in described["ProductionVariants"]] == ["a"]
    assert "@sha256:" in described["ProductionVariants"][0]["DeployedImages"][0]["ResolvedImage"]
    assert described["LastModifiedTime"] > described["CreationTime"]
    assert "PendingDeploymentSummary" not in described


def test_failed_update_ends_in_service_as_before_with_a_reason_that_the_next_one_clears(
    plane: ControlPlane, sagemaker: Any
) -> None:
    make_endpoint(sagemaker, "back")
    make_config(sagemaker, "new")
    healthy = plane.scripts.get("back", Script(ready_after=0.05, stop_seconds=0.05))
    plane.scripts["back"] = Script(fails_after=0.1, log_tail="ValueError: no")
    sagemaker.update_endpoint(EndpointName="back", EndpointConfigName="new")
    described = in_service(sagemaker, "back")
    assert described["EndpointConfigName"] == "old"
    assert described["FailureReason"].startswith("The primary container for production variant AllTraffic did not pass")
    assert described["ProductionVariants"][0]["CurrentInstanceCount"] == 1
    plane.scripts["back"] = healthy
    sagemaker.update_endpoint(EndpointName="back", EndpointConfigName="new")
    described = in_service(sagemaker, "back")
    assert described["EndpointConfigName"] == "new"
    assert "FailureReason" not in described


def test_deleted_configuration_of_the_endpoint_is_named_by_an_update(sagemaker: Any) -> None:
    make_endpoint(sagemaker)
    make_config(sagemaker, "new")
    sagemaker.delete_endpoint_config(EndpointConfigName="old")
    assert sagemaker.describe_endpoint(EndpointName="ep")["EndpointConfigName"] == "old"
    code, message = refused(sagemaker.update_endpoint, EndpointName="ep", EndpointConfigName="new")
    assert code == "ValidationException"
    assert message.startswith("Could not find endpoint configuration")
    assert message.endswith(':endpoint-config/old".')


def test_failed_endpoint_cannot_be_updated(plane: ControlPlane, sagemaker: Any) -> None:
    plane.scripts["sick"] = Script(fails_after=0.05)
    with pytest.raises(Exception, match="terminal failure"):
        make_endpoint(sagemaker, "sick")
    code, message = refused(sagemaker.update_endpoint, EndpointName="sick", EndpointConfigName="old")
    assert code == "ValidationException"
    assert "its status is Failed: it can only be deleted" in message
    sagemaker.delete_endpoint(EndpointName="sick")
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName="sick", WaiterConfig=FAST)


def test_deployment_config_of_the_creation_is_given_back_and_can_be_retained(sagemaker: Any) -> None:
    config = {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": TRAFFIC, "TerminationWaitInSeconds": 0}}
    make_endpoint(sagemaker, "ep", DeploymentConfig=config)
    assert sagemaker.describe_endpoint(EndpointName="ep")["LastDeploymentConfig"] == config
    sagemaker.update_endpoint(EndpointName="ep", EndpointConfigName="old", RetainDeploymentConfig=True)
    assert in_service(sagemaker)["LastDeploymentConfig"] == config
    sagemaker.update_endpoint(EndpointName="ep", EndpointConfigName="old")
    assert "LastDeploymentConfig" not in in_service(sagemaker)


@pytest.mark.parametrize(
    ("config", "member"),
    [
        (
            {
                "BlueGreenUpdatePolicy": {
                    "TrafficRoutingConfiguration": {
                        "Type": "CANARY",
                        "WaitIntervalInSeconds": 60,
                        "CanarySize": {"Type": "INSTANCE_COUNT", "Value": 1},
                    }
                }
            },
            "DeploymentConfig.BlueGreenUpdatePolicy.TrafficRoutingConfiguration.Type",
        ),
        (
            {
                "RollingUpdatePolicy": {
                    "MaximumBatchSize": {"Type": "INSTANCE_COUNT", "Value": 1},
                    "WaitIntervalInSeconds": 0,
                }
            },
            "DeploymentConfig.RollingUpdatePolicy",
        ),
        (
            {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "slow"}]}},
            "DeploymentConfig.AutoRollbackConfiguration",
        ),
    ],
)
def test_deployments_that_are_not_built_are_refused_by_name(sagemaker: Any, config: Any, member: str) -> None:
    make_endpoint(sagemaker)
    calls: dict[str, Callable[..., Any]] = {"new": sagemaker.create_endpoint, "ep": sagemaker.update_endpoint}
    for name, call in calls.items():
        code, message = refused(call, EndpointName=name, EndpointConfigName="old", DeploymentConfig=config)
        assert code == "ValidationException"
        assert message.startswith(member)
        assert message.endswith("is not supported by Moorage yet.")


@pytest.mark.parametrize("kind", ["model", "endpoint_config", "endpoint"])
def test_of_equal_creations_at_the_same_moment_exactly_one_succeeds(
    plane: ControlPlane, sagemaker: Any, kind: str
) -> None:
    make_endpoint(sagemaker)
    region = sagemaker.meta.region_name
    requests: dict[str, dict[str, Any]] = {
        "model": {"ModelName": "x", "PrimaryContainer": {"Image": IMAGE}, "ExecutionRoleArn": ROLE},
        "endpoint_config": {"EndpointConfigName": "x", "ProductionVariants": [a_variant()]},
        "endpoint": {"EndpointName": "x", "EndpointConfigName": "old"},
    }
    clients = [plane.client(region=region) for _ in range(8)]

    def create(client: Any) -> str:
        try:
            getattr(client, f"create_{kind}")(**requests[kind])
        except ClientError as fault:
            return str(fault.response["Error"]["Message"]).split('"')[0]
        return "made"

    with ThreadPoolExecutor(8) as pool:
        answers = sorted(pool.map(create, clients))
    word = {"endpoint_config": "endpoint configuration"}.get(kind, kind)
    assert answers == [f"Cannot create already existing {word} "] * 7 + ["made"]
    if kind == "endpoint":
        in_service(sagemaker, "x")


def test_of_equal_updates_at_the_same_moment_exactly_one_begins(plane: ControlPlane, sagemaker: Any) -> None:
    arn = make_endpoint(sagemaker, "race")
    clients = [plane.client(region=sagemaker.meta.region_name) for _ in range(8)]
    plane.scripts["race"] = Script(ready_after=0.5)

    def update(client: Any) -> str:
        try:
            client.update_endpoint(EndpointName="race", EndpointConfigName="old")
        except ClientError as fault:
            return str(fault.response["Error"]["Message"])
        return "updating"

    with ThreadPoolExecutor(8) as pool:
        answers = sorted(pool.map(update, clients))
    assert answers == [f'Cannot update in-progress endpoint "{arn}".'] * 7 + ["updating"]
    in_service(sagemaker, "race")


def test_configuration_is_given_back_without_anything_that_would_look_like_drift(sagemaker: Any) -> None:
    sagemaker.create_model(ModelName="m", PrimaryContainer={"Image": IMAGE}, ExecutionRoleArn=ROLE)
    given = [a_variant("a", InitialVariantWeight=0.5), a_variant("b", InitialInstanceCount=3)]
    make_config(sagemaker, "first", *given)
    first = sagemaker.describe_endpoint_config(EndpointConfigName="first")
    del first["ResponseMetadata"]
    assert first.pop("ProductionVariants") == [given[0], {**given[1], "InitialVariantWeight": 1.0}]
    assert sorted(first) == ["CreationTime", "EnableNetworkIsolation", "EndpointConfigArn", "EndpointConfigName"]


def test_strategies_shadow_and_capture_are_given_back_and_shown(sagemaker: Any) -> None:
    sagemaker.create_model(ModelName="m", PrimaryContainer={"Image": IMAGE}, ExecutionRoleArn=ROLE)
    given = {
        "ProductionVariants": [a_variant("a", InitialVariantWeight=2.0, RoutingConfig=PREFIX_AWARE)],
        "ShadowProductionVariants": [
            a_variant("s", InitialInstanceCount=2, InitialVariantWeight=0.5, RoutingConfig=LEAST_OUTSTANDING)
        ],
        "DataCaptureConfig": CAPTURE,
    }
    sagemaker.create_endpoint_config(EndpointConfigName="first", **given)
    first = sagemaker.describe_endpoint_config(EndpointConfigName="first")
    kept = {member: first[member] for member in given}
    sagemaker.create_endpoint_config(EndpointConfigName="second", **kept)
    second = sagemaker.describe_endpoint_config(EndpointConfigName="second")
    sagemaker.create_endpoint(EndpointName="ep", EndpointConfigName="second")
    described = in_service(sagemaker)

    assert kept == given
    assert {member: second[member] for member in given} == given
    ((production,), (shadow,)) = described["ProductionVariants"], described["ShadowProductionVariants"]
    assert (production["VariantName"], production["CurrentInstanceCount"], production["RoutingConfig"]) == (
        "a",
        1,
        PREFIX_AWARE,
    )
    assert (shadow["VariantName"], shadow["CurrentInstanceCount"], shadow["CurrentWeight"]) == ("s", 2, 0.5)
    assert shadow["RoutingConfig"] == LEAST_OUTSTANDING
    assert "@sha256:" in shadow["DeployedImages"][0]["ResolvedImage"]
    assert described["DataCaptureConfig"] == {
        "EnableCapture": True,
        "CaptureStatus": "Started",
        "CurrentSamplingPercentage": 20,
        "DestinationS3Uri": "s3://captured/here",
        "KmsKeyId": "",
    }


def test_shadow_is_scaled_and_weighed_like_any_variant(sagemaker: Any) -> None:
    make_shadowed(sagemaker)
    wanted = [{"VariantName": "s", "DesiredInstanceCount": 3, "DesiredWeight": 0.25}]
    sagemaker.update_endpoint_weights_and_capacities(EndpointName="ep", DesiredWeightsAndCapacities=wanted)
    (shadow,) = in_service(sagemaker)["ShadowProductionVariants"]
    assert (shadow["CurrentInstanceCount"], shadow["CurrentWeight"]) == (3, 0.25)
    none = [{"VariantName": "s", "DesiredInstanceCount": 0}]
    code, message = refused(
        sagemaker.update_endpoint_weights_and_capacities, EndpointName="ep", DesiredWeightsAndCapacities=none
    )
    assert (code, message) == (
        "ValidationException",
        "DesiredInstanceCount must be at least 1 for the real-time variant s.",
    )


def make_shadowed(sagemaker: Any, name: str = "ep") -> None:
    """Make an endpoint of one variant and one shadow that captures."""
    sagemaker.create_model(ModelName="m", PrimaryContainer={"Image": IMAGE}, ExecutionRoleArn=ROLE)
    sagemaker.create_endpoint_config(
        EndpointConfigName="shadowed",
        ProductionVariants=[a_variant("a")],
        ShadowProductionVariants=[a_variant("s")],
        DataCaptureConfig=CAPTURE,
    )
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName="shadowed")
    in_service(sagemaker, name)


def test_update_shows_the_shadow_to_come_and_changes_capture_with_the_fleet(
    plane: ControlPlane, sagemaker: Any
) -> None:
    make_shadowed(sagemaker, "shadowed")
    sagemaker.create_endpoint_config(
        EndpointConfigName="next",
        ProductionVariants=[a_variant("a")],
        ShadowProductionVariants=[a_variant("t", InstanceType="ml.c5.large")],
        DataCaptureConfig={**CAPTURE, "EnableCapture": False, "InitialSamplingPercentage": 1},
    )
    plane.scripts["shadowed"] = Script(ready_after=1.0)
    sagemaker.update_endpoint(EndpointName="shadowed", EndpointConfigName="next", RetainAllVariantProperties=True)
    during = sagemaker.describe_endpoint(EndpointName="shadowed")
    (pending,) = during["PendingDeploymentSummary"]["ShadowProductionVariants"]
    assert [shadow["VariantName"] for shadow in during["ShadowProductionVariants"]] == ["s"]
    assert (pending["VariantName"], pending["InstanceType"], pending["CurrentInstanceCount"]) == ("t", "ml.c5.large", 0)
    assert pending["VariantStatus"][0]["StatusMessage"] == "Launching 1 instance(s)."
    assert during["DataCaptureConfig"]["CaptureStatus"] == "Started"
    after = in_service(sagemaker, "shadowed")
    assert [shadow["VariantName"] for shadow in after["ShadowProductionVariants"]] == ["t"]
    capture = after["DataCaptureConfig"]
    assert (capture["EnableCapture"], capture["CaptureStatus"], capture["CurrentSamplingPercentage"]) == (
        False,
        "Stopped",
        1,
    )


def test_shadow_that_cannot_start_fails_the_creation(plane: ControlPlane, sagemaker: Any) -> None:
    plane.scripts["broken"] = Script(fails_after=0.05)
    with pytest.raises(Exception, match="terminal failure"):
        make_shadowed(sagemaker, "broken")
    assert sagemaker.describe_endpoint(EndpointName="broken")["EndpointStatus"] == "Failed"


@pytest.mark.parametrize(
    ("members", "text"),
    [
        (
            {"ShadowProductionVariants": [{"VariantName": "AllTraffic"}]},
            "Variant names must be unique within an endpoint configuration: AllTraffic",
        ),
        (
            {"ShadowProductionVariants": [{"VariantName": "s"}, {"VariantName": "t"}]},
            (
                "ShadowProductionVariants requires exactly one variant in ProductionVariants and can have only one "
                "variant itself."
            ),
        ),
        (
            {"ShadowProductionVariants": [{"VariantName": "s", "RoutingConfig": {"RoutingStrategy": "PREFIX_AWARE"}}]},
            "PrefixLength and ConcurrencyThreshold are required when RoutingStrategy is PREFIX_AWARE.",
        ),
        (
            {"DataCaptureConfig": {"DestinationS3Uri": "https://example.com/captured"}},
            "DestinationS3Uri of DataCaptureConfig must be of the form s3://bucket/prefix: https://example.com/captured",
        ),
    ],
)
def test_what_shadows_strategies_and_capture_cannot_be_is_refused(
    sagemaker: Any, members: dict[str, Any], text: str
) -> None:
    sagemaker.create_model(ModelName="m", PrimaryContainer={"Image": IMAGE}, ExecutionRoleArn=ROLE)
    shadows = [a_variant(shadow["VariantName"], **shadow) for shadow in members.get("ShadowProductionVariants", ())]
    request: dict[str, Any] = {"ShadowProductionVariants": shadows} if shadows else {}
    if "DataCaptureConfig" in members:
        request["DataCaptureConfig"] = {**CAPTURE, **members["DataCaptureConfig"]}
    code, message = refused(
        sagemaker.create_endpoint_config, EndpointConfigName="c", ProductionVariants=[a_variant()], **request
    )
    assert (code, message) == ("ValidationException", text)


def test_weights_travel_as_floats(sagemaker: Any) -> None:
    make_endpoint(sagemaker, "ep", a_variant(InitialVariantWeight=2))
    described = sagemaker.describe_endpoint(EndpointName="ep")["ProductionVariants"][0]
    assert json.dumps([described["CurrentWeight"], described["DesiredWeight"]]) == "[2.0, 2.0]"


def test_pages_by_status_and_by_name_show_each_endpoint_once(sagemaker: Any) -> None:
    make_endpoint(sagemaker, "e0")
    for number in range(1, 12):
        sagemaker.create_endpoint(EndpointName=f"e{number}", EndpointConfigName="old")
    names = sorted(f"e{number}" for number in range(12))
    for number in range(12):
        in_service(sagemaker, f"e{number}")
    for sort_by in ("Status", "Name", "CreationTime"):
        for order in ("Ascending", "Descending"):
            pages = sagemaker.get_paginator("list_endpoints").paginate(
                SortBy=sort_by, SortOrder=order, NameContains="E", PaginationConfig={"PageSize": 5}
            )
            shown = [endpoint["EndpointName"] for page in pages for endpoint in page["Endpoints"]]
            assert sorted(shown) == names
            assert sort_by != "Name" or shown == (names if order == "Ascending" else names[::-1])


def test_tags_that_cannot_be_are_refused(sagemaker: Any) -> None:
    def tag(key: str) -> dict[str, str]:
        return {"Key": key, "Value": "v"}

    arn = make_endpoint(sagemaker, "ep", Tags=[tag(f"k{number}") for number in range(30)])
    many = [tag(f"more{number}") for number in range(21)]
    assert refused(sagemaker.add_tags, ResourceArn=arn, Tags=many)[0] == "ValidationException"
    assert len(sagemaker.list_tags(ResourceArn=arn)["Tags"]) == 30
    sagemaker.add_tags(ResourceArn=arn, Tags=many[:20])
    code, message = refused(sagemaker.add_tags, ResourceArn=arn, Tags=[tag("k1"), tag("k1")])
    assert (code, "k1" in message) == ("ValidationException", True)
    code, message = refused(sagemaker.add_tags, ResourceArn=arn, Tags=[tag("aws:mine")])
    assert (code, "aws:" in message) == ("ValidationException", True)
    code, message = refused(sagemaker.list_tags, ResourceArn=arn.replace("/ep", "/none"))
    assert message == f'Could not find endpoint "{arn.replace("/ep", "/none")}".'


def test_slip_of_the_finger_does_not_take_the_machine_down(sagemaker: Any) -> None:
    make_endpoint(sagemaker, "ep", a_variant("a"))
    in_service(sagemaker)
    code, message = refused(
        sagemaker.update_endpoint_weights_and_capacities,
        EndpointName="ep",
        DesiredWeightsAndCapacities=[{"VariantName": "a", "DesiredInstanceCount": 2_000_000_000}],
    )
    assert code == "ResourceLimitExceeded"
    assert "'Number of instances across active endpoints' is 1000 Instances" in message
    make_config(sagemaker, "huge", a_variant("a", InitialInstanceCount=2_000_000_000))
    code, _ = refused(sagemaker.create_endpoint, EndpointName="huge", EndpointConfigName="huge")
    assert code == "ResourceLimitExceeded"


def test_quotas_refuse_what_is_beyond_them_and_leave_nothing_behind(tmp_path: Path) -> None:
    limits = {"ml.m5.large for endpoint usage": 3, "Number of instances across active endpoints": 4}
    with control_plane(tmp_path, quotas=limits) as running:
        sagemaker = running.client()
        make_endpoint(sagemaker, "ep", a_variant("a", InitialInstanceCount=2))
        make_config(sagemaker, "two", a_variant("a", InitialInstanceCount=2))
        code, message = refused(sagemaker.create_endpoint, EndpointName="more", EndpointConfigName="two")
        assert code == "ResourceLimitExceeded"
        assert message.startswith(
            "The account-level service limit 'ml.m5.large for endpoint usage' is 3 Instances, with current utilization "
            "of 2 Instances and a request delta of 2 Instances. "
        )
        assert [endpoint["EndpointName"] for endpoint in sagemaker.list_endpoints()["Endpoints"]] == ["ep"]
        code, _ = refused(sagemaker.update_endpoint, EndpointName="ep", EndpointConfigName="two")
        assert code == "ResourceLimitExceeded"
        change = [{"VariantName": "a", "DesiredInstanceCount": 4}]
        code, _ = refused(
            sagemaker.update_endpoint_weights_and_capacities, EndpointName="ep", DesiredWeightsAndCapacities=change
        )
        assert code == "ResourceLimitExceeded"
        make_config(sagemaker, "other", *[a_variant(name, InstanceType="ml.c5.large") for name in "abc"])
        code, message = refused(sagemaker.create_endpoint, EndpointName="more", EndpointConfigName="other")
        assert "'Number of instances across active endpoints' is 4 Instances" in message
        make_config(sagemaker, "one", a_variant("a"))
        sagemaker.update_endpoint(EndpointName="ep", EndpointConfigName="one")
        in_service(sagemaker)
        sagemaker.create_endpoint(EndpointName="more", EndpointConfigName="two")
        in_service(sagemaker, "more")
        # Elsewhere nothing has been used.
        abroad = running.client(region="eu-west-1")
        make_endpoint(abroad, "ep", a_variant("a", InitialInstanceCount=3))
