"""ARNs are made and read as SageMaker's."""

import pytest

from moorage.aws.arns import Arn, make_arn, parse_arn


@pytest.mark.parametrize(
    ("region", "arn"),
    [
        ("us-east-1", "arn:aws:sagemaker:us-east-1:123456789012:endpoint-config/MyConfig"),
        ("cn-north-1", "arn:aws-cn:sagemaker:cn-north-1:123456789012:endpoint-config/MyConfig"),
        ("us-gov-west-1", "arn:aws-us-gov:sagemaker:us-gov-west-1:123456789012:endpoint-config/MyConfig"),
    ],
)
def test_the_partition_follows_the_region_and_the_case_is_kept(region: str, arn: str) -> None:
    assert make_arn(region, "123456789012", "endpoint-config", "MyConfig") == arn


def test_what_is_made_is_read() -> None:
    arn = make_arn("us-east-1", "123456789012", "model", "m")
    assert parse_arn(arn) == Arn("aws", "us-east-1", "123456789012", "model", "m")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "m",
        "arn:aws:s3:::bucket",
        "arn:aws:sagemaker:us-east-1:1:model/m",
        "arn:aws:sagemaker:us-east-1:123456789012:model",
    ],
)
def test_what_is_none_is_none(text: str) -> None:
    assert parse_arn(text) is None
