"""Keys through the whole product: the command line, KMS, S3, artefacts, and captured data, on one port."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.support import models
from tests.support.fixtures import Deployment
from tests.support.product import IMAGE, ROLE, running, wait_until
from tests.support.small_models import ECHO, a_variant, configure, serve

MARK = "a sentence that must not lie about"


@pytest.fixture(scope="module")
def deployment(environment_python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    assert Path(environment_python).exists()
    with running(tmp_path_factory.mktemp("kms") / "data", MOORAGE_CAPTURE_FILE_SECONDS="1") as server:
        yield Deployment(server)


@pytest.fixture(scope="module")
def bucket(deployment: Deployment) -> str:
    deployment.s3.create_bucket(Bucket="vault")
    return "vault"


def make_key(deployment: Deployment, alias: str) -> dict[str, Any]:
    printed = deployment.moorage.run("kms", "create-key", "--alias", alias, "--output", "json").stdout
    made: dict[str, Any] = json.loads(printed)
    return made


def upload(deployment: Deployment, bucket: str, name: str, key: str) -> str:
    """Register a model whose artefact is encrypted."""
    encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key}
    deployment.s3.put_object(Bucket=bucket, Key=f"{name}.tar.gz", Body=models.code_only(ECHO), **encryption)
    container = {"Image": IMAGE, "ModelDataUrl": f"s3://{bucket}/{name}.tar.gz"}
    deployment.sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)
    return name


def capture(bucket: str, key: str) -> dict[str, Any]:
    return {
        "InitialSamplingPercentage": 100,
        "DestinationS3Uri": f"s3://{bucket}/captured",
        "CaptureOptions": [{"CaptureMode": "Input"}],
        "CaptureContentTypeHeader": {"CsvContentTypes": ["text/csv"]},
        "KmsKeyId": key,
    }


def is_kept(deployment: Deployment, text: str) -> bool:
    """Say whether a text lies anywhere in the data folder."""
    return any(text.encode() in content for content in contents(deployment.moorage.data_dir))


def contents(folder: Path) -> Iterator[bytes]:
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # delivered meanwhile
            if path.is_file():
                yield path.read_bytes()


def captured(deployment: Deployment, bucket: str) -> list[str]:
    page = deployment.s3.list_objects_v2(Bucket=bucket, Prefix="captured/")
    return [entry["Key"] for entry in page.get("Contents", ())]


@pytest.mark.slow  # starts an instance
def test_an_encrypted_artefact_serves_and_what_is_captured_is_encrypted(deployment: Deployment, bucket: str) -> None:
    key = make_key(deployment, "captures")
    model = upload(deployment, bucket, "sealed", key["arn"])
    described = serve(deployment, "sealed", a_variant("a", model), DataCaptureConfig=capture(bucket, "alias/captures"))
    assert described["DataCaptureConfig"]["KmsKeyId"] == "alias/captures"
    assert deployment.invoke("sealed", MARK)[0] == MARK
    seen: list[bool] = []

    def arrived() -> bool:
        seen.append(is_kept(deployment, MARK))
        return bool(captured(deployment, bucket))

    wait_until(arrived, within=30, what="a captured file")
    assert not any(seen), "the captured data lay on the disk in plain text"
    (name,) = captured(deployment, bucket)
    answer = deployment.s3.get_object(Bucket=bucket, Key=name)
    assert (answer["ServerSideEncryption"], answer["SSEKMSKeyId"]) == ("aws:kms", key["arn"])
    assert json.loads(answer["Body"].read())["captureData"]["endpointInput"]["data"] == MARK
    deployment.moorage.run("kms", "disable", "alias/captures")
    with pytest.raises(ClientError, match="is disabled") as refused:
        deployment.s3.get_object(Bucket=bucket, Key=name)
    assert refused.value.response["Error"]["Code"] == "KMS.DisabledException"


@pytest.mark.slow  # an endpoint that fails
def test_an_artefact_whose_key_is_disabled_fails_the_endpoint_with_the_reason(
    deployment: Deployment, bucket: str
) -> None:
    key = make_key(deployment, "locked")
    model = upload(deployment, bucket, "locked", "alias/locked")
    deployment.moorage.run("kms", "disable", key["key_id"])
    configure(deployment, "locked", a_variant("a", model))
    deployment.sagemaker.create_endpoint(EndpointName="locked", EndpointConfigName="locked")
    described = deployment.settled("locked")
    assert described["EndpointStatus"] == "Failed"
    assert f"cannot be decrypted: {key['arn']} is disabled." in described["FailureReason"]


def test_keys_that_cannot_be_used_are_refused_when_the_configuration_is_made(
    deployment: Deployment, bucket: str
) -> None:
    model = deployment.model("kms-echo", models.code_only(ECHO))
    key = make_key(deployment, "off")
    deployment.moorage.run("kms", "disable", "alias/off")
    missing = "00000000-0000-4000-8000-000000000000"
    abroad = key["arn"].replace(":us-east-1:", ":eu-west-1:")
    for name, reason in (
        (missing, "There is no key"),
        ("alias/none", "Alias .* is not found"),
        (key["arn"], "is disabled"),
        (abroad, "There is no key"),
    ):
        with pytest.raises(ClientError, match=f"The KMS key {name} cannot be used: .*{reason}") as refused:
            configure(deployment, "refused", a_variant("a", model), DataCaptureConfig=capture(bucket, name))
        assert refused.value.response["Error"]["Code"] == "ValidationException"


def test_the_command_line_lists_what_kms_has(deployment: Deployment) -> None:
    made = make_key(deployment, "listed")
    rows = {row["key_id"]: row for row in json.loads(deployment.moorage.run("kms", "ls", "--output", "json").stdout)}
    assert rows[made["key_id"]]["aliases"] == ["alias/listed"]
    assert {entry["KeyId"] for entry in deployment.moorage.client("kms").list_keys()["Keys"]} == set(rows)
