"""What each further container of a pipeline adds to an invocation.

Pipelines of one, two and three built-in containers whose models do nothing, invoked in turns through the gateway, one
invocation at a time, signed as any other. An instance of one container has no front; the second brings it.
"""

import statistics
import sys
from collections.abc import Iterator
from typing import Any

from tests.support.models import code_only
from tests.support.product import IMAGE, ROLE, Moorage

from benchmarks.invoke import through_gateway
from benchmarks.measures import Measure, line
from benchmarks.server import BUCKET, NOTHING, server, wait_in_service

LENGTHS = (1, 2, 3)
WARM_UP, ROUNDS, IN_A_ROW = 300, 40, 50


def measure(rounds: int = ROUNDS) -> Iterator[Measure]:
    """Compare the medians."""
    with server() as moorage:
        _make_endpoints(moorage)
        ways = {length: through_gateway(moorage, _name(length)) for length in LENGTHS}
        times: dict[int, list[float]] = {length: [] for length in LENGTHS}
        for way in ways.values():
            for _ in range(WARM_UP):
                way.invoke()
        for _ in range(rounds):
            for length, way in ways.items():
                times[length] += [way.invoke() for _ in range(IN_A_ROW)]
    p50 = {length: statistics.median(seconds) * 1000 for length, seconds in times.items()}
    note = ", ".join(f"{length}: {milliseconds:.2f} ms" for length, milliseconds in p50.items())
    yield Measure(
        "pipeline of three containers, p50 added per further container",
        "<= 0.3 ms",
        f"{(p50[3] - p50[1]) / 2:.2f} ms",
        f"{note}; the third alone {p50[3] - p50[2]:.2f} ms",
    )


def _name(length: int) -> str:
    return f"pipeline-{length}"


def _make_endpoints(moorage: Moorage) -> None:
    s3, sagemaker = moorage.client("s3"), moorage.client("sagemaker")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="model.tar.gz", Body=code_only(NOTHING))
    container = {"Image": IMAGE, "ModelDataUrl": f"s3://{BUCKET}/model.tar.gz"}
    for length in LENGTHS:
        _make_endpoint(sagemaker, _name(length), [container] * length)


def _make_endpoint(sagemaker: Any, name: str, containers: list[dict[str, str]]) -> None:
    sagemaker.create_model(ModelName=name, Containers=containers, ExecutionRoleArn=ROLE)
    variant = {"VariantName": "v", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    wait_in_service(sagemaker, name)


def main(arguments: list[str]) -> None:
    """Print the line; an argument is the number of rounds."""
    for made in measure(*map(int, arguments)):
        print(line(made), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
