"""The AWS CLI v1, unmodified, with nothing but ``AWS_ENDPOINT_URL``."""

import json
from functools import partial
from pathlib import Path

import pytest
from tests.support.fixtures import Wine
from tests.support.product import IMAGE, ROLE, Moorage


@pytest.mark.slow  # a dozen starts of the AWS CLI
def test_the_cli_lives_one_whole_life(moorage: Moorage, wine: Wine, tmp_path: Path) -> None:
    aws = partial(moorage.aws, tmp_path)
    (tmp_path / "model.tar.gz").write_bytes(wine.artefact("forest"))
    (tmp_path / "rows.csv").write_text(wine.csv(0, 1, 2))

    aws("s3", "mb", "s3://cli-models")
    aws("s3", "cp", str(tmp_path / "model.tar.gz"), "s3://cli-models/a/model.tar.gz")
    container = f"Image={IMAGE},ModelDataUrl=s3://cli-models/a/model.tar.gz"
    aws("sagemaker", "create-model", "--model-name", "cli", "--execution-role-arn", ROLE,
        "--primary-container", container)  # fmt: skip
    aws("sagemaker", "create-endpoint-config", "--endpoint-config-name", "cli", "--production-variants",
        "VariantName=one,ModelName=cli,InitialInstanceCount=1,InstanceType=ml.m5.large,InitialVariantWeight=1.0",
        "--tags", "Key=team,Value=cellar")  # fmt: skip
    created = json.loads(aws("sagemaker", "create-endpoint", "--endpoint-name", "cli", "--endpoint-config-name", "cli"))
    aws("sagemaker", "wait", "endpoint-in-service", "--endpoint-name", "cli")
    aws("sagemaker-runtime", "invoke-endpoint", "--endpoint-name", "cli", "--content-type", "text/csv",
        "--body", f"fileb://{tmp_path / 'rows.csv'}", str(tmp_path / "answer"))  # fmt: skip
    names = aws("sagemaker", "list-endpoints", "--query", "Endpoints[].EndpointName", "--output", "text")
    aws("sagemaker", "delete-endpoint", "--endpoint-name", "cli")

    assert created["EndpointArn"].endswith(":endpoint/cli")
    assert json.loads((tmp_path / "answer").read_text()) == wine.answers["forest"][:3]
    assert "cli" in names.split()
