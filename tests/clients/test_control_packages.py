"""boto3 against the registry of models: packages, versions of a group, and models that are made of them."""

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.support.control import IMAGE, ROLE, ControlPlane, control_plane

REGION = "us-test-1"
ARN = f"arn:aws:sagemaker:{REGION}:000000000000"
URL = "s3://models/m.tar.gz"
CONTAINER = {"Image": IMAGE, "ModelDataUrl": URL, "Environment": {"A": "1", "B": "1"}}
SPECIFICATION = {"Containers": [CONTAINER], "SupportedContentTypes": ["text/csv"]}


@pytest.fixture
def sagemaker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with control_plane(tmp_path_factory.mktemp("c")) as running:
        running.put("models", "m.tar.gz")
        yield client_of(running)


def client_of(plane: ControlPlane) -> Any:
    return plane.client(region=REGION)


def refused(call: Any, **members: Any) -> str:
    with pytest.raises(ClientError) as fault:
        call(**members)
    assert fault.value.response["Error"]["Code"] == "ValidationException"
    return str(fault.value.response["Error"]["Message"])


def register(sagemaker: Any, **members: Any) -> str:
    given = {"ModelPackageGroupName": "wines", "InferenceSpecification": SPECIFICATION, **members}
    return str(sagemaker.create_model_package(**given)["ModelPackageArn"])


def deploy(sagemaker: Any, name: str, **container: Any) -> dict[str, Any]:
    """Make a model and an endpoint of it; gives what the endpoint's instance is made of."""
    sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE)
    variant = {"VariantName": "v", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    waiter = sagemaker.get_waiter("endpoint_in_service")
    waiter.wait(EndpointName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 200})
    described: dict[str, Any] = sagemaker.describe_endpoint(EndpointName=name)["ProductionVariants"][0]
    return described


def test_a_package_is_given_back_as_it_was_registered(sagemaker: Any) -> None:
    arn = sagemaker.create_model_package(
        ModelPackageName="wine",
        ModelPackageDescription="of Tuscany",
        InferenceSpecification=SPECIFICATION,
        CustomerMetadataProperties={"year": "1987"},
        Tags=[{"Key": "team", "Value": "cellar"}],
    )["ModelPackageArn"]
    described = sagemaker.describe_model_package(ModelPackageName="wine")
    assert arn == described["ModelPackageArn"] == f"{ARN}:model-package/wine"
    assert described["InferenceSpecification"] == SPECIFICATION
    assert described["CustomerMetadataProperties"] == {"year": "1987"}
    assert (described["ModelPackageName"], described["ModelPackageStatus"]) == ("wine", "Completed")
    assert described["ModelPackageStatusDetails"] == {"ValidationStatuses": []}
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "team", "Value": "cellar"}]
    assert refused(sagemaker.create_model_package, ModelPackageName="Wine", InferenceSpecification=SPECIFICATION) == (
        f'Cannot create already existing model package "{ARN}:model-package/Wine".'
    )
    sagemaker.delete_model_package(ModelPackageName=arn)
    assert refused(sagemaker.describe_model_package, ModelPackageName="wine") == f"ModelPackage {arn} does not exist."


def test_versions_of_a_group_are_counted_and_no_number_is_given_twice(sagemaker: Any) -> None:
    missing = f"ModelPackageGroup {ARN}:model-package-group/wines does not exist."
    assert refused(sagemaker.create_model_package, ModelPackageGroupName="wines") == missing
    group = sagemaker.create_model_package_group(ModelPackageGroupName="wines")["ModelPackageGroupArn"]
    assert [register(sagemaker) for _ in range(2)] == [f"{ARN}:model-package/wines/{n}" for n in (1, 2)]
    sagemaker.delete_model_package(ModelPackageName=f"{ARN}:model-package/wines/2")
    third = register(sagemaker, ModelPackageGroupName=group)
    assert third == f"{ARN}:model-package/wines/3"
    described = sagemaker.describe_model_package(ModelPackageName=third)
    assert (described["ModelPackageGroupName"], described["ModelPackageVersion"]) == ("wines", 3)
    with pytest.raises(sagemaker.exceptions.ConflictException):
        sagemaker.delete_model_package_group(ModelPackageGroupName="wines")
    for version in (1, 3):
        sagemaker.delete_model_package(ModelPackageName=f"wines/{version}")
    sagemaker.delete_model_package_group(ModelPackageGroupName=group)
    assert refused(sagemaker.describe_model_package_group, ModelPackageGroupName="wines") == missing


def test_packages_are_listed_by_type_group_and_approval_over_pages(sagemaker: Any) -> None:
    for name in ("wines", "wines-too"):
        sagemaker.create_model_package_group(ModelPackageGroupName=name)
        for approval in ("Approved", "Rejected", "Approved"):
            register(sagemaker, ModelPackageGroupName=name, ModelApprovalStatus=approval)
    sagemaker.create_model_package(ModelPackageName="alone", InferenceSpecification=SPECIFICATION)

    def listed(**members: Any) -> list[str]:
        pages = sagemaker.get_paginator("list_model_packages").paginate(SortBy="Name", MaxResults=1, **members)
        found = [one["ModelPackageArn"] for page in pages for one in page["ModelPackageSummaryList"]]
        return [arn.removeprefix(f"{ARN}:model-package/") for arn in sorted(found)]

    assert listed() == ["alone"]
    assert listed(ModelPackageGroupName="wines") == ["wines/1", "wines/2", "wines/3"]
    assert listed(ModelPackageGroupName="wines", ModelApprovalStatus="Approved") == ["wines/1", "wines/3"]
    assert len(listed(ModelPackageType="Versioned")) == 6
    assert len(listed(ModelPackageType="Both")) == 7
    groups = sagemaker.list_model_package_groups(SortBy="Name", SortOrder="Ascending")["ModelPackageGroupSummaryList"]
    assert [one["ModelPackageGroupName"] for one in groups] == ["wines", "wines-too"]


def test_only_an_approved_version_is_deployed(sagemaker: Any) -> None:
    sagemaker.create_model_package_group(ModelPackageGroupName="wines")
    arn = register(sagemaker)
    model = {"ModelName": "m", "PrimaryContainer": {"ModelPackageName": arn}, "ExecutionRoleArn": ROLE}
    assert refused(sagemaker.create_model, **model) == (
        f"ModelPackage {arn} cannot be deployed because its ModelApprovalStatus is PendingManualApproval: approve it "
        "with UpdateModelPackage."
    )
    sagemaker.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Approved", ApprovalDescription="tasted")
    assert sagemaker.describe_model_package(ModelPackageName=arn)["ApprovalDescription"] == "tasted"
    described = deploy(sagemaker, "m", ModelPackageName=arn, Environment={"B": "2"})
    assert described["DeployedImages"][0]["SpecifiedImage"] == IMAGE
    shown = sagemaker.describe_model(ModelName="m")["PrimaryContainer"]
    assert shown["ModelPackageName"] == arn
    sagemaker.delete_model_package(ModelPackageName=arn)  # what runs has its own copy
    assert sagemaker.describe_endpoint(EndpointName="m")["EndpointStatus"] == "InService"


def test_another_specification_of_a_package_is_deployed_by_its_name(sagemaker: Any) -> None:
    other = {**CONTAINER, "ModelDataUrl": "s3://models/none.tar.gz"}
    sagemaker.create_model_package(
        ModelPackageName="wine",
        InferenceSpecification=SPECIFICATION,
        AdditionalInferenceSpecifications=[{"Name": "other", "Containers": [other]}],
    )
    assert deploy(sagemaker, "m", ModelPackageName="wine")["CurrentInstanceCount"] == 1

    def create(specification: str) -> str:
        container = {"ModelPackageName": "wine", "InferenceSpecificationName": specification}
        return refused(sagemaker.create_model, ModelName="n", PrimaryContainer=container)

    assert create("other").startswith("Could not access model data at s3://models/none.tar.gz.")
    assert create("nobodys") == (f"ModelPackage {ARN}:model-package/wine has no InferenceSpecification nobodys.")


def test_what_is_wrong_with_a_package_is_said(sagemaker: Any) -> None:
    def create(**members: Any) -> str:
        return refused(sagemaker.create_model_package, **members)

    assert create(InferenceSpecification=SPECIFICATION) == "Missing ARN."
    assert create(ModelPackageName="a", ModelPackageGroupName="b") == (
        "Both ModelPackageName and ModelPackageGroupName are provided in the input. Cannot determine which one to use."
    )
    folder = {"Containers": [{"Image": IMAGE, "ModelDataUrl": "s3://models/folder/"}]}
    assert create(ModelPackageName="a", InferenceSpecification=folder) == (
        'ModelDataUrl must point to a single gzip compressed tar archive (.tar.gz suffix): "s3://models/folder/".'
    )
    assert create(ModelPackageName="a", CertifyForMarketplace=True) == (
        "CertifyForMarketplace is not supported by Moorage yet."
    )
    model = {"ModelName": "m", "PrimaryContainer": {"ModelPackageName": "none"}}
    assert refused(sagemaker.create_model, **model) == f"ModelPackage {ARN}:model-package/none does not exist."
