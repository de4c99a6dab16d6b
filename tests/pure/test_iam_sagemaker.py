"""Each operation asks for the right actions on the right names, with the keys of the service."""

import json

import pytest

from moorage.aws.arns import parse_arn
from moorage.control.dispatch import OPERATIONS
from moorage.iam.sagemaker import RESOURCES, Need, needs

ACCOUNT, REGION = "111111111111", "eu-west-1"


def arn(kind: str, name: str) -> str:
    return f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{kind}/{name}"


def asked(operation: str, **members: object) -> list[tuple[str, str]]:
    return [(need.action, need.resource) for need in needs(operation, members, ACCOUNT, REGION)]


def context(operation: str, **members: object) -> dict[str, tuple[str, ...]]:
    return dict(needs(operation, members, ACCOUNT, REGION)[0].context)


def test_every_operation_of_the_api_is_in_the_table() -> None:
    assert set(OPERATIONS) <= set(RESOURCES)


def test_creating_an_endpoint_asks_about_its_configuration_and_its_tags() -> None:
    tags = [{"Key": "Team", "Value": "a"}]
    assert asked("CreateEndpoint", EndpointName="MyOne", EndpointConfigName="C", Tags=tags) == [
        ("sagemaker:CreateEndpoint", arn("endpoint", "myone")),
        ("sagemaker:AddTags", arn("endpoint", "myone")),
        ("sagemaker:CreateEndpoint", arn("endpoint-config", "c")),
    ]


def test_a_role_that_is_handed_over_must_be_passable() -> None:
    role = f"arn:aws:iam::{ACCOUNT}:role/r"
    assert asked("CreateModel", ModelName="m", ExecutionRoleArn=role) == [
        ("sagemaker:CreateModel", arn("model", "m")),
        ("iam:PassRole", role),
    ]


@pytest.mark.parametrize("operation", ["ListModels", "ListEndpointConfigs", "ListEndpoints"])
def test_lists_are_about_everything(operation: str) -> None:
    assert asked(operation) == [(f"sagemaker:{operation}", "*")]


def test_updating_asks_about_both() -> None:
    assert asked("UpdateEndpoint", EndpointName="e", EndpointConfigName="c") == [
        ("sagemaker:UpdateEndpoint", arn("endpoint", "e")),
        ("sagemaker:UpdateEndpoint", arn("endpoint-config", "c")),
    ]


def test_tags_of_what_is_being_made_are_not_looked_up_and_of_what_is_there_are() -> None:
    made = needs("CreateEndpoint", {"EndpointName": "e", "EndpointConfigName": "C"}, ACCOUNT, REGION)
    assert [need.tagged for need in made] == [None, ("endpoint-config", "C")]
    (tagging,) = needs("AddTags", {"ResourceArn": arn("model", "M"), "Tags": []}, ACCOUNT, REGION)
    assert tagging == Need("sagemaker:AddTags", arn("model", "m"), {}, ("model", "M"))


def test_tags_are_told_by_key_and_value() -> None:
    tags = [{"Key": "Team", "Value": "a"}, {"Key": "b", "Value": ""}]
    found = context("AddTags", ResourceArn=arn("model", "m"), Tags=tags)
    assert found == {"aws:requesttag/team": ("a",), "aws:requesttag/b": ("",), "aws:tagkeys": ("Team", "b")}
    assert context("DeleteTags", ResourceArn=arn("model", "m"), TagKeys=["x"]) == {"aws:tagkeys": ("x",)}


def test_an_endpoint_configuration_tells_what_it_is_made_of() -> None:
    found = context(
        "CreateEndpointConfig",
        EndpointConfigName="c",
        ProductionVariants=[{"ModelName": "M1", "InstanceType": "ml.m5.large"}],
        ShadowProductionVariants=[
            {"ModelName": "m2", "ServerlessConfig": {"MemorySizeInMB": 1024, "MaxConcurrency": 5}}
        ],
        KmsKeyId="k",
        EnableNetworkIsolation=True,
    )
    shown = {key.removeprefix("sagemaker:"): value for key, value in found.items() if value}
    assert json.loads(json.dumps(shown)) == {
        "instancetypes": ["ml.m5.large"],
        "modelarn": [arn("model", "m1"), arn("model", "m2")],
        "networkisolation": ["true"],
        "serverlessmaxconcurrency": ["5"],
        "serverlessmemorysize": ["1024"],
        "volumekmskey": ["k"],
    }


def test_each_pool_of_instances_tells_its_type_and_its_model() -> None:
    pools = [{"InstanceType": "ml.g5.xlarge", "Priority": 1}, {"InstanceType": "ml.c5.large", "ModelNameOverride": "N"}]
    variants = [{"ModelName": "m", "InstancePools": pools}]
    found = context("CreateEndpointConfig", EndpointConfigName="c", ProductionVariants=variants)
    assert found["sagemaker:instancetypes"] == ("ml.g5.xlarge", "ml.c5.large")
    assert found["sagemaker:modelarn"] == (arn("model", "m"), arn("model", "n"))


def test_what_is_no_arn_is_asked_about_as_it_is() -> None:
    assert parse_arn("nonsense") is None
    assert asked("ListTags", ResourceArn="nonsense") == [("sagemaker:ListTags", "nonsense")]
