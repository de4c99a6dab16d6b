"""A server, its clients, and a model for them: what the benchmarks share."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.models import code_only
from tests.support.product import IMAGE, ROLE, Moorage, running

BUCKET = "bench"
# The model does nothing, so that what is measured is Moorage.
NOTHING = """
    def model_fn(model_dir):
        return None

    def input_fn(body, content_type):
        return body

    def predict_fn(body, model):
        return body

    def output_fn(body, accept):
        return body, "text/csv"
"""


@contextlib.contextmanager
def server(**settings: str) -> Iterator[Moorage]:
    """Have a server on a folder of its own, with settings as environment variables."""
    with tempfile.TemporaryDirectory() as folder, running(Path(folder) / "data", **settings) as moorage:
        yield moorage


def make_configuration(moorage: Moorage, *, variants: int, instances: int, artefact: bytes | None = None) -> Any:
    """Make a model and an endpoint configuration named ``bench``; gives the client. The model does nothing if none."""
    s3, sagemaker = moorage.client("s3"), moorage.client("sagemaker")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="model.tar.gz", Body=artefact or code_only(NOTHING))
    container = {"Image": IMAGE, "ModelDataUrl": f"s3://{BUCKET}/model.tar.gz"}
    sagemaker.create_model(ModelName="bench", PrimaryContainer=container, ExecutionRoleArn=ROLE)
    sagemaker.create_endpoint_config(
        EndpointConfigName="bench",
        ProductionVariants=[
            {
                "VariantName": f"variant-{number}",
                "ModelName": "bench",
                "InstanceType": "ml.m5.large",
                "InitialInstanceCount": instances,
                "InitialVariantWeight": 1.0,
            }
            for number in range(variants)
        ],
    )
    return sagemaker


def wait_in_service(sagemaker: Any, endpoint: str) -> None:
    """Wait, looking again at once: boto3's waiter looks every second at best."""
    while (status := sagemaker.describe_endpoint(EndpointName=endpoint))["EndpointStatus"] == "Creating":
        pass
    if status["EndpointStatus"] != "InService":
        raise RuntimeError(status.get("FailureReason"))
