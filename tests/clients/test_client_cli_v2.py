"""The AWS CLI v2 of Debian, unmodified: one life by ``--endpoint-url``, and what it does otherwise than v1."""

import base64
import json
from pathlib import Path

import pytest
from tests.support.client_environments import AwsCli, aws_cli_v2
from tests.support.fixtures import Deployment, Wine
from tests.support.product import IMAGE, ROLE

# The first test to come downloads the CLI.
pytestmark = [pytest.mark.timeout(400), pytest.mark.client("AWS CLI v2")]

ARN = "arn:aws:sagemaker:us-east-1:000000000000"
VARIANT = {
    "VariantName": "one",
    "ModelName": "cli-two",
    "InitialInstanceCount": 1,
    "InstanceType": "ml.m5.large",
    "InitialVariantWeight": 1.0,
}


@pytest.fixture(scope="module")
def model(deployment: Deployment, wine: Wine) -> str:
    return deployment.model("cli-two", wine.artefact("forest"))


@pytest.fixture
def aws(deployment: Deployment, model: str, tmp_path: Path) -> AwsCli:
    return aws_cli_v2(deployment.moorage, tmp_path)


@pytest.mark.slow  # a dozen starts of the AWS CLI, which looks at a new endpoint every 30 s
def test_the_cli_v2_lives_one_whole_life(aws: AwsCli, wine: Wine) -> None:
    (aws.folder / "model.tar.gz").write_bytes(wine.artefact("forest"))
    rows = wine.csv(0, 15, 30)
    (aws.folder / "rows.csv").write_text(rows)
    answers = [wine.answers["forest"][index] for index in (0, 15, 30)]

    aws.text("s3", "mb", "s3://cli-two-life")
    aws.text("s3", "cp", "model.tar.gz", "s3://cli-two-life/a/model.tar.gz")
    aws.text("sagemaker", "create-model", "--model-name", "v2-life", "--execution-role-arn", ROLE,
             "--primary-container", f"Image={IMAGE},ModelDataUrl=s3://cli-two-life/a/model.tar.gz")  # fmt: skip
    config = {
        "EndpointConfigName": "v2-life",
        "ProductionVariants": [{**VARIANT, "ModelName": "v2-life"}],
        "Tags": [{"Key": "team", "Value": "cellar"}],
    }
    aws.text("sagemaker", "create-endpoint-config", "--cli-input-json", json.dumps(config))
    created = aws.json(
        "sagemaker", "create-endpoint", "--endpoint-name", "v2-life", "--endpoint-config-name", "v2-life"
    )
    aws.text("sagemaker", "wait", "endpoint-in-service", "--endpoint-name", "v2-life")

    def invoke(*body: str) -> list[int]:
        told = aws.json(
            "sagemaker-runtime", "invoke-endpoint", "--endpoint-name", "v2-life", "--content-type", "text/csv",
            "--accept", "application/json", *body, "answer",
        )  # fmt: skip
        assert told == {"ContentType": "application/json", "InvokedProductionVariant": "one"}
        answer: list[int] = json.loads((aws.folder / "answer").read_text())
        return answer

    by_file = invoke("--body", "fileb://rows.csv")
    by_base64 = invoke("--body", base64.b64encode(rows.encode()).decode())
    raw = invoke("--cli-binary-format", "raw-in-base64-out", "--body", rows)
    weighted = aws.json("sagemaker", "update-endpoint-weights-and-capacities", "--endpoint-name", "v2-life",
                        "--desired-weights-and-capacities", "VariantName=one,DesiredWeight=0.25")  # fmt: skip
    aws.text("sagemaker", "wait", "endpoint-in-service", "--endpoint-name", "v2-life")
    aws.text("sagemaker", "delete-endpoint", "--endpoint-name", "v2-life")
    aws.text("sagemaker", "wait", "endpoint-deleted", "--endpoint-name", "v2-life")
    gone = aws.run("sagemaker", "describe-endpoint", "--endpoint-name", "v2-life")

    assert created == weighted == {"EndpointArn": f"{ARN}:endpoint/v2-life"}
    assert by_file == by_base64 == raw == answers
    assert gone.returncode == 254
    assert f'Could not find endpoint "{ARN}:endpoint/v2-life".' in gone.stderr


@pytest.mark.slow  # several starts of the AWS CLI
def test_yaml_goes_in_and_comes_out(aws: AwsCli) -> None:
    skeleton = aws.text("sagemaker", "create-endpoint-config", "--generate-cli-skeleton", "yaml-input")
    (aws.folder / "config.yaml").write_text(
        "EndpointConfigName: v2-yaml\n"
        "ProductionVariants:\n"
        "- {VariantName: one, ModelName: cli-two, InitialInstanceCount: 1, InstanceType: ml.m5.large}\n"
    )

    aws.text("sagemaker", "create-endpoint-config", "--cli-input-yaml", "file://config.yaml")
    described = aws.text(
        "sagemaker", "describe-endpoint-config", "--endpoint-config-name", "v2-yaml", "--output", "yaml"
    )

    assert "EndpointConfigName: ''" in skeleton
    assert f"EndpointConfigArn: {ARN}:endpoint-config/v2-yaml" in described
    assert "  VariantName: one" in described


@pytest.mark.slow  # several starts of the AWS CLI
def test_paging_options_neither_skip_nor_repeat(aws: AwsCli, deployment: Deployment) -> None:
    names = [f"v2-paged-{number}" for number in range(5)]
    for name in names:
        deployment.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[VARIANT])
    listing = (
        "sagemaker", "list-endpoint-configs", "--name-contains", "v2-paged", "--sort-by", "Name",
        "--sort-order", "Descending", "--query", "[NextToken, EndpointConfigs[].EndpointConfigName]",
    )  # fmt: skip

    token, first = aws.json(*listing, "--max-items", "3", "--page-size", "2")
    end, second = aws.json(*listing, "--starting-token", token)
    stream = aws.text(*listing[:8], "--page-size", "2", "--output", "yaml-stream")

    assert (first, second, end) == (names[:1:-1], names[1::-1], None)
    assert stream.count("- EndpointConfigs:") == 3


@pytest.mark.slow  # two starts of the AWS CLI
@pytest.mark.parametrize(
    ("member", "options"),
    [
        ("KmsKeyId", ("--kms-key-id", "1234abcd-12ab-34cd-56ef-1234567890ab")),
        (
            "DataCaptureConfig",
            (
                "--data-capture-config",
                (
                    "EnableCapture=true,InitialSamplingPercentage=50,DestinationS3Uri=s3://models-cli-two/captured,"
                    "CaptureOptions=[{CaptureMode=Input},{CaptureMode=Output}],"
                    "CaptureContentTypeHeader={CsvContentTypes=[text/csv],JsonContentTypes=[application/json]}"
                ),
            ),
        ),
        ("ShadowProductionVariants", ("--shadow-production-variants", json.dumps([{**VARIANT, "VariantName": "two"}]))),
        (
            "ExplainerConfig",
            (
                "--explainer-config",
                json.dumps({"ClarifyExplainerConfig": {"ShapConfig": {"ShapBaselineConfig": {"ShapBaseline": "1,2"}}}}),
            ),
        ),
    ],
)
def test_each_option_is_kept_as_given_or_refused_by_name(aws: AwsCli, member: str, options: tuple[str, ...]) -> None:
    name = f"v2-{member}"
    done = aws.run(
        "sagemaker", "create-endpoint-config", "--endpoint-config-name", name, "--production-variants",
        json.dumps([VARIANT]), *options,
    )  # fmt: skip

    if done.returncode == 0:
        described = aws.json("sagemaker", "describe-endpoint-config", "--endpoint-config-name", name)
        assert member in described
    else:
        assert "(ValidationException)" in done.stderr
        assert member in done.stderr
