"""Whatever is sent, the answer is AWS's: never a 5xx, a traceback, a hang, or more memory than a request may take."""

import json
import resource
import time
from collections import Counter as Tally
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.support.configs import explained, host, of, pooled, serverless, variant
from tests.support.mutations import mutate
from tests.support.pipeline import Counter, open_counter
from tests.support.violations import MODEL, valid

from moorage.control.dispatch import OPERATIONS

ROUNDS = 24
MUTATIONS = 1_000
"""In each round: more than 20,000 in all."""

ARN = "arn:aws:sagemaker:us-east-1:000000000000:model/m"
PACKAGE = "arn:aws:sagemaker:us-east-1:000000000000:model-package/g"
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
CONTAINER = {"Image": IMAGE, "ModelDataUrl": "s3://b/m.tar.gz", "Environment": {"A": "1"}}

BLUE_GREEN = {
    "BlueGreenUpdatePolicy": {
        "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0},
        "TerminationWaitInSeconds": 0,
        "MaximumExecutionTimeoutInSeconds": 600,
    }
}
PREFIX_AWARE = {
    "RoutingStrategy": "PREFIX_AWARE",
    "PrefixAwareRoutingConfig": {"PrefixLength": 1024, "ConcurrencyThreshold": 1},
}
MEANT: dict[str, list[dict[str, Any]]] = {
    "CreateModel": [
        {"ModelName": "n", "PrimaryContainer": CONTAINER, "Tags": [{"Key": "k", "Value": "v"}]},
        {"ModelName": "n", "Containers": [CONTAINER, CONTAINER], "InferenceExecutionConfig": {"Mode": "Direct"}},
    ],
    "CreateEndpointConfig": [
        of(variant("a"), variant("b"), Tags=[{"Key": "k", "Value": "v"}]),
        of(serverless(), KmsKeyId="k"),
        of(pooled({"ModelNameOverride": "m"}, {"InstanceType": "ml.c5.large"})),
        of(host(ManagedInstanceScaling={"MinInstanceCount": 1}), ExecutionRoleArn="arn:aws:iam::000000000000:role/r"),
        explained(
            {"TextConfig": {"Language": "en", "Granularity": "token"}}, {"FeatureTypes": ["text"]}, ShapBaseline="1"
        ),
        of(ShadowProductionVariants=[variant("s")], MetricsConfig={"EnableEnhancedMetrics": True}),
        of(
            variant(RoutingConfig=PREFIX_AWARE),
            ShadowProductionVariants=[variant("s", RoutingConfig={"RoutingStrategy": "KV_AWARE"})],
            DataCaptureConfig={
                "EnableCapture": True,
                "InitialSamplingPercentage": 20,
                "DestinationS3Uri": "s3://b/p",
                "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
                "CaptureContentTypeHeader": {"CsvContentTypes": ["text/csv"]},
            },
        ),
    ],
    "CreateEndpoint": [{"EndpointName": "e", "EndpointConfigName": "c", "DeploymentConfig": BLUE_GREEN}],
    "UpdateEndpoint": [
        {"EndpointName": "ep", "EndpointConfigName": "c", "DeploymentConfig": BLUE_GREEN},
        {"EndpointName": "ep", "EndpointConfigName": "c", "RetainAllVariantProperties": True},
    ],
    "UpdateEndpointWeightsAndCapacities": [
        {"EndpointName": "ep", "DesiredWeightsAndCapacities": [{"VariantName": "v", "DesiredWeight": 2.0}]}
    ],
    "DescribeEndpoint": [{"EndpointName": "ep"}],
    "DescribeModel": [{"ModelName": "m"}],
    "DescribeEndpointConfig": [{"EndpointConfigName": "c"}],
    "CreateModelPackage": [{"ModelPackageGroupName": "g", "InferenceSpecification": {"Containers": [CONTAINER]}}],
    "UpdateModelPackage": [{"ModelPackageArn": f"{PACKAGE}/1", "ModelApprovalStatus": "Approved"}],
    "AddTags": [{"ResourceArn": ARN, "Tags": [{"Key": "k", "Value": "v"}]}],
    "ListTags": [{"ResourceArn": ARN, "MaxResults": 50}],
    "DeleteTags": [{"ResourceArn": ARN, "TagKeys": ["k"]}],
}


def requests_of(operation: str) -> list[dict[str, Any]]:
    """Give valid requests: what people mean, the smallest, and one with every member."""
    shape = MODEL.operation_model(operation).input_shape
    return [*MEANT.get(operation, []) * 3, valid(shape), valid(shape, everything=True)]


def check(status: int, content: bytes, sent: int) -> str:
    """Check an answer; gives its code."""
    assert status in {200, 400, 413}, (status, content[:2000])
    assert len(content) < 100_000 + 10 * sent
    assert b"Traceback" not in content
    if status == 200:
        return "Success"
    error = json.loads(content)
    assert error["message"] == error["Message"]
    assert error["message"], error
    code: str = error["__type"]
    return code


async def prepare(counter: Counter) -> None:
    for operation, members in (
        ("CreateModel", {"ModelName": "m", "PrimaryContainer": CONTAINER}),
        ("CreateEndpointConfig", of(variant())),
        ("CreateEndpoint", {"EndpointName": "ep", "EndpointConfigName": "c"}),
    ):
        assert (await counter.ask(operation, members))[0] == 200


@pytest.mark.slow  # 24,000 requests take half a minute
@pytest.mark.parametrize("seed", range(ROUNDS))
async def test_mutated_request_gets_an_error_of_aws(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    codes: Tally[str] = Tally()
    operations = {operation: requests_of(operation) for operation in OPERATIONS}
    async with open_counter(tmp_path) as counter:
        await prepare(counter)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(MUTATIONS):
            operation = random.choice(list(operations))
            body = mutate(random, random.choice(operations[operation]))
            began = time.monotonic()
            status, content = await counter.send(operation, body)
            assert time.monotonic() - began < 5, (operation, body[:2000])
            codes[check(status, content, len(body))] += 1
        grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 200 * 1024
    # Otherwise the mutations would show less than they should.
    assert {"Success", "ValidationException", "SerializationException"} <= set(codes)


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
async def test_what_is_mutated_is_understood_before(tmp_path: Path, operation: str) -> None:
    async with open_counter(tmp_path) as counter:
        await prepare(counter)
        for members in requests_of(operation):
            status, content = await counter.ask(operation, members)
            assert status == 200 or content["__type"] == "ValidationException"
            assert "validation error" not in content.get("message", "")
