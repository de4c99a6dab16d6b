"""Two real models behind one endpoint, split 2:1, then 1:3: with plain boto3. Run it by ``scripts/demo``.

What talks to Moorage here is ordinary SageMaker code: only AWS_ENDPOINT_URL says where. Everything that is about
starting Moorage for the demonstration stands at the end.
"""

import argparse
import contextlib
import json
import os
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
ROLE = "arn:aws:iam::000000000000:role/moorage"
BUCKET = "demo-models"
ENDPOINT = "breast-cancer"
VARIANTS = {"logistic": 2, "forest": 1}
NEW_WEIGHTS = {"logistic": 1, "forest": 3}
THREADS = 8


# --- the part that is SageMaker -----------------------------------------------------------------------------------


def deploy(folder: Path) -> None:
    """Upload both artefacts, make both models, one endpoint configuration and one endpoint; wait for it."""
    s3, sagemaker = boto3.client("s3"), boto3.client("sagemaker")
    step("uploading the artefacts to s3://" + BUCKET)
    s3.create_bucket(Bucket=BUCKET)
    for name in VARIANTS:
        s3.upload_file(str(folder / f"{name}.tar.gz"), BUCKET, f"{name}/model.tar.gz")

    step("CreateModel, twice, with AWS's scikit-learn image")
    for name in VARIANTS:
        container = {"Image": IMAGE, "ModelDataUrl": f"s3://{BUCKET}/{name}/model.tar.gz"}
        sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE)

    step("CreateEndpointConfig: " + weights_text(VARIANTS) + ", two instances each")
    sagemaker.create_endpoint_config(
        EndpointConfigName=ENDPOINT,
        ProductionVariants=[
            {
                "VariantName": name,
                "ModelName": name,
                "InstanceType": "ml.m5.large",
                "InitialInstanceCount": 2,
                "InitialVariantWeight": weight,
            }
            for name, weight in VARIANTS.items()
        ],
    )

    step("CreateEndpoint, and the waiter endpoint_in_service")
    sagemaker.create_endpoint(EndpointName=ENDPOINT, EndpointConfigName=ENDPOINT)
    sagemaker.get_waiter("endpoint_in_service").wait(
        EndpointName=ENDPOINT, WaiterConfig={"Delay": 1, "MaxAttempts": 240}
    )


@dataclass(frozen=True)
class Invocation:
    """What came of one call."""

    variant: str
    right: bool
    milliseconds: float


def invoke_many(rows: list[list[float]], labels: list[int], count: int) -> list[Invocation]:
    """Ask for predictions of held-out rows, several at a time."""
    runtime = boto3.client("sagemaker-runtime", config=Config(max_pool_connections=THREADS))

    def invoke(index: int) -> Invocation:
        row = json.dumps([rows[index % len(rows)]])
        started = time.perf_counter()
        answer = runtime.invoke_endpoint(
            EndpointName=ENDPOINT, ContentType="application/json", Accept="application/json", Body=row
        )
        (predicted,) = json.loads(answer["Body"].read())
        milliseconds = (time.perf_counter() - started) * 1000
        return Invocation(answer["InvokedProductionVariant"], predicted == labels[index % len(labels)], milliseconds)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(invoke, range(count)))


def change_weights() -> None:
    """Give the variants other weights while the endpoint serves; wait until it is in service with them."""
    sagemaker = boto3.client("sagemaker")
    step("UpdateEndpointWeightsAndCapacities: " + weights_text(NEW_WEIGHTS) + ", live")
    sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=ENDPOINT,
        DesiredWeightsAndCapacities=[
            {"VariantName": name, "DesiredWeight": weight} for name, weight in NEW_WEIGHTS.items()
        ],
    )
    sagemaker.get_waiter("endpoint_in_service").wait(
        EndpointName=ENDPOINT, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )


# --- the part that shows it ---------------------------------------------------------------------------------------

BOLD, DIM, GREEN, PLAIN = ("\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[0m") if sys.stdout.isatty() else ("",) * 4
begun = time.monotonic()


def step(text: str) -> None:
    """Show what happens next, and when."""
    print(f"{DIM}{time.monotonic() - begun:6.1f} s{PLAIN}  {text}", flush=True)


def weights_text(weights: dict[str, int]) -> str:
    """Give weights in words."""
    return ", ".join(f"{name} {weight}" for name, weight in weights.items())


def report(invocations: list[Invocation], weights: dict[str, int], seconds: float) -> None:
    """Show the observed split beside the configured one, accuracy and latency."""
    by_variant = Counter(one.variant for one in invocations)
    total = sum(weights.values())
    print(f"\n          {BOLD}{'variant':<10}{'weight':>7}{'configured':>12}{'observed':>10}{'accuracy':>10}{PLAIN}")
    for name, weight in weights.items():
        mine = [one for one in invocations if one.variant == name]
        observed, right = by_variant[name] / len(invocations), statistics.mean([one.right for one in mine] or [0])
        numbers = f"{weight:>7}{weight / total:>12.1%}{observed:>10.1%}{right:>10.1%}"
        print(f"          {name:<10}{numbers}  {GREEN}{'█' * round(observed * 30)}{PLAIN}")
    cuts = statistics.quantiles([one.milliseconds for one in invocations], n=100)
    print(
        f"\n          {len(invocations)} invocations in {seconds:.1f} s, {THREADS} at a time; as the client sees it: "
        f"p50 {cuts[49]:.1f} ms, p90 {cuts[89]:.1f} ms, p99 {cuts[98]:.1f} ms\n",
        flush=True,
    )


def measure(folder: Path, weights: dict[str, int], count: int) -> None:
    """Invoke many times and report."""
    held_out = json.loads((folder / "held_out.json").read_text())
    step(f"{count} invocations with held-out rows")
    started = time.monotonic()
    invocations = invoke_many(held_out["rows"], held_out["labels"], count)
    report(invocations, weights, time.monotonic() - started)


# --- the part that starts Moorage ---------------------------------------------------------------------------------

MOORAGE = [sys.executable, "-m", "moorage"]


def train(folder: Path) -> None:
    """Train by the Python of the image's environment, which is built at the first time."""
    step("the scikit-learn environment of the image (built once, then cached)")
    built = subprocess.run([*MOORAGE, "images", "build", IMAGE], stdout=subprocess.PIPE, text=True, check=True)
    step("training a logistic regression and a random forest on scikit-learn's breast cancer data")
    training = Path(__file__).with_name("demo_training.py")
    subprocess.run([built.stdout.strip(), str(training), str(folder)], check=True)


@contextlib.contextmanager
def moorage_running(folder: Path) -> Iterator[dict[str, Any]]:
    """Have a Moorage of our own, on a free port, with a data folder that goes with it."""
    data_dir = folder / "data"
    output = (folder / "moorage.txt").open("w+")
    process = subprocess.Popen(
        [*MOORAGE, "up", "--port", "0", "--data-dir", str(data_dir)], stdout=output, stderr=output
    )
    try:
        while not (data_dir / "server.json").exists():
            if process.poll() is not None:
                output.seek(0)
                sys.exit(output.read())
            time.sleep(0.01)
        lines = subprocess.run(
            [*MOORAGE, "env", "--data-dir", str(data_dir)], stdout=subprocess.PIPE, text=True, check=True
        )
        take_over(lines.stdout)
        yield json.loads((data_dir / "server.json").read_text())
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
        output.close()


def take_over(lines: str) -> None:
    """Do to this process what ``eval "$(moorage env)"`` does to a shell."""
    for line in lines.splitlines():
        verb, assignment = shlex.split(line)
        name, _, value = assignment.partition("=")
        if verb == "export":
            os.environ[name] = value
        else:
            os.environ.pop(name, None)


def say_how_to_go_on(folder: Path) -> None:
    """End with lines to paste; they use the artefacts that were just trained."""
    command = Path(sys.executable).with_name("moorage")
    moorage = _shown(command) if command.exists() else f"{sys.executable} -m moorage"
    variants = " \\\n      ".join(
        f"VariantName={name},ModelName={name},InstanceType=ml.m5.large,InitialInstanceCount=1,InitialVariantWeight={weight}"
        for name, weight in VARIANTS.items()
    )
    print(f"{BOLD}To go on alone{PLAIN}: in one terminal (Ctrl-C stops it)\n\n  {moorage} up\n")
    print(f'and in another\n\n  eval "$({moorage} env)"      # AWS_ENDPOINT_URL, two keys and the region')
    print("  # no AWS CLI here? pip install awscli\n")
    print(f"  aws s3 mb s3://{BUCKET}")
    for name in VARIANTS:
        print(f"  aws s3 cp {_shown(folder / name)}.tar.gz s3://{BUCKET}/{name}/model.tar.gz")
        print(f"  aws sagemaker create-model --model-name {name} --execution-role-arn {ROLE} \\")
        print(f"      --primary-container Image={IMAGE},ModelDataUrl=s3://{BUCKET}/{name}/model.tar.gz")
    print(
        f"  aws sagemaker create-endpoint-config --endpoint-config-name mine --production-variants \\\n      {variants}"
    )
    print("  aws sagemaker create-endpoint --endpoint-name mine --endpoint-config-name mine\n")
    print("or, from an artefact to an endpoint in one command, and three predictions\n")
    print(f"  {moorage} run {_shown(folder)}/logistic.tar.gz")
    print(f"  {moorage} invoke logistic --body @{_shown(folder)}/rows.csv\n")


def _shown(path: Path) -> str:
    """Give a path as the user would type it here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def main() -> None:
    """Run the demonstration."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--invocations", type=int, default=600, metavar="N", help="per measurement (default 600)")
    parser.add_argument("--keep", action="store_true", help="leave Moorage running until Ctrl-C")
    options = parser.parse_args()
    folder = Path(__file__).resolve().parent.parent / ".moorage" / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="moorage-demo-") as temporary:
        print(f"\n{BOLD}Moorage: two real models behind one endpoint{PLAIN}\n")
        train(folder)
        step("moorage up")
        with moorage_running(Path(temporary)) as server:
            step(f"ready: AWS_ENDPOINT_URL={server['url']}")
            deploy(folder)
            step("InService")
            measure(folder, VARIANTS, options.invocations)
            change_weights()
            measure(folder, NEW_WEIGHTS, options.invocations)
            if options.keep:
                print(f'Moorage goes on until Ctrl-C: eval "$(moorage env --data-dir {server["data_dir"]})"')
                with contextlib.suppress(KeyboardInterrupt):
                    signal.pause()
            step("stopping Moorage")
        step("stopped; nothing is left running\n")
        say_how_to_go_on(folder)


if __name__ == "__main__":
    # As after Ctrl-C, so that what was started is stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
