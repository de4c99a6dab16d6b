"""Fixtures of the floors that run the whole product. A floor's ``conftest.py`` names those it uses."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.support import models
from tests.support.product import IMAGE, ROLE, Moorage, running


@pytest.fixture(scope="session")
def environment_python() -> str:
    """Give the Python of the built-in scikit-learn image, built on first use as a user's would be."""
    built = subprocess.run(
        [sys.executable, "-m", "moorage", "images", "build", IMAGE],
        check=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )
    return built.stdout.strip().splitlines()[-1]


@dataclass(frozen=True)
class Wine:
    """Two models of one data set and what they say of its held-out rows."""

    folder: Path
    rows: list[list[float]]
    answers: dict[str, list[int]]

    def artefact(self, name: str) -> bytes:
        """Pack one of the models."""
        return models.trained(self.folder, name)

    def csv(self, *indexes: int) -> str:
        """Give held-out rows as CSV; two at the least, because AWS's container refuses a single one."""
        return "\n".join(",".join(map(str, self.rows[index])) for index in indexes)


@pytest.fixture(scope="session")
def wine(environment_python: str, tmp_path_factory: pytest.TempPathFactory) -> Wine:
    """Train a logistic regression and a forest on the wine data."""
    folder = tmp_path_factory.mktemp("wine")
    expected: dict[str, Any] = models.train(environment_python, folder)
    return Wine(folder, expected["rows"], expected["answers"])


@pytest.fixture(scope="session")
def moorage(environment_python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moorage]:
    """Have one server for all tests of a floor that do no harm to it."""
    with running(tmp_path_factory.mktemp("moorage") / "data") as server:
        yield server


@dataclass
class Deployment:
    """Registers models and makes endpoints of them, as a user's script does."""

    moorage: Moorage

    def __post_init__(self) -> None:
        self.sagemaker = self.moorage.client("sagemaker")
        self.runtime = self.moorage.client("sagemaker-runtime", max_pool_connections=64)
        self.s3 = self.moorage.client("s3")

    def model(self, name: str, artefact: bytes, **container: Any) -> str:
        """Upload an artefact and register it as a model."""
        bucket = f"models-{name.lower()}"
        self.s3.create_bucket(Bucket=bucket)
        self.s3.put_object(Bucket=bucket, Key="model.tar.gz", Body=artefact)
        self.sagemaker.create_model(
            ModelName=name,
            ExecutionRoleArn=ROLE,
            PrimaryContainer={
                "Image": IMAGE,
                "ModelDataUrl": f"s3://{bucket}/model.tar.gz",
                **container,
            },
        )
        return name

    def several(
        self, name: str, *containers: tuple[str, bytes | None, str], mode: str | None = None, **of_all: Any
    ) -> str:
        """Register a model of several containers: image, artefact and hostname of each."""
        bucket = f"models-{name.lower()}"
        self.s3.create_bucket(Bucket=bucket)
        made = []
        for at, (image, artefact, hostname) in enumerate(containers):
            container: dict[str, Any] = {"Image": image, **of_all}
            if artefact is not None:
                self.s3.put_object(Bucket=bucket, Key=f"{at}.tar.gz", Body=artefact)
                container["ModelDataUrl"] = f"s3://{bucket}/{at}.tar.gz"
            if hostname:
                container["ContainerHostname"] = hostname
            made.append(container)
        more = {} if mode is None else {"InferenceExecutionConfig": {"Mode": mode}}
        self.sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, Containers=made, **more)
        return name

    def create(self, name: str, *variants: tuple[str, str, float, int]) -> None:
        """Ask for an endpoint of variants: name, model, weight, instance count."""
        self.sagemaker.create_endpoint_config(
            EndpointConfigName=name,
            ProductionVariants=[
                {
                    "VariantName": variant,
                    "ModelName": model,
                    "InitialVariantWeight": weight,
                    "InitialInstanceCount": count,
                    "InstanceType": "ml.m5.large",
                }
                for variant, model, weight, count in variants
            ],
        )
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)

    def settled(self, name: str, within_seconds: int = 90) -> dict[str, Any]:
        """Wait until an endpoint is InService or Failed; gives its description."""
        waiter = self.sagemaker.get_waiter("endpoint_in_service")
        waiter.config.delay = 0.1
        waiter.config.max_attempts = within_seconds * 10
        try:
            waiter.wait(EndpointName=name)
        except Exception as fault:  # the waiter raises for Failed; the description says why
            if "terminal failure" not in str(fault):
                raise
        described: dict[str, Any] = self.sagemaker.describe_endpoint(EndpointName=name)
        return described

    def in_service(self, name: str, *variants: tuple[str, str, float, int]) -> str:
        """Make an endpoint and wait until it serves."""
        self.create(name, *variants)
        described = self.settled(name)
        assert described["EndpointStatus"] == "InService", described.get("FailureReason")
        return name

    def delete(self, name: str) -> None:
        """Delete an endpoint and wait until it is gone."""
        self.sagemaker.delete_endpoint(EndpointName=name)
        waiter = self.sagemaker.get_waiter("endpoint_deleted")
        waiter.config.delay = 0.1
        waiter.config.max_attempts = 600
        waiter.wait(EndpointName=name)

    def invoke(self, name: str, body: str, **more: Any) -> tuple[str, str]:
        """Invoke with CSV; gives the answer and the variant that gave it."""
        answer = self.runtime.invoke_endpoint(
            EndpointName=name, Body=body, ContentType="text/csv", Accept="application/json", **more
        )
        return answer["Body"].read().decode(), answer["InvokedProductionVariant"]


@pytest.fixture(scope="session")
def deployment(moorage: Moorage) -> Deployment:
    """Have a user's script against the shared server."""
    return Deployment(moorage)
