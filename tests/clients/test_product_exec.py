"""EnableSSMAccess with boto3, and ``moorage exec`` against the running product."""

from pathlib import Path
from typing import Any

import pytest
from tests.support.models import code_only
from tests.support.product import IMAGE, ROLE, Moorage, running, wait_until

BUCKET = "exec"
NOTHING = """
    def model_fn(model_dir):
        return None
"""


@pytest.fixture
def moorage(tmp_path: Path) -> Any:
    with running(tmp_path / "data") as server:
        s3, sagemaker = server.client("s3"), server.client("sagemaker")
        s3.create_bucket(Bucket=BUCKET)
        s3.put_object(Bucket=BUCKET, Key="m.tar.gz", Body=code_only(NOTHING))
        container = {"Image": IMAGE, "ModelDataUrl": f"s3://{BUCKET}/m.tar.gz", "Environment": {"MINE": "yes"}}
        sagemaker.create_model(ModelName="m", PrimaryContainer=container, ExecutionRoleArn=ROLE)
        variant = {"ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        sagemaker.create_endpoint_config(
            EndpointConfigName="open-and-closed",
            ProductionVariants=[
                {**variant, "VariantName": "open", "EnableSSMAccess": True},
                {**variant, "VariantName": "closed", "EnableSSMAccess": False},
            ],
        )
        sagemaker.create_endpoint(EndpointName="ep", EndpointConfigName="open-and-closed")
        sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="ep", WaiterConfig={"Delay": 1})
        yield server


def test_command_runs_in_an_instance_only_where_the_variant_allows_it(moorage: Moorage) -> None:
    seen = moorage.run("exec", "ep/open", "--", "sh", "-c", "echo $MINE; ls /opt/ml/model/code; exit 3", check=False)
    assert (seen.returncode, seen.stdout) == (3, "yes\ninference.py\n")
    refused = moorage.run("exec", "ep/closed", "--", "id", check=False)
    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: The variant closed of the endpoint ep allows no shell: ")
    shown = moorage.client("sagemaker").describe_endpoint_config(EndpointConfigName="open-and-closed")
    assert [one["EnableSSMAccess"] for one in shown["ProductionVariants"]] == [True, False]


def test_instance_can_be_named_and_an_unknown_one_is_told(moorage: Moorage) -> None:
    rows = wait_until(moorage.ps, within=10, what="processes are listed")
    (name,) = [row["instance"] for row in rows if row["role"] == "instance" and row["variant"] == "open"]
    assert moorage.run("exec", f"ep/open/{name}", "echo", "hello").stdout == "hello\n"
    unknown = moorage.run("exec", "ep/open/i-none", "id", check=False)
    assert unknown.stderr == "Error: ep/open/i-none does not run here. Running: ep/closed, ep/open.\n"
