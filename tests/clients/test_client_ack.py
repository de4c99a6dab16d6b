"""The calls of the ACK controller for SageMaker: describe, create, look again until settled, update, delete.

What it sends and how it reads errors is that of ``pkg/resource`` of aws-controllers-k8s/sagemaker-controller
(control-plane.md section 13.6).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.support import models
from tests.support.fixtures import Deployment, Wine
from tests.support.product import IMAGE, ROLE, wait_until

pytestmark = pytest.mark.client("ACK controller (calls replayed)")

MODIFYING = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
"""Statuses in which the controller only looks again later."""
INTERNAL = "Request to service failed"
"""What a FailureReason begins with when the controller may try the same update again."""


class Requeue(Exception):
    """The controller looks at the resource again later."""


@dataclass
class Controller:
    """The reconcile loops of the three resources, as one pass each."""

    sagemaker: Any

    def find(self, describe: Callable[[], dict[str, Any]], prefix: str) -> dict[str, Any] | None:
        """None only for a ValidationException that begins with the prefix; anything else is an error."""
        try:
            return describe()
        except ClientError as fault:
            error = fault.response["Error"]
            if error["Code"] == "ValidationException" and error["Message"].startswith(prefix):
                return None
            raise

    def model(self, name: str, model_data: str) -> None:
        found = self.find(lambda: self.sagemaker.describe_model(ModelName=name), "Could not find model")
        if found is None:
            container = {"ContainerHostname": "wine", "Image": IMAGE, "ModelDataUrl": model_data}
            self.sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE)

    def config(self, name: str, model: str) -> None:
        found = self.find(
            lambda: self.sagemaker.describe_endpoint_config(EndpointConfigName=name),
            "Could not find endpoint configuration",
        )
        if found is None:
            variant = {
                "VariantName": "AllTraffic",
                "ModelName": model,
                "InitialInstanceCount": 1,
                "InstanceType": "ml.m5.large",
                "InitialVariantWeight": 1,
            }
            self.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])

    def endpoint(self, name: str) -> dict[str, Any] | None:
        return self.find(lambda: self.sagemaker.describe_endpoint(EndpointName=name), "Could not find endpoint")

    def reconcile(self, name: str, config: str, tags: dict[str, str]) -> dict[str, Any]:
        """One pass over an endpoint; raises Requeue until nothing is left to do."""
        found = self.endpoint(name)
        if found is None:
            self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
            raise Requeue("created")
        if found["EndpointStatus"] in MODIFYING:
            raise Requeue(found["EndpointStatus"])
        self.keep_tags(found["EndpointArn"], tags)
        if found["EndpointStatus"] != "Failed" and found["EndpointConfigName"] != config:
            self.sagemaker.update_endpoint(
                EndpointName=name, EndpointConfigName=config, RetainAllVariantProperties=True
            )
            raise Requeue("updated")
        return found

    def keep_tags(self, arn: str, wanted: dict[str, str]) -> None:
        tags = {tag["Key"]: tag["Value"] for tag in self.sagemaker.list_tags(ResourceArn=arn)["Tags"]}
        if extra := sorted(tags.keys() - wanted.keys()):
            self.sagemaker.delete_tags(ResourceArn=arn, TagKeys=extra)
        if new := [{"Key": key, "Value": value} for key, value in wanted.items() if tags.get(key) != value]:
            self.sagemaker.add_tags(ResourceArn=arn, Tags=new)

    def until_settled(self, name: str, config: str, tags: dict[str, str] | None = None) -> dict[str, Any]:
        def settled() -> dict[str, Any] | None:
            try:
                return self.reconcile(name, config, tags or {})
            except Requeue:
                return None

        found: dict[str, Any] = wait_until(settled, within=90, what=f"{name} is as it should be")
        return found

    def update_once(self, name: str, config: str) -> dict[str, Any]:
        """Try one update and wait for what comes of it, good or bad."""
        self.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=config, RetainAllVariantProperties=True)

        def settled() -> dict[str, Any] | None:
            found = self.endpoint(name)
            assert found is not None
            return None if found["EndpointStatus"] in MODIFYING else found

        found: dict[str, Any] = wait_until(settled, within=90, what=f"the update of {name} has ended")
        return found

    def delete(self, name: str) -> None:
        def gone() -> bool:
            found = self.endpoint(name)
            if found is not None and found["EndpointStatus"] not in MODIFYING:
                self.sagemaker.delete_endpoint(EndpointName=name)
            return found is None

        wait_until(gone, within=60, what=f"{name} is deleted")


@pytest.fixture(scope="module")
def controller(deployment: Deployment, wine: Wine) -> Controller:
    broken = models.code_only('raise RuntimeError("no such vineyard")')
    deployment.s3.create_bucket(Bucket="ack")
    for name, artefact in (("good", wine.artefact("logistic")), ("other", wine.artefact("forest")), ("bad", broken)):
        deployment.s3.put_object(Bucket="ack", Key=f"{name}.tar.gz", Body=artefact)
    controller = Controller(deployment.sagemaker)
    for name in ("good", "other", "bad"):
        controller.model(f"ack-{name}", f"s3://ack/{name}.tar.gz")
        controller.config(f"ack-{name}", f"ack-{name}")
    return controller


@pytest.mark.slow  # starts instances twice
def test_an_endpoint_follows_its_specification(controller: Controller, deployment: Deployment) -> None:
    controller.model("ack-good", "s3://ack/good.tar.gz")
    controller.config("ack-good", "ack-good")
    made = controller.until_settled("ack-life", "ack-good", {"team": "cellar"})
    deployment.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName="ack-life", DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredInstanceCount": 2}]
    )
    updated = controller.until_settled("ack-life", "ack-other", {"year": "1987"})
    tags = deployment.sagemaker.list_tags(ResourceArn=made["EndpointArn"])["Tags"]
    controller.delete("ack-life")

    assert (made["EndpointStatus"], made["EndpointConfigName"]) == ("InService", "ack-good")
    assert (updated["EndpointStatus"], updated["EndpointConfigName"]) == ("InService", "ack-other")
    assert updated["ProductionVariants"][0]["CurrentInstanceCount"] == 2
    assert tags == [{"Key": "year", "Value": "1987"}]


@pytest.mark.slow  # starts instances three times
def test_a_failed_update_tells_its_reason_and_the_next_good_one_takes_it_away(
    controller: Controller, deployment: Deployment, wine: Wine
) -> None:
    controller.until_settled("ack-fails", "ack-good")
    failed = controller.update_once("ack-fails", "ack-bad")
    answer, _ = deployment.invoke("ack-fails", wine.csv(0, 1))
    mended = controller.update_once("ack-fails", "ack-other")
    controller.delete("ack-fails")

    assert (failed["EndpointStatus"], failed["EndpointConfigName"]) == ("InService", "ack-good")
    assert failed["FailureReason"]
    assert not failed["FailureReason"].startswith(INTERNAL)
    assert answer == str(wine.answers["logistic"][:2])
    assert (mended["EndpointConfigName"], mended.get("FailureReason")) == ("ack-other", None)
