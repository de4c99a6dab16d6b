"""The Dart client, which cannot run here: its requests replayed byte for byte, its demands on answers checked.

Every operation is called, and an endpoint is described in every state that it can be in.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.credentials import Credentials
from tests.support.control import IMAGE, KEY_ID, ROLE, SECRET, ControlPlane, control_plane
from tests.support.dart_client import DartClient, encode, payload
from tests.support.dart_reader import DartThrows, read_error, read_output, service_model
from tests.support.fixtures import Deployment, Wine
from tests.support.product import wait_until

from moorage.control.dispatch import OPERATIONS
from moorage.engine.contract import Failure
from moorage.testing.fake_node import Script

WINES = "arn:aws:sagemaker:us-test-3:000000000000:model-package/wines"
SPECIFICATION = {"Containers": [{"Image": IMAGE, "ModelDataUrl": "s3://models/m.tar.gz"}]}

pytestmark = pytest.mark.client("Dart (requests replayed)")


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with control_plane(tmp_path_factory.mktemp("dart")) as running:
        running.put("models", "m.tar.gz")
        yield running


def client_of(plane: ControlPlane, region: str, **more: Any) -> DartClient:
    return DartClient(plane.url, Credentials(KEY_ID, SECRET), region, **more)


def make_config(dart: DartClient, name: str = "c", count: int = 1) -> None:
    container = {"Image": IMAGE, "ModelDataUrl": "s3://models/m.tar.gz", "Environment": {"CELLAR": "Île"}}
    dart.call("CreateModel", ModelName=f"{name}-m", PrimaryContainer=container, ExecutionRoleArn=ROLE)
    dart.call(
        "CreateEndpointConfig",
        EndpointConfigName=name,
        ProductionVariants=[
            {
                "VariantName": "AllTraffic",
                "ModelName": f"{name}-m",
                "InstanceType": "ml.m5.large",
                "InitialInstanceCount": count,
                "InitialVariantWeight": 1,
                "ServerlessConfig": None,
            }
        ],
        DataCaptureConfig=None,
        KmsKeyId=None,
        Tags=[{"Key": "team", "Value": "cellar"}],
    )


def status_of(dart: DartClient, name: str = "ep") -> str:
    status: str = dart.call("DescribeEndpoint", EndpointName=name)["EndpointStatus"]
    return status


def wait_for(dart: DartClient, status: str, name: str = "ep") -> None:
    wait_until(lambda: status_of(dart, name) == status, within=20, what=f"{name} is {status}")


def make_endpoint(dart: DartClient, name: str = "ep", count: int = 1) -> None:
    make_config(dart, f"{name}-c", count)
    dart.call("CreateEndpoint", EndpointName=name, EndpointConfigName=f"{name}-c")


def test_the_payload_is_that_of_the_generated_code() -> None:
    variant = {"VariantName": "v", "ModelName": "m", "InitialVariantWeight": 1, "InitialInstanceCount": 2}
    members = {"Tags": None, "ProductionVariants": [variant], "KmsKeyId": "k", "EndpointConfigName": "c"}
    shape = service_model().operation_model("CreateEndpointConfig").input_shape

    ordered = payload(shape, members)

    text = (
        '{"EndpointConfigName":"c","ProductionVariants":[{"VariantName":"v","InitialInstanceCount":2,'
        '"InitialVariantWeight":%s,"ModelName":"m"}],"KmsKeyId":"k"}'
    )
    assert encode(ordered).decode() == text % "1.0"
    assert encode(ordered, on_the_web=True).decode() == text % "1"


@pytest.mark.parametrize("target", ["/", "/?"])
@pytest.mark.parametrize("numbers", ["native", "web"])
def test_weights_are_told_with_a_point_however_they_were_sent(plane: ControlPlane, target: str, numbers: str) -> None:
    dart = client_of(plane, f"us-{numbers}-{len(target)}", target=target, on_the_web=numbers == "web")
    make_config(dart)

    described = dart.call("DescribeEndpointConfig", EndpointConfigName="c")

    assert repr(described["ProductionVariants"][0]["InitialVariantWeight"]) == "1.0"


def test_the_answer_of_every_operation_can_be_read(plane: ControlPlane) -> None:
    dart = client_of(plane, "us-test-3")
    make_endpoint(dart, "all")
    wait_for(dart, "InService", "all")
    arn = dart.call("DescribeEndpointConfig", EndpointConfigName="all-c")["EndpointConfigArn"]
    for operation, members in (
        ("DescribeModel", {"ModelName": "all-c-m"}),
        ("ListModels", {"MaxResults": 1, "CreationTimeAfter": 1_600_000_000}),
        ("ListEndpointConfigs", {"SortBy": "Name", "SortOrder": "Ascending"}),
        ("ListEndpoints", {"StatusEquals": "InService", "LastModifiedTimeAfter": 1_600_000_000}),
        ("AddTags", {"ResourceArn": arn, "Tags": [{"Key": "year", "Value": "1987"}]}),
        ("ListTags", {"ResourceArn": arn}),
        ("DeleteTags", {"ResourceArn": arn, "TagKeys": ["year"]}),
        ("CreateModelPackageGroup", {"ModelPackageGroupName": "wines"}),
        ("DescribeModelPackageGroup", {"ModelPackageGroupName": "wines"}),
        ("ListModelPackageGroups", {"NameContains": "WINE"}),
        ("CreateModelPackage", {"ModelPackageGroupName": "wines", "InferenceSpecification": SPECIFICATION}),
        ("UpdateModelPackage", {"ModelPackageArn": f"{WINES}/1", "ModelApprovalStatus": "Approved"}),
        ("DescribeModelPackage", {"ModelPackageName": f"{WINES}/1"}),
        ("ListModelPackages", {"ModelPackageGroupName": "wines"}),
        ("DeleteModelPackage", {"ModelPackageName": f"{WINES}/1"}),
        ("DeleteModelPackageGroup", {"ModelPackageGroupName": "wines"}),
    ):
        dart.call(operation, **members)
    dart.call("UpdateEndpoint", EndpointName="all", EndpointConfigName="all-c")
    wait_for(dart, "InService", "all")
    weights = [{"VariantName": "AllTraffic", "DesiredWeight": 2, "DesiredInstanceCount": None}]
    dart.call("UpdateEndpointWeightsAndCapacities", EndpointName="all", DesiredWeightsAndCapacities=weights)
    wait_for(dart, "InService", "all")
    dart.call("DeleteEndpoint", EndpointName="all")
    dart.call("DeleteEndpointConfig", EndpointConfigName="all-c")
    dart.call("DeleteModel", ModelName="all-c-m")

    assert {operation for operation, _ in dart.seen} == set(OPERATIONS)


def test_an_endpoint_with_shadow_and_capture_can_be_read_as_it_is_made_and_when_it_serves(plane: ControlPlane) -> None:
    dart = client_of(plane, "us-test-5")
    plane.scripts["shadowed"] = Script(ready_after=0.5)
    make_config(dart, "c")
    variant = dart.call("DescribeEndpointConfig", EndpointConfigName="c")["ProductionVariants"][0]
    routed = {**variant, "RoutingConfig": {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"}}
    capture = {
        "InitialSamplingPercentage": 100,
        "DestinationS3Uri": "s3://captured",
        "CaptureOptions": [{"CaptureMode": "InputAndOutput"}],
    }
    dart.call(
        "CreateEndpointConfig",
        EndpointConfigName="shadowed",
        ProductionVariants=[routed],
        ShadowProductionVariants=[{**variant, "VariantName": "Shadow"}],
        DataCaptureConfig=capture,
    )
    dart.call("CreateEndpoint", EndpointName="shadowed", EndpointConfigName="shadowed")

    made = dart.call("DescribeEndpoint", EndpointName="shadowed")
    wait_for(dart, "InService", "shadowed")
    served = dart.call("DescribeEndpoint", EndpointName="shadowed")

    assert dart.call("DescribeEndpointConfig", EndpointConfigName="shadowed")["DataCaptureConfig"] == capture
    assert [made["DataCaptureConfig"]["CaptureStatus"], served["DataCaptureConfig"]["CaptureStatus"]] == [
        "Stopped",
        "Started",
    ]
    assert [shadow["VariantName"] for shadow in served["ShadowProductionVariants"]] == ["Shadow"]


def to_creating(dart: DartClient) -> None:
    """It is, as soon as it was asked for."""


def to_updating(dart: DartClient) -> None:
    wait_for(dart, "InService")
    wanted = [{"VariantName": "AllTraffic", "DesiredInstanceCount": 2}]
    dart.call("UpdateEndpointWeightsAndCapacities", EndpointName="ep", DesiredWeightsAndCapacities=wanted)


def to_deleting(dart: DartClient) -> None:
    wait_for(dart, "InService")
    dart.call("DeleteEndpoint", EndpointName="ep")


@pytest.mark.parametrize(
    ("status", "script", "lead"),
    [
        ("Creating", Script(ready_after=30), to_creating),
        ("InService", Script(ready_after=0.01), to_creating),
        ("Failed", Script(fails_after=0.05, failure=Failure.HEALTH_CHECK), to_creating),
        ("Updating", Script(ready_after=0.3), to_updating),
        ("Deleting", Script(ready_after=0.01, stop_seconds=3), to_deleting),
    ],
)
def test_an_endpoint_can_be_read_in_every_state(
    plane: ControlPlane, status: str, script: Script, lead: Callable[[DartClient], None]
) -> None:
    dart = client_of(plane, f"us-state-{status.lower()}")
    plane.scripts["ep"] = script
    make_endpoint(dart)

    lead(dart)

    wait_for(dart, status)
    assert status in {each["EndpointStatus"] for each in dart.call("ListEndpoints")["Endpoints"]}


def test_exceptions_have_the_type_and_message_that_dart_throws(plane: ControlPlane) -> None:
    dart = client_of(plane, "us-test-4")

    missing = dart.refused("DescribeEndpoint", EndpointName="nowhere")
    bad = dart.refused("CreateEndpointConfig", EndpointConfigName="bad_name", ProductionVariants=[])

    assert missing == (
        "ValidationException",
        'Could not find endpoint "arn:aws:sagemaker:us-test-4:000000000000:endpoint/nowhere".',
    )
    assert bad[0] == "ValidationException"
    assert bad[1].startswith("2 validation errors detected: Value 'bad_name' at 'endpointConfigName'")


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("DescribeEndpoint", {"EndpointName": "e", "EndpointArn": "a", "EndpointStatus": "Creating"}),
        ("ListEndpoints", {"Endpoints": None}),
        ("ListTags", {"Tags": [{"Key": "k", "Value": "v", "Extra": 1}]}),
        ("ListModels", {"Models": [{"ModelName": "m", "ModelArn": "a", "CreationTime": "2026-01-01T00:00:00Z"}]}),
        ("ListModels", {"Models": [{"ModelName": "m", "ModelArn": "a", "CreationTime": 1_760_000_000_000}]}),
    ],
)
def test_the_reader_refuses_what_dart_would_choke_on(operation: str, body: dict[str, Any]) -> None:
    with pytest.raises(DartThrows):
        read_output(operation, json.dumps(body).encode())


@pytest.mark.slow  # starts an instance
def test_an_invocation_and_its_errors_can_be_read(deployment: Deployment, wine: Wine) -> None:
    model = deployment.model("dart-runtime", wine.artefact("logistic"))
    deployment.in_service("dart-runtime", ("only", model, 1, 1))
    exports = deployment.moorage.exports()
    credentials = Credentials(exports["AWS_ACCESS_KEY_ID"], exports["AWS_SECRET_ACCESS_KEY"])
    dart = DartClient(exports["AWS_ENDPOINT_URL"], credentials, exports["AWS_DEFAULT_REGION"])
    csv = {"content-type": "text/csv", "accept": "application/json", "x-amzn-sagemaker-target-variant": "only"}

    def invoke(name: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        return dart.exchange(f"/endpoints/{name}/invocations?", wine.csv(0, 1).encode(), headers)

    status, headers, body = invoke("dart-runtime", csv)
    failed, failed_headers, failure = invoke("dart-runtime", {**csv, "content-type": "application/x-nonsense"})
    _, missing_headers, missing = invoke("nowhere", csv)

    assert (status, headers["x-amzn-invoked-production-variant"]) == (200, "only")
    assert json.loads(body) == wine.answers["logistic"][:2]
    assert (failed, read_error(failed_headers, failure)[0]) == (424, "ModelError")
    assert isinstance(json.loads(failure)["OriginalStatusCode"], int)
    assert read_error(missing_headers, missing)[0] == "ValidationError"
    deployment.delete("dart-runtime")
