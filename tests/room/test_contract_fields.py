"""docs/reference/fields.md says of each member of CreateEndpointConfig what the server does with it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from botocore.model import Shape
from tests.support.configs import explained, host, of, pooled, serverless, variant
from tests.support.pipeline import Counter, open_counter
from tests.support.violations import MODEL, valid

from moorage.state import reservations
from moorage.state.records import ReservationRecord

ROOT = Path(__file__).parents[2]
RESERVATION = "arn:aws:sagemaker:us-east-1:000000000000:ml-reservation/r"
ROLE = "arn:aws:iam::000000000000:role/r"
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
RETIRED = "AcceleratorType is no longer supported: Amazon Elastic Inference has been retired."


@dataclass(frozen=True)
class Row:
    """A row of the table."""

    members: tuple[str, ...]
    """Full paths; the first is what the row is about."""
    status: str
    tests: tuple[str, ...]


def rows() -> Iterator[Row]:
    for line in (ROOT / "docs/reference/fields.md").read_text().splitlines():
        if not line.startswith("| `"):
            continue
        _, names, _effect, status, shown, _ = re.split(r"(?<!\\)\|", line)
        first, *further = re.findall(r"`([^`]+)`", names)
        yield Row((first, *(first + name for name in further)), status.strip(), tuple(re.findall(r"`([^`]+)`", shown)))


ROWS = list(rows())


def members_of(shape: Shape, path: str = "") -> Iterator[str]:
    """Give the paths of all members of a request; shadow variants are as production variants."""
    if shape.type_name == "list":
        yield from members_of(shape.member, f"{path}[]")
    if shape.type_name == "structure":
        for name, inner in shape.members.items():
            below = f"{path}.{name}" if path else name
            yield below
            if name != "ShadowProductionVariants":
                yield from members_of(inner, below)


def test_every_member_of_the_newest_model_has_its_row_and_no_other() -> None:
    documented = [member for row in ROWS for member in row.members]
    model = list(members_of(MODEL.operation_model("CreateEndpointConfig").input_shape))
    assert sorted(documented) == sorted(model)


def test_what_works_names_tests_that_there_are() -> None:
    for row in ROWS:
        assert row.status in {"works", "refused"}
        assert bool(row.tests) == (row.status == "works"), row
    named = {name for row in ROWS for name in row.tests}
    missing = [name for name in named if not is_a_test(*name.split("::"))]
    assert missing == []


def is_a_test(file: str, name: str) -> bool:
    path = ROOT / file
    return path.is_file() and re.search(rf"^(async )?def {name}\(", path.read_text(), re.MULTILINE) is not None


def everything(member: str) -> Any:
    """Give a valid value of a member of the request."""
    shape = MODEL.operation_model("CreateEndpointConfig").input_shape
    return valid(shape.members[member], everything=True)


def in_a_variant(member: str) -> Any:
    shape = MODEL.shape_for("ProductionVariant")
    return valid(shape.members[member], everything=True)


GPU = "ml.p4d.24xlarge"
PREFIX_AWARE = {
    "RoutingStrategy": "PREFIX_AWARE",
    "PrefixAwareRoutingConfig": {"PrefixLength": 1024, "ConcurrencyThreshold": 1},
}
REQUESTS: dict[str, dict[str, Any]] = {
    "AcceleratorType": of(variant(AcceleratorType="ml.eia1.medium")),
    "ServerlessConfig": of(serverless()),
    "ManagedInstanceScaling": of(host(ManagedInstanceScaling={"Status": "ENABLED"}), ExecutionRoleArn=ROLE),
    "AcceleratorPartitionLayouts": of(
        host(InstanceType=GPU, AcceleratorPartitionLayouts=in_a_variant("AcceleratorPartitionLayouts")),
        ExecutionRoleArn=ROLE,
    ),
    "AsyncInferenceConfig": of(AsyncInferenceConfig=everything("AsyncInferenceConfig")),
    "ExplainerConfig": explained(ShapBaseline="1,2"),
    "ExecutionRoleArn": of(ExecutionRoleArn=ROLE),
    "VpcConfig": of(VpcConfig=everything("VpcConfig")),
    "MetricsConfig": of(MetricsConfig={"EnableEnhancedMetrics": True}),
    "CrossRegionTrafficConfig": of(CrossRegionTrafficConfig=everything("CrossRegionTrafficConfig")),
}
"""By the member's name or full path, a request that breaks no rule of AWS's and uses it."""


def request_for(path: str) -> tuple[str, dict[str, Any]]:
    """Give the request that uses a path, or the innermost member of it that the table of requests knows."""
    if path in REQUESTS:
        return path, REQUESTS[path]
    names = path.replace("[]", "").split(".")
    name = next(name for name in reversed(names) if name in REQUESTS)
    return name, REQUESTS[name]


@pytest.mark.parametrize("row", [row for row in ROWS if row.status == "refused"], ids=lambda row: row.members[0])
async def test_what_is_called_refused_is_refused_by_name(tmp_path: Path, row: Row) -> None:
    name, request = request_for(row.members[0])
    async with open_counter(tmp_path) as counter:
        await counter.ask("CreateModel", {"ModelName": "m", "PrimaryContainer": {"Image": IMAGE}})
        status, content = await counter.ask("CreateEndpointConfig", request)
    assert (status, content["__type"]) == (400, "ValidationException")
    refused = re.fullmatch(r"(.+) is not supported by Moorage yet\.", content["message"])
    if name == "AcceleratorType":
        assert content["message"] == RETIRED
    else:
        assert refused is not None, content
        assert "." not in name or refused[1] == name
        assert set(refused[1].split(".")) & set(row.members[0].replace("[]", "").split("."))


async def test_a_configuration_of_all_that_works_is_made(tmp_path: Path) -> None:
    whole = variant(
        "a",
        InstanceType="ml.p3.2xlarge",
        InitialVariantWeight=0.5,
        RoutingConfig=PREFIX_AWARE,
        CoreDumpConfig={"DestinationS3Uri": "s3://cores", "KmsKeyId": "alias/cores"},
        VolumeSizeInGB=512,
        ModelDataDownloadTimeoutInSeconds=60,
        ContainerStartupHealthCheckTimeoutInSeconds=3600,
        EnableSSMAccess=True,
        InferenceAmiVersion="al2-ami-sagemaker-inference-gpu-2",
    )
    request = of(
        whole,
        KmsKeyId="alias/disk",
        EnableNetworkIsolation=True,
        ShadowProductionVariants=[{**whole, "VariantName": "s"}],
        DataCaptureConfig=everything("DataCaptureConfig"),
        Tags=[{"Key": "k", "Value": "v"}],
    )
    pool = {"InstanceType": "ml.m5.large", "Priority": 2, "ModelNameOverride": "m"}
    reserved = {"CapacityReservationPreference": "capacity-reservations-only", "MlReservationArn": RESERVATION}
    of_pools = pooled(pool, VariantInstanceProvisionTimeoutInSeconds=300, CapacityReservationConfig=reserved)
    other = {**of({**of_pools, "InitialVariantWeight": 1.0}), "EndpointConfigName": "p"}
    works = {member for row in ROWS if row.status == "works" for member in row.members}
    paths = paths_of(request) | paths_of(other)
    assert works == {path for path in paths if not path.startswith("ShadowProductionVariants[")}
    async with open_counter(tmp_path) as counter:
        await counter.ask("CreateModel", {"ModelName": "m", "PrimaryContainer": {"Image": IMAGE}})
        await reserve(counter)
        for whole in (request, other):
            assert await counter.ask("CreateEndpointConfig", whole) == (200, {"EndpointConfigArn": ANY})
            _, described = await counter.ask(
                "DescribeEndpointConfig", {"EndpointConfigName": whole["EndpointConfigName"]}
            )
            given = {name: value for name, value in whole.items() if name != "Tags"}
            assert {name: described[name] for name in given} == given


async def reserve(counter: Counter) -> None:
    """Make the reservation that ``RESERVATION`` names."""
    made = ReservationRecord("000000000000", "us-east-1", "r", "ml.m5.large", 1, 0.0)
    await counter.desk.services.store.transact(lambda connection: reservations.add(connection, made))


def paths_of(value: Any, path: str = "") -> set[str]:
    """Give the paths of all members that a request has."""
    if isinstance(value, list):
        return set[str]().union(*(paths_of(element, f"{path}[]") for element in value))
    if not isinstance(value, dict):
        return set()
    below = {name: f"{path}.{name}" if path else name for name in value}
    return set(below.values()).union(*(paths_of(value[name], below[name]) for name in value))
