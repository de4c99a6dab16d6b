"""Two faults in one request: the one that control-plane.md section 2.1 puts first is told, and only it."""

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from tests.support.configs import variant
from tests.support.control import IMAGE, ROLE, ControlPlane, control_plane
from tests.support.product import wait_until
from tests.support.raw import RawClient

from moorage.testing.fake_node import Script

ARN = "arn:aws:sagemaker:us-east-1:000000000000"
BAD_NAME = "1 validation error detected: Value '"


@dataclass(frozen=True)
class Asked:
    """A request that is being spoiled."""

    members: dict[str, Any]
    whole: bool = True
    wrong_secret: bool = False
    nobody: bool = False
    """Sent by a key without any permission."""

    def having(self, **members: Any) -> "Asked":
        """Give it with other members."""
        return replace(self, members={**self.members, **members})


@dataclass(frozen=True)
class Fault:
    """A way to spoil a request, and the beginning of the answer."""

    name: str
    spoil: Callable[[Asked], Asked]
    code: str
    text: str


def member(name: str, text: str, **members: Any) -> Fault:
    """Spoil members; the answer is a ValidationException."""
    return Fault(name, lambda asked: asked.having(**members), "ValidationException", text)


SYNTAX = Fault(
    "syntax", lambda asked: replace(asked, whole=False), "SerializationException", "The request body is not valid JSON"
)
SIGNATURE = Fault(
    "signature",
    lambda asked: replace(asked, wrong_secret=True),
    "InvalidSignatureException",
    "The request signature we calculated does not match the signature you provided.",
)
DENIED = Fault("permission", lambda asked: replace(asked, nobody=True), "AccessDeniedException", "User: arn:aws:iam::")


def kind(**members: Any) -> Fault:
    """Give a member a value of the wrong kind."""
    return Fault(
        "type",
        lambda asked: asked.having(**members),
        "SerializationException",
        "STRING_VALUE can not be converted to a",
    )


ROLLING = {
    "RollingUpdatePolicy": {"MaximumBatchSize": {"Type": "INSTANCE_COUNT", "Value": 1}, "WaitIntervalInSeconds": 0}
}
TAGS = {"Tags": [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}]}
TWICE = 'Tag keys must be unique: "a" was given more than once.'


def in_variant(name: str, text: str, **changes: Any) -> Fault:
    """Spoil the variant of a configuration, keeping what else was spoiled in it."""

    def spoil(asked: Asked) -> Asked:
        (first,) = asked.members["ProductionVariants"]
        return asked.having(ProductionVariants=[{**first, **changes}])

    return Fault(name, spoil, "ValidationException", text)


def in_container(name: str, text: str, **changes: Any) -> Fault:
    """Spoil the container of a model."""

    def spoil(asked: Asked) -> Asked:
        return asked.having(PrimaryContainer={**asked.members["PrimaryContainer"], **changes})

    return Fault(name, spoil, "ValidationException", text)


def in_item(name: str, text: str, **changes: Any) -> Fault:
    """Spoil the first item of a change of weights."""

    def spoil(asked: Asked) -> Asked:
        (first,) = asked.members["DesiredWeightsAndCapacities"]
        return asked.having(DesiredWeightsAndCapacities=[{**first, **changes}])

    return Fault(name, spoil, "ValidationException", text)


def missing(what: str, arn: str) -> str:
    return f'Could not find {what} "{ARN}:{arn}".'


OPERATIONS: dict[str, tuple[dict[str, Any], list[Fault]]] = {
    "CreateModel": (
        {"ModelName": "new", "PrimaryContainer": {"Image": IMAGE}, "ExecutionRoleArn": ROLE},
        [
            SYNTAX,
            kind(EnableNetworkIsolation="yes"),
            SIGNATURE,
            member("constraint", BAD_NAME, ExecutionRoleArn="x" * 19 + "*:"),
            DENIED,
            member("rule", TWICE, **TAGS),
            member("taken", f'Cannot create already existing model "{ARN}:model/m".', ModelName="m"),
            in_container("not built", "PrimaryContainer.ContainerMetricsConfig is not", ContainerMetricsConfig={}),
            in_container("image", "Requested image nobody/knows:1 not found.", Image="nobody/knows:1"),
            in_container("artefact", "Could not access model data at s3://b/k", ModelDataUrl="s3://b/k.tar.gz"),
        ],
    ),
    "CreateEndpointConfig": (
        {"EndpointConfigName": "new", "ProductionVariants": [variant()]},
        [
            SYNTAX,
            kind(EnableNetworkIsolation="yes"),
            SIGNATURE,
            member("constraint", BAD_NAME, KmsKeyId="*"),
            DENIED,
            in_variant(
                "rule",
                "ManagedInstanceScaling is only supported for inference component endpoints.",
                ManagedInstanceScaling={"MinInstanceCount": 1},
            ),
            member(
                "taken",
                f'Cannot create already existing endpoint configuration "{ARN}:endpoint-config/c".',
                EndpointConfigName="c",
            ),
            in_variant("reference", missing("model", "model/none"), ModelName="none"),
            member("not built", "MetricsConfig", MetricsConfig={"EnableEnhancedMetrics": True}),
        ],
    ),
    "CreateEndpoint": (
        {"EndpointName": "new", "EndpointConfigName": "c"},
        [
            SYNTAX,
            kind(DeploymentConfig="x"),
            SIGNATURE,
            member("constraint", BAD_NAME, DeploymentConfig={"AutoRollbackConfiguration": {"Alarms": []}}),
            DENIED,
            member("rule", TWICE, **TAGS),
            member("taken", f'Cannot create already existing endpoint "{ARN}:endpoint/ep".', EndpointName="ep"),
            member("reference", missing("endpoint configuration", "endpoint-config/none"), EndpointConfigName="none"),
            member("not built", "DeploymentConfig.RollingUpdatePolicy is not", DeploymentConfig=ROLLING),
        ],
    ),
    "UpdateEndpoint": (
        {"EndpointName": "ep", "EndpointConfigName": "c"},
        [
            SYNTAX,
            kind(RetainDeploymentConfig="x"),
            SIGNATURE,
            member("constraint", BAD_NAME, ExcludeRetainedVariantProperties=[{"VariantPropertyType": "x"}]),
            DENIED,
            member(
                "rule",
                "DeploymentConfig cannot be specified when RetainDeploymentConfig is true.",
                RetainDeploymentConfig=True,
                DeploymentConfig={},
            ),
            member("name", missing("endpoint", "endpoint/none"), EndpointName="none"),
            member("reference", missing("endpoint configuration", "endpoint-config/none"), EndpointConfigName="none"),
            member("state", f'Cannot update in-progress endpoint "{ARN}:endpoint/slow".', EndpointName="slow"),
            member("not built", "DeploymentConfig.RollingUpdatePolicy is not", DeploymentConfig=ROLLING),
        ],
    ),
    "UpdateEndpointWeightsAndCapacities": (
        {"EndpointName": "ep", "DesiredWeightsAndCapacities": [{"VariantName": "v", "DesiredWeight": 1.0}]},
        [
            SYNTAX,
            kind(DesiredWeightsAndCapacities="x"),
            SIGNATURE,
            in_item("constraint", BAD_NAME, DesiredWeight=-1),
            DENIED,
            in_item(
                "rule",
                "ProvisionedConcurrency must not be greater than MaxConcurrency",
                ServerlessUpdateConfig={"MaxConcurrency": 1, "ProvisionedConcurrency": 2},
            ),
            member("name", missing("endpoint", "endpoint/none"), EndpointName="none"),
            in_item("reference", 'The variant name(s) "w" is/are not present within', VariantName="w"),
            member("state", f'Cannot update in-progress endpoint "{ARN}:endpoint/slow".', EndpointName="slow"),
            in_item("capacity", "DesiredInstanceCount must be at least 1", DesiredInstanceCount=0),
            in_item(
                "kind",
                "ServerlessUpdateConfig can only be specified for a serverless variant: ",
                ServerlessUpdateConfig={"MaxConcurrency": 1},
            ),
        ],
    ),
    "AddTags": (
        {"ResourceArn": f"{ARN}:model/m", "Tags": [{"Key": "k", "Value": "v"}]},
        [
            SYNTAX,
            kind(Tags="x"),
            SIGNATURE,
            member("constraint", BAD_NAME, Tags=[{"Key": "*", "Value": ""}]),
            DENIED,
            member("rule", TWICE, **TAGS),
            member("name", 'Could not find model "', ResourceArn=f"{ARN}:model/none"),
        ],
    ),
    "ListEndpoints": (
        {},
        [
            SYNTAX,
            kind(MaxResults="x"),
            SIGNATURE,
            member("constraint", BAD_NAME, MaxResults=0),
            DENIED,
            member("token", 'Invalid pagination token "x"', NextToken="x"),
        ],
    ),
}

SINGLE = [(operation, fault) for operation, (_, faults) in OPERATIONS.items() for fault in faults]
PAIRS = [
    (operation, first, second)
    for operation, (_, faults) in OPERATIONS.items()
    for first, second in itertools.combinations(faults, 2)
]


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with control_plane(tmp_path_factory.mktemp("c")) as running:
        running.scripts["slow"] = Script(ready_after=1000)
        yield running


@pytest.fixture(scope="module")
def client(plane: ControlPlane) -> Iterator[RawClient]:
    raw = RawClient(plane.url)
    for operation, members in (
        ("CreateModel", {"ModelName": "m", "PrimaryContainer": {"Image": IMAGE}, "ExecutionRoleArn": ROLE}),
        ("CreateEndpointConfig", {"EndpointConfigName": "c", "ProductionVariants": [variant()]}),
        ("CreateEndpoint", {"EndpointName": "ep", "EndpointConfigName": "c"}),
        ("CreateEndpoint", {"EndpointName": "slow", "EndpointConfigName": "c"}),
    ):
        assert raw.ask(operation, members)[0] == 200
    wait_until(
        lambda: raw.ask("DescribeEndpoint", {"EndpointName": "ep"})[1]["EndpointStatus"] == "InService",
        within=20,
        what="the endpoint is in service",
    )
    yield raw
    raw.close()


@pytest.fixture(scope="module")
def nobody(client: RawClient) -> dict[str, str]:
    """A key without any permission."""
    status, key = client.send(None, b'{"user_name":"nobody","policies":[]}', "/_moorage/keys")
    assert status == 200, key
    return {"key_id": key["access_key_id"], "secret": key["secret_access_key"]}


def answer(client: RawClient, nobody: dict[str, str], operation: str, *faults: Fault) -> tuple[str, str]:
    asked = Asked(OPERATIONS[operation][0])
    # The later fault is spoiled first: where both want the same member, it is the earlier one that stays.
    for fault in reversed(faults):
        asked = fault.spoil(asked)
    body = json.dumps(asked.members).encode()
    signing = dict(nobody) if asked.nobody else {}
    if asked.wrong_secret:
        signing["secret"] = "wrong"
    status, content = client.send(operation, body if asked.whole else body[:-1], **signing)
    assert status == 400
    return content["__type"], content["message"]


@pytest.mark.parametrize(("operation", "fault"), SINGLE, ids=lambda part: getattr(part, "name", part))
def test_each_fault_alone_is_told(client: RawClient, nobody: dict[str, str], operation: str, fault: Fault) -> None:
    code, text = answer(client, nobody, operation, fault)
    assert (code, text[: len(fault.text)]) == (fault.code, fault.text)


@pytest.mark.parametrize(("operation", "first", "second"), PAIRS, ids=lambda part: getattr(part, "name", part))
def test_of_two_faults_the_first_is_told(
    client: RawClient, nobody: dict[str, str], operation: str, first: Fault, second: Fault
) -> None:
    code, text = answer(client, nobody, operation, first, second)
    assert (code, text[: len(first.text)]) == (first.code, first.text)
