"""The calls of the Terraform AWS provider for a model, an endpoint configuration and an endpoint, member by member.

What a resource sends and reads back is that of ``internal/service/sagemaker`` of hashicorp/terraform-provider-aws
(control-plane.md section 13.5). A plan without drift is one where what is read equals what was written.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.support.fixtures import Deployment, Wine
from tests.support.product import IMAGE, ROLE

pytestmark = pytest.mark.client("Terraform AWS provider (calls replayed)")

Block = Mapping[str, Any]
ALL_AT_ONCE: Block = {
    "BlueGreenUpdatePolicy": {
        "TerminationWaitInSeconds": 0,
        "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0},
    }
}
"""``deployment_config`` with its defaults written out, as the provider does."""


@dataclass
class Terraform:
    """The provider's functions, each with the calls that it makes."""

    deployment: Deployment

    def __post_init__(self) -> None:
        self.sagemaker = self.deployment.sagemaker

    def tags_of(self, arn: str) -> dict[str, str]:
        tags = self.sagemaker.list_tags(ResourceArn=arn)["Tags"]
        return {tag["Key"]: tag["Value"] for tag in tags}

    def update_tags(self, arn: str, before: Block, after: Block) -> None:
        if removed := [key for key in before if key not in after]:
            self.sagemaker.delete_tags(ResourceArn=arn, TagKeys=removed)
        if changed := {key: value for key, value in after.items() if before.get(key) != value}:
            self.sagemaker.add_tags(ResourceArn=arn, Tags=as_list(changed))

    def create_model(self, name: str, container: Block, tags: Block) -> None:
        self.sagemaker.create_model(
            ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE, Tags=as_list(tags)
        )

    def read_model(self, name: str) -> dict[str, Any] | None:
        """None when any ValidationException says that it is gone."""
        try:
            found = self.sagemaker.describe_model(ModelName=name)
        except ClientError as fault:
            if fault.response["Error"]["Code"] != "ValidationException":
                raise
            return None
        return {
            "primary_container": found.get("PrimaryContainer"),
            "container": found.get("Containers", []),
            "role": found["ExecutionRoleArn"],
            "isolation": found.get("EnableNetworkIsolation", False),
            "vpc_config": found.get("VpcConfig"),
            "inference_execution_config": found.get("InferenceExecutionConfig"),
            "tags": self.tags_of(found["ModelArn"]),
        }

    def delete_model(self, name: str) -> None:
        done_when_missing(lambda: self.sagemaker.delete_model(ModelName=name), "Could not find model")

    def create_config(self, name: str, variants: list[Block], tags: Block, **others: Any) -> None:
        self.sagemaker.create_endpoint_config(
            EndpointConfigName=name, ProductionVariants=variants, Tags=as_list(tags), **others
        )

    def read_config(self, name: str) -> dict[str, Any]:
        found = self.sagemaker.describe_endpoint_config(EndpointConfigName=name)
        blocks = ("KmsKeyId", "ShadowProductionVariants", "DataCaptureConfig", "AsyncInferenceConfig")
        return {
            "production_variants": found["ProductionVariants"],
            "others": {block: found[block] for block in blocks if found.get(block)},
            "tags": self.tags_of(found["EndpointConfigArn"]),
        }

    def delete_config(self, name: str) -> None:
        done_when_missing(
            lambda: self.sagemaker.delete_endpoint_config(EndpointConfigName=name),
            "Could not find endpoint configuration",
        )

    def create_endpoint(self, name: str, config: str, tags: Block, **deployment_config: Any) -> None:
        self.sagemaker.create_endpoint(
            EndpointName=name, EndpointConfigName=config, Tags=as_list(tags), **deployment_config
        )
        self.wait_in_service(name)

    def read_endpoint(self, name: str) -> dict[str, Any]:
        found = self.sagemaker.describe_endpoint(EndpointName=name)
        return {
            "endpoint_config_name": found["EndpointConfigName"],
            "deployment_config": found.get("LastDeploymentConfig"),
            "failure": found.get("FailureReason"),
            "tags": self.tags_of(found["EndpointArn"]),
        }

    def update_endpoint(self, name: str, config: str, **deployment_config: Any) -> None:
        self.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=config, **deployment_config)
        self.wait_in_service(name)

    def wait_in_service(self, name: str) -> None:
        waiter = self.sagemaker.get_waiter("endpoint_in_service")
        waiter.wait(EndpointName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 120})

    def delete_endpoint(self, name: str) -> None:
        try:
            self.sagemaker.delete_endpoint(EndpointName=name)
        except ClientError as fault:
            if fault.response["Error"]["Code"] != "ValidationException":
                raise
            return
        waiter = self.sagemaker.get_waiter("endpoint_deleted")
        waiter.wait(EndpointName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})


def as_list(tags: Block) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def done_when_missing(delete: Any, text: str) -> None:
    try:
        delete()
    except ClientError as fault:
        error = fault.response["Error"]
        if error["Code"] != "ValidationException" or text not in error["Message"]:
            raise


def a_variant(model: str, **changes: Any) -> Block:
    """``production_variants`` with the provider's defaults: the weight, and ``enable_ssm_access`` as a plain false."""
    return {
        "VariantName": "terraform-20260101000000000000000001",
        "ModelName": model,
        "InitialInstanceCount": 1,
        "InstanceType": "ml.m5.large",
        "InitialVariantWeight": 1.0,
        "EnableSSMAccess": False,
        **changes,
    }


@pytest.fixture(scope="module")
def terraform(deployment: Deployment) -> Terraform:
    return Terraform(deployment)


@pytest.fixture(scope="module")
def model_data(deployment: Deployment, wine: Wine) -> str:
    deployment.s3.create_bucket(Bucket="terraform")
    deployment.s3.put_object(Bucket="terraform", Key="model.tar.gz", Body=wine.artefact("logistic"))
    return "s3://terraform/model.tar.gz"


def test_a_model_has_no_drift_takes_new_tags_and_goes(terraform: Terraform, model_data: str) -> None:
    written = {"Image": IMAGE, "Mode": "SingleModel", "ModelDataUrl": model_data, "Environment": {"GREETING": "ahoy"}}
    terraform.create_model("tf-model", written, {"team": "cellar", "year": "1987"})

    read = terraform.read_model("tf-model")
    arn = "arn:aws:sagemaker:us-east-1:000000000000:model/tf-model"
    terraform.update_tags(arn, {"team": "cellar", "year": "1987"}, {"team": "vault", "place": "here"})
    after = terraform.tags_of(arn)
    terraform.delete_model("tf-model")
    terraform.delete_model("tf-model")

    assert read is not None
    container = read.pop("primary_container")
    computed = {"ModelDataSource", "AdditionalModelDataSources"}
    assert {key: value for key, value in container.items() if key not in computed} == written
    assert read == {
        "container": [],
        "role": ROLE,
        "isolation": False,
        "vpc_config": None,
        "inference_execution_config": None,
        "tags": {"team": "cellar", "year": "1987"},
    }
    assert after == {"team": "vault", "place": "here"}
    assert terraform.read_model("tf-model") is None


def test_a_configuration_has_no_drift_and_goes(terraform: Terraform, model_data: str) -> None:
    terraform.create_model("tf-config", {"Image": IMAGE, "Mode": "SingleModel", "ModelDataUrl": model_data}, {})
    variants = [a_variant("tf-config"), a_variant("tf-config", VariantName="other", InitialVariantWeight=0.0)]
    terraform.create_config("tf-config", variants, {})

    read = terraform.read_config("tf-config")
    terraform.delete_config("tf-config")
    terraform.delete_config("tf-config")

    assert read == {"production_variants": variants, "others": {}, "tags": {}}


def test_a_configuration_with_capture_shadow_and_strategy_has_no_drift(terraform: Terraform, model_data: str) -> None:
    terraform.create_model("tf-blocks", {"Image": IMAGE, "Mode": "SingleModel", "ModelDataUrl": model_data}, {})
    variant = a_variant("tf-blocks", RoutingConfig={"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"})
    others = {
        "ShadowProductionVariants": [a_variant("tf-blocks", VariantName="shadow", InitialVariantWeight=0.5)],
        "DataCaptureConfig": {
            "EnableCapture": True,
            "InitialSamplingPercentage": 50,
            "DestinationS3Uri": "s3://terraform/captured",
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
            "CaptureContentTypeHeader": {"CsvContentTypes": ["text/csv"], "JsonContentTypes": ["application/json"]},
        },
    }
    terraform.create_config("tf-blocks", [variant], {}, **others)

    read = terraform.read_config("tf-blocks")
    terraform.delete_config("tf-blocks")

    assert read == {"production_variants": [variant], "others": others, "tags": {}}


@pytest.mark.slow  # starts instances twice
def test_an_endpoint_is_made_updated_and_destroyed(terraform: Terraform, model_data: str) -> None:
    terraform.create_model("tf-ep", {"Image": IMAGE, "Mode": "SingleModel", "ModelDataUrl": model_data}, {})
    terraform.create_config("tf-ep-1", [a_variant("tf-ep")], {})
    terraform.create_endpoint("tf-ep", "tf-ep-1", {"team": "cellar"})
    made = terraform.read_endpoint("tf-ep")

    # create_before_destroy: the next configuration, the update, and only then the old configuration goes.
    terraform.create_config("tf-ep-2", [a_variant("tf-ep", InitialInstanceCount=2)], {})
    terraform.update_endpoint("tf-ep", "tf-ep-2", DeploymentConfig=ALL_AT_ONCE)
    terraform.delete_config("tf-ep-1")
    updated = terraform.read_endpoint("tf-ep")
    count = len(terraform.deployment.moorage.pids("instance", "tf-ep"))

    terraform.delete_endpoint("tf-ep")
    terraform.delete_endpoint("tf-ep")
    terraform.delete_config("tf-ep-2")
    terraform.delete_model("tf-ep")

    common = {"failure": None, "tags": {"team": "cellar"}}
    assert made == {"endpoint_config_name": "tf-ep-1", "deployment_config": None, **common}
    assert updated == {"endpoint_config_name": "tf-ep-2", "deployment_config": ALL_AT_ONCE, **common}
    assert count == 2


@pytest.mark.slow  # starts an instance
def test_a_deployment_config_of_the_creation_is_read_back(terraform: Terraform, model_data: str) -> None:
    terraform.create_model("tf-deploy", {"Image": IMAGE, "Mode": "SingleModel", "ModelDataUrl": model_data}, {})
    terraform.create_config("tf-deploy", [a_variant("tf-deploy")], {})
    terraform.create_endpoint("tf-deploy", "tf-deploy", {}, DeploymentConfig=ALL_AT_ONCE)

    read = terraform.read_endpoint("tf-deploy")
    terraform.delete_endpoint("tf-deploy")

    assert read["deployment_config"] == ALL_AT_ONCE
