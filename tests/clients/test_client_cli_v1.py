"""The AWS CLI v1, unmodified: the options of its page on create-endpoint-config, paging, output, errors."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.client_environments import AwsCli, aws_cli_v1
from tests.support.fixtures import Deployment, Wine
from tests.support.product import ROLE

pytestmark = pytest.mark.client("AWS CLI v1")

TOPIC = "arn:aws:sns:us-east-1:000000000000"
ARN = "arn:aws:sagemaker:us-east-1:000000000000:endpoint-config"
VARIANT = {
    "VariantName": "one",
    "ModelName": "cli-one",
    "InitialInstanceCount": 2,
    "InstanceType": "ml.m5.large",
    "InitialVariantWeight": 0.5,
}
SHORT = "VariantName=one,ModelName=cli-one,InitialInstanceCount=2,InstanceType=ml.m5.large,InitialVariantWeight=0.5"


@pytest.fixture(scope="module")
def model(deployment: Deployment, wine: Wine) -> str:
    return deployment.model("cli-one", wine.artefact("logistic"))


@pytest.fixture
def aws(deployment: Deployment, model: str, tmp_path: Path) -> AwsCli:
    return aws_cli_v1(deployment.moorage, tmp_path)


def variants_of(aws: AwsCli, name: str) -> Any:
    described = aws.json("sagemaker", "describe-endpoint-config", "--endpoint-config-name", name)
    return described["ProductionVariants"]


def create(aws: AwsCli, name: str, *options: str, variants: str = SHORT) -> str:
    return aws.text(
        "sagemaker", "create-endpoint-config", "--endpoint-config-name", name, "--production-variants", variants,
        *options,
    )  # fmt: skip


@pytest.mark.slow  # several starts of the AWS CLI
def test_shorthand_and_json_say_the_same(aws: AwsCli) -> None:
    create(aws, "v1-short", "--tags", "Key=team,Value=cellar", "Key=year,Value=1987")
    create(aws, "v1-json", variants=json.dumps([VARIANT]))
    (aws.folder / "variants.json").write_text(json.dumps([VARIANT]))
    create(aws, "v1-file", variants="file://variants.json")

    tags = aws.json("sagemaker", "list-tags", "--resource-arn", f"{ARN}/v1-short", "--query", "Tags[].[Key,Value]")
    assert tags == [["team", "cellar"], ["year", "1987"]]
    assert [variants_of(aws, f"v1-{form}") for form in ("short", "json", "file")] == [[VARIANT]] * 3


@pytest.mark.slow  # several starts of the AWS CLI
def test_a_filled_in_skeleton_is_accepted_and_options_win_over_it(aws: AwsCli) -> None:
    skeleton = aws.json("sagemaker", "create-endpoint-config", "--generate-cli-skeleton")
    filled = {
        "EndpointConfigName": "v1-skeleton",
        "ProductionVariants": [VARIANT],
        "Tags": [{"Key": "team", "Value": "cellar"}],
    }
    assert set(filled) < set(skeleton)
    assert set(VARIANT) < set(skeleton["ProductionVariants"][0])
    (aws.folder / "filled.json").write_text(json.dumps(filled))

    plain = aws.json("sagemaker", "create-endpoint-config", "--cli-input-json", "file://filled.json")
    named = aws.json(
        "sagemaker", "create-endpoint-config", "--cli-input-json", json.dumps(filled),
        "--endpoint-config-name", "v1-skeleton-named",
    )  # fmt: skip

    assert plain == {"EndpointConfigArn": f"{ARN}/v1-skeleton"}
    assert named == {"EndpointConfigArn": f"{ARN}/v1-skeleton-named"}


@pytest.mark.slow  # several starts of the AWS CLI
def test_output_and_query_show_what_was_asked_for(aws: AwsCli) -> None:
    create(aws, "v1-output")
    describe = ("sagemaker", "describe-endpoint-config", "--endpoint-config-name", "v1-output")

    as_text = aws.text(
        *describe, "--output", "text", "--query", "ProductionVariants[].[VariantName,InitialInstanceCount]"
    )
    as_table = aws.text(*describe, "--output", "table")
    count = aws.text(*describe, "--output", "json", "--query", "length(ProductionVariants)")

    assert as_text.split() == ["one", "2"]
    assert "DescribeEndpointConfig" in as_table
    assert "ml.m5.large" in as_table
    assert count.strip() == "1"


@pytest.mark.slow  # several starts of the AWS CLI
def test_paging_options_neither_skip_nor_repeat(aws: AwsCli, deployment: Deployment) -> None:
    names = [f"v1-paged-{number}" for number in range(7)]
    for name in names:
        deployment.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[VARIANT])
    listing = (
        "sagemaker", "list-endpoint-configs", "--name-contains", "v1-paged", "--sort-by", "Name",
        "--sort-order", "Ascending",
    )  # fmt: skip

    def shown(page: Any) -> list[str]:
        return [config["EndpointConfigName"] for config in page["EndpointConfigs"]]

    small = (*listing, "--page-size", "2")
    first = aws.json(*small, "--max-items", "3")
    second = aws.json(*small, "--max-items", "3", "--starting-token", first["NextToken"])
    third = aws.json(*small, "--starting-token", second["NextToken"])
    whole = aws.json(*small)
    one_call = aws.json(*listing, "--max-results", "4", "--no-paginate")

    assert [shown(page) for page in (first, second, third)] == [names[:3], names[3:6], names[6:]]
    assert (shown(whole), "NextToken" in whole) == (names, False)
    assert (shown(one_call), "NextToken" in one_call) == (names[:4], True)


@pytest.mark.slow  # several starts of the AWS CLI
def test_errors_are_the_services_own_words(aws: AwsCli) -> None:
    missing = aws.run("sagemaker", "describe-endpoint-config", "--endpoint-config-name", "v1-missing")
    bad = aws.run(
        "sagemaker", "create-endpoint-config", "--endpoint-config-name", "bad_name", "--production-variants",
        SHORT.replace("ml.m5.large", "ml.none"),
    )  # fmt: skip

    assert missing.returncode in (254, 255)
    assert missing.stderr.strip().endswith(
        "An error occurred (ValidationException) when calling the DescribeEndpointConfig operation: "
        f'Could not find endpoint configuration "{ARN}/v1-missing".'
    )
    assert "2 validation errors detected: " in bad.stderr
    assert "'bad_name' at 'endpointConfigName'" in bad.stderr


OPTIONS = [
    (
        "DataCaptureConfig",
        "--data-capture-config",
        {
            "EnableCapture": True,
            "InitialSamplingPercentage": 50,
            "DestinationS3Uri": "s3://models-cli-one/captured",
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
            "CaptureContentTypeHeader": {"CsvContentTypes": ["text/csv"], "JsonContentTypes": ["application/json"]},
        },
    ),
    (
        "AsyncInferenceConfig",
        "--async-inference-config",
        {
            "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 4},
            "OutputConfig": {
                "S3OutputPath": "s3://models-cli-one/out",
                "NotificationConfig": {"SuccessTopic": f"{TOPIC}:good", "ErrorTopic": f"{TOPIC}:bad"},
            },
        },
    ),
    (
        "ExplainerConfig",
        "--explainer-config",
        {"ClarifyExplainerConfig": {"ShapConfig": {"ShapBaselineConfig": {"ShapBaseline": "1,2"}}}},
    ),
    ("ShadowProductionVariants", "--shadow-production-variants", [{**VARIANT, "VariantName": "shadow"}]),
    ("KmsKeyId", "--kms-key-id", "1234abcd-12ab-34cd-56ef-1234567890ab"),
    ("ExecutionRoleArn", "--execution-role-arn", ROLE),
    ("VpcConfig", "--vpc-config", {"SecurityGroupIds": ["sg-12345678"], "Subnets": ["subnet-12345678"]}),
    ("EnableNetworkIsolation", "--enable-network-isolation", None),
]
"""The options of the page beside the variants, each with the member that it stands for and all that the page shows."""


@pytest.mark.slow  # two starts of the AWS CLI
@pytest.mark.parametrize(("member", "option", "value"), OPTIONS)
def test_each_option_is_kept_as_given_or_refused_by_name(aws: AwsCli, member: str, option: str, value: Any) -> None:
    words = [] if value is None else [value if isinstance(value, str) else json.dumps(value)]
    name = f"v1-{member}"
    done = aws.run(
        "sagemaker", "create-endpoint-config", "--endpoint-config-name", name, "--production-variants", SHORT,
        option, *words,
    )  # fmt: skip

    if done.returncode == 0:
        described = aws.json("sagemaker", "describe-endpoint-config", "--endpoint-config-name", name)
        assert described[member] == (True if value is None else value)
    else:
        assert "(ValidationException)" in done.stderr
        assert member in done.stderr


@pytest.mark.slow  # two starts of the AWS CLI
@pytest.mark.parametrize(
    ("member", "variant"),
    [
        ("AcceleratorType", f"{SHORT},AcceleratorType=ml.eia2.medium"),
        (
            "CoreDumpConfig",
            f"{SHORT},CoreDumpConfig={{DestinationS3Uri=s3://models-cli-one/cores,KmsKeyId=alias/cores}}",
        ),
        (
            "ServerlessConfig",
            "VariantName=one,ModelName=cli-one,ServerlessConfig={MemorySizeInMB=2048,MaxConcurrency=5}",
        ),
    ],
)
def test_each_member_of_a_variant_is_kept_as_given_or_refused_by_name(aws: AwsCli, member: str, variant: str) -> None:
    name = f"v1-{member}"
    done = aws.run(
        "sagemaker", "create-endpoint-config", "--endpoint-config-name", name, "--production-variants", variant
    )

    if done.returncode == 0:
        assert member in variants_of(aws, name)[0]
    else:
        assert "(ValidationException)" in done.stderr
        assert member in done.stderr
