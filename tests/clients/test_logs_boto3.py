"""The logs of real endpoints, as boto3, the AWS CLIs and the command line see them."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.support import models
from tests.support.client_environments import aws_cli_v1, aws_cli_v2
from tests.support.fixtures import Deployment
from tests.support.product import wait_until

GROUP = "/aws/sagemaker/Endpoints/"

TALKING = """
    import os, sys

    def model_fn(model_dir):
        print("loading")
        print("to stderr", file=sys.stderr)
        return None

    def input_fn(body, content_type):
        return body if isinstance(body, str) else bytes(body).decode()

    def predict_fn(data, model):
        print("asked:", data)
        if data == "die":
            print("last words", end="", flush=True)
            os._exit(1)
        if data == "fail":
            raise ValueError("no luck")
        return data

    def output_fn(prediction, accept):
        return prediction, "text/plain"
"""

SPEECHLESS = """
    import os, sys

    def model_fn(model_dir):
        sys.stderr.write("no model today")
        sys.stderr.flush()
        os._exit(3)
"""


@pytest.fixture(scope="module")
def model(deployment: Deployment) -> str:
    one_worker = {"SAGEMAKER_MODEL_SERVER_WORKERS": "1"}  # whose end is that of its instance
    return deployment.model("talking", models.code_only(TALKING), Environment=one_worker)


@contextmanager
def endpoint(deployment: Deployment, name: str, model: str, count: int = 1) -> Iterator[str]:
    yield deployment.in_service(name, ("AllTraffic", model, 1, count))
    deployment.delete(name)


def found(logs: Any, name: str, pattern: str = "", **members: Any) -> list[dict[str, Any]]:
    pages = logs.get_paginator("filter_log_events").paginate(
        logGroupName=GROUP + name, filterPattern=pattern, **members
    )
    return [event for page in pages for event in page["events"]]


def test_what_models_print_is_in_the_streams_of_their_instances(deployment: Deployment, model: str) -> None:
    logs = deployment.moorage.client("logs")
    began = int(time.time() * 1000)
    with endpoint(deployment, "talks", model, 2):
        streams = [
            stream["logStreamName"] for stream in logs.describe_log_streams(logGroupName=GROUP + "talks")["logStreams"]
        ]
        shown = json.dumps(deployment.moorage.ps())
        for number in range(20):
            deployment.invoke("talks", f"number {number}")
        wait_until(lambda: found(logs, "talks", '"asked: number 19"'), within=5, what="the last number is there")
        asked = int(time.time() * 1000)
        deployment.invoke("talks", "later")
        wait_until(lambda: found(logs, "talks", '"asked: later"'), within=5, what="the last line is there")
        by_stream = {
            stream: logs.get_log_events(logGroupName=GROUP + "talks", logStreamName=stream, startFromHead=True)[
                "events"
            ]
            for stream in streams
        }
    assert len(streams) == 2
    assert all(stream.removeprefix("AllTraffic/") in shown for stream in streams)
    for events in by_stream.values():
        assert [event["message"] for event in events][:2] == ["loading", "to stderr"]
        assert all(began <= event["timestamp"] <= asked + 60_000 for event in events)
    numbers = [event["message"] for event in found(logs, "talks", '"asked: number"')]
    assert sorted(numbers) == sorted(f"asked: number {number}" for number in range(20)), "of both instances"
    assert [event["message"] for event in found(logs, "talks", "asked", startTime=asked)] == ["asked: later"]
    groups = logs.describe_log_groups(logGroupNamePrefix=GROUP + "talks")["logGroups"]
    assert [group["logGroupName"] for group in groups] == [GROUP + "talks"], "logs outlive their endpoint"
    assert deployment.moorage.run("logs", "talks", "--tail", "1").stdout.endswith("| asked: later\n")


def test_an_error_of_the_model_names_the_log_group(deployment: Deployment, model: str) -> None:
    logs = deployment.moorage.client("logs")
    with endpoint(deployment, "fails", model):
        with pytest.raises(ClientError) as caught:
            deployment.invoke("fails", "fail")
        (event,) = wait_until(lambda: found(logs, "fails", '"ValueError: no luck"'), within=5, what="its traceback")
    (group,) = logs.describe_log_groups(logGroupIdentifiers=[caught.value.response["LogStreamArn"]])["logGroups"]
    assert group["logGroupArn"] == caught.value.response["LogStreamArn"]
    assert event["logStreamName"].startswith("AllTraffic/i-")


def test_last_words_of_an_instance_that_dies_are_kept_and_its_successor_has_a_stream(
    deployment: Deployment, model: str
) -> None:
    logs = deployment.moorage.client("logs")
    with endpoint(deployment, "dies", model):
        with pytest.raises(ClientError):
            deployment.invoke("dies", "die")
        wait_until(lambda: len(found(logs, "dies", "loading")) == 2, within=30, what="another instance loads")
    (last,) = found(logs, "dies", '"last words"')
    first, second = found(logs, "dies", "loading")
    assert last["logStreamName"] == first["logStreamName"] != second["logStreamName"]


def test_the_reason_of_a_failed_endpoint_and_its_log_say_the_same(deployment: Deployment) -> None:
    deployment.model("speechless", models.code_only(SPEECHLESS))
    deployment.create("speechless", ("AllTraffic", "speechless", 1.0, 1))
    described = deployment.settled("speechless")
    assert described["EndpointStatus"] == "Failed"
    assert "no model today" in described["FailureReason"]
    messages = [
        event["message"] for event in found(deployment.moorage.client("logs"), "speechless", '"no model today"')
    ]
    assert messages
    assert set(messages) == {"no model today"}
    assert "no model today" in deployment.moorage.run("logs", "speechless").stdout
    deployment.delete("speechless")


@pytest.mark.slow  # several starts of the AWS CLI v1
def test_the_cli_v1_reads_logs(deployment: Deployment, model: str, tmp_path: Path) -> None:
    aws = aws_cli_v1(deployment.moorage, tmp_path)
    with endpoint(deployment, "read-by-cli", model):
        deployment.invoke("read-by-cli", "hello")
    group = ("--log-group-name", GROUP + "read-by-cli")
    told = aws.json("logs", "filter-log-events", *group, "--filter-pattern", '"asked: hello"')
    assert [event["message"] for event in told["events"]] == ["asked: hello"]
    (stream,) = aws.json("logs", "describe-log-streams", *group, "--order-by", "LastEventTime")["logStreams"]
    told = aws.json("logs", "get-log-events", *group, "--log-stream-name", stream["logStreamName"], "--limit", "1")
    assert [event["message"] for event in told["events"]] == ["asked: hello"]


@pytest.mark.slow  # starts of the AWS CLI v2, which looks for new events every five seconds
@pytest.mark.timeout(400)  # the first test to come downloads the CLI
@pytest.mark.client("AWS CLI v2")
def test_the_cli_v2_follows_a_log_group(deployment: Deployment, model: str, tmp_path: Path) -> None:
    aws = aws_cli_v2(deployment.moorage, tmp_path)
    with endpoint(deployment, "followed", model):
        deployment.invoke("followed", "before")
        with subprocess.Popen(
            [*aws.command, "logs", "tail", GROUP + "followed", "--follow", "--format", "short"],
            env={**aws.environment, "PYTHONUNBUFFERED": "1"},  # into a pipe it writes a page at a time otherwise
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
        ) as following:
            try:
                shown = _lines_until(following, "asked: before")
                deployment.invoke("followed", "meanwhile")
                shown += _lines_until(following, "asked: meanwhile")
            finally:
                following.kill()
    assert [line.split(" ", 1)[1] for line in shown] == ["loading", "to stderr", "asked: before", "asked: meanwhile"]


def _lines_until(process: "subprocess.Popen[str]", end: str) -> list[str]:
    assert process.stdout is not None
    found: list[str] = []
    while not found or not found[-1].endswith(end):
        line = process.stdout.readline()
        assert line, f"it ended before it has shown {end!r}: {found}"
        found.append(line.rstrip("\n"))
    return found
