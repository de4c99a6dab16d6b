"""Many models on one multi-model instance: the first use of a cold one, a hot one, and what each takes of the memory.

The models do nothing, so that the first use of one is all Moorage: the fetch from the store, the process, the answer.
A hot one is compared, in turns, with the same model on an endpoint of its own, both through the gateway.
"""

import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.models import code_only
from tests.support.product import IMAGE, ROLE, Moorage

from benchmarks.invoke import through_gateway
from benchmarks.measures import Measure, line
from benchmarks.server import BUCKET, NOTHING, server, wait_in_service

MODELS = 1_000
HOT = 20
"""Models that are hot at the same time."""
WARM_UP, ROUNDS, IN_A_ROW = 200, 40, 50
SINGLE, MULTI = "single", "multi"
INSTANCE_TYPE = "ml.m5.2xlarge"


def measure(models: int = MODELS) -> Iterator[Measure]:
    """Use each once, then some again and again."""
    with server() as moorage:
        _make_endpoints(moorage, models)
        cold = sorted(_first_uses(moorage, models))
        yield Measure(
            f"first use of a cold model, one of {models} on an instance, p50",
            "<= 100 ms",
            f"{statistics.median(cold) * 1000:.1f} ms",
            f"p95 {cold[int(0.95 * len(cold))] * 1000:.1f} ms, slowest {cold[-1] * 1000:.1f} ms; loading is nothing",
        )
        hot, single = _hot_and_single(moorage, models)
        yield Measure(
            "hot model of many, p50 added to a model on its own",
            "<= 0.2 ms",
            f"{(hot - single) * 1000:.2f} ms",
            f"of many {hot * 1000:.2f} ms, on its own {single * 1000:.2f} ms",
        )
        yield Measure("memory of each further model, PSS", "", f"{_memory_of_one(moorage) / 2**20:.1f} MiB")


def _target(number: int) -> str:
    return f"model-{number}.tar.gz"


def _make_endpoints(moorage: Moorage, models: int) -> None:
    s3, sagemaker = moorage.client("s3"), moorage.client("sagemaker")
    s3.create_bucket(Bucket=BUCKET)
    artefact = code_only(NOTHING)
    for number in range(models):
        s3.put_object(Bucket=BUCKET, Key=f"models/{_target(number)}", Body=artefact)
    many = {"Image": IMAGE, "Mode": "MultiModel", "ModelDataUrl": f"s3://{BUCKET}/models/"}
    one = {"Image": IMAGE, "ModelDataUrl": f"s3://{BUCKET}/models/{_target(0)}"}
    for name, container in ((MULTI, many), (SINGLE, one)):
        _make_endpoint(sagemaker, name, container)


def _make_endpoint(sagemaker: Any, name: str, container: dict[str, str]) -> None:
    sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE)
    variant = {"VariantName": "v", "ModelName": name, "InstanceType": INSTANCE_TYPE, "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    wait_in_service(sagemaker, name)


def _first_uses(moorage: Moorage, models: int) -> list[float]:
    runtime = moorage.client("sagemaker-runtime")
    times = []
    for number in range(models):
        started = time.perf_counter()
        answer = runtime.invoke_endpoint(EndpointName=MULTI, TargetModel=_target(number), Body=b"x")
        answer["Body"].read()
        times.append(time.perf_counter() - started)
    return times


def _hot_and_single(moorage: Moorage, models: int) -> tuple[float, float]:
    """Give the medians of hot models of the many, in turns with each other, and of one on its own."""
    targets = [_target(number) for number in range(models)][-HOT:]
    hot = [through_gateway(moorage, MULTI, ("x-amzn-sagemaker-target-model", target)) for target in targets]
    single = through_gateway(moorage, SINGLE)
    times: dict[str, list[float]] = {MULTI: [], SINGLE: []}
    for number in range(WARM_UP):
        hot[number % len(hot)].invoke()
        single.invoke()
    for _ in range(ROUNDS):
        times[MULTI] += [hot[number % len(hot)].invoke() for number in range(IN_A_ROW)]
        times[SINGLE] += [single.invoke() for _ in range(IN_A_ROW)]
    return statistics.median(times[MULTI]), statistics.median(times[SINGLE])


def _memory_of_one(moorage: Moorage) -> float:
    """Give the bytes that a model's process has for itself, and its part of what it shares."""
    (base,) = moorage.pids("instance", MULTI)
    children = [
        child for task in Path(f"/proc/{base}/task").iterdir() for child in (task / "children").read_text().split()
    ]
    found = [_proportional_bytes(child) for child in children[:200]]
    return statistics.mean(found)


def _proportional_bytes(pid: str) -> int:
    for entry in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if entry.startswith("Pss:"):
            return 1024 * int(entry.split()[1])
    return 0


def main(arguments: list[str]) -> None:
    """Print the lines; an argument is the number of models."""
    for made in measure(*map(int, arguments)):
        print(line(made), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
