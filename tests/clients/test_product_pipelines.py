"""Several containers behind one endpoint, with boto3 and real models: pipelines, and containers invoked by name."""

import contextlib
import json
import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, EventStreamError
from tests.support.fixtures import Deployment, Wine
from tests.support.models import code_only, pack
from tests.support.product import IMAGE, Moorage, descendants, running, wait_until
from tests.support.small_models import BROKEN, ECHO, a_variant, serve

TRAIN = """
import json, sys, joblib
from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.preprocessing import StandardScaler

rows, labels = load_wine(return_X_y=True)
scaler = StandardScaler().fit(rows[1::5])
forest = RandomForestClassifier(n_estimators=20, random_state=7).fit(scaler.transform(rows[1::5]), labels[1::5])
joblib.dump(scaler, f"{sys.argv[1]}/scaler.joblib")
joblib.dump(forest, f"{sys.argv[1]}/forest.joblib")
names = ["barolo", "grignolino", "barbera"]
print(json.dumps([names[label] for label in forest.predict(scaler.transform(rows[::5]))]))
"""
_LOADING = """
import os, joblib, numpy

def model_fn(model_dir):
    return joblib.load(os.path.join(model_dir, "model.joblib"))

def input_fn(body, content_type):
    assert content_type.startswith("text/csv"), content_type
    return numpy.atleast_2d(numpy.loadtxt(body.splitlines(), delimiter=","))

def output_fn(rows, accept):
    lines = [",".join(repr(float(value)) for value in numpy.atleast_1d(row)) for row in rows]
    return "\\n".join(lines), "text/csv"
"""
PREPROCESS = f"{_LOADING}\ndef predict_fn(rows, model):\n    return model.transform(rows)\n"
PREDICT = f"{_LOADING}\ndef predict_fn(rows, model):\n    return model.predict(rows)\n"
POSTPROCESS = """
import json

NAMES = ["barolo", "grignolino", "barbera"]

def model_fn(model_dir):
    return NAMES

def input_fn(body, content_type):
    assert content_type.startswith("text/csv"), content_type
    return [int(float(line)) for line in body.splitlines()]

def predict_fn(labels, names):
    return [names[label] for label in labels]

def output_fn(names, accept):
    assert accept == "application/json", accept
    return json.dumps(names), accept
"""


@pytest.fixture(scope="module")
def wines(environment_python: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], list[str]]:
    """Train a scaler and a forest; gives the artefacts of a pipeline of three, and what it says of held-out rows."""
    folder = tmp_path_factory.mktemp("pipeline")
    trained = subprocess.run([environment_python, "-c", TRAIN, str(folder)], check=True, capture_output=True, text=True)
    code = {"scaler": PREPROCESS, "forest": PREDICT}
    artefacts = {
        name: pack({"model.joblib": (folder / f"{name}.joblib").read_bytes(), "code/inference.py": text.encode()})
        for name, text in code.items()
    }
    return {**artefacts, "names": pack({"code/inference.py": POSTPROCESS.encode()})}, json.loads(trained.stdout)


@pytest.fixture(scope="module")
def pipeline(deployment: Deployment, wines: tuple[dict[str, bytes], list[str]]) -> Iterator[str]:
    artefacts, _ = wines
    model = deployment.several("wines", *((IMAGE, artefacts[name], name) for name in ("scaler", "forest", "names")))
    yield deployment.in_service("wines", ("blue", model, 1.0, 1))
    deployment.delete("wines")


def test_pipeline_of_real_models_predicts_what_they_do_together(
    deployment: Deployment, pipeline: str, wine: Wine, wines: tuple[dict[str, bytes], list[str]]
) -> None:
    _, expected = wines
    answer, variant = deployment.invoke(pipeline, wine.csv(*range(len(wine.rows))))
    assert (json.loads(answer), variant) == (expected, "blue")


def test_model_is_described_with_all_its_containers(deployment: Deployment, pipeline: str) -> None:
    described = deployment.sagemaker.describe_model(ModelName="wines")
    names = [container["ContainerHostname"] for container in described["Containers"]]
    assert (pipeline, names) == ("wines", ["scaler", "forest", "names"])


def test_model_error_names_the_container_that_failed(deployment: Deployment, pipeline: str) -> None:
    with pytest.raises(deployment.runtime.exceptions.ModelError) as fault:
        deployment.invoke(pipeline, "1,2\n3,4")
    response: Any = fault.value.response
    assert response["OriginalStatusCode"] == 500
    assert response["Error"]["Message"].startswith("Received server error (500) from scaler with message ")


def test_each_container_has_a_log_stream_and_latencies(deployment: Deployment, pipeline: str, wine: Wine) -> None:
    deployment.invoke(pipeline, wine.csv(0, 1))
    (instance,) = {row["instance"] for row in deployment.moorage.ps() if row["endpoint"] == pipeline}
    logs = deployment.moorage.client("logs")
    found = logs.describe_log_streams(logGroupName=f"/aws/sagemaker/Endpoints/{pipeline}")["logStreams"]
    assert {stream["logStreamName"] for stream in found} == {
        f"blue/{instance}/{name}" for name in ("scaler", "forest", "names")
    }
    names = {"scaler", "forest", "names"}
    wait_until(lambda: _latencies(deployment.moorage, pipeline) == names, within=10, what="latencies are told of all")


def _latencies(moorage: Moorage, endpoint: str) -> set[str]:
    page = urllib.request.urlopen(f"http://127.0.0.1:{moorage.port}/_moorage/metrics").read().decode()
    lines = [line for line in page.splitlines() if line.startswith("moorage_container_latency_seconds_count")]
    return {line.partition('container="')[2].partition('"')[0] for line in lines if f'endpoint="{endpoint}"' in line}


def test_pipeline_takes_no_name_of_a_container(deployment: Deployment, pipeline: str) -> None:
    with pytest.raises(ClientError) as fault:
        deployment.invoke(pipeline, "1", TargetContainerHostname="scaler")
    assert fault.value.response["Error"] == {
        "Code": "ValidationError",
        "Message": "Endpoint wines does not support target container hostname header.",
    }


def test_streamed_answer_of_a_pipeline_is_that_of_its_last_container(deployment: Deployment, pipeline: str) -> None:
    answer = deployment.runtime.invoke_endpoint_with_response_stream(
        EndpointName=pipeline, Body=",".join(["1.5"] * 13), ContentType="text/csv", Accept="application/json"
    )
    with contextlib.suppress(EventStreamError):
        body = b"".join(event["PayloadPart"]["Bytes"] for event in answer["Body"])
    assert json.loads(body)[0] in {"barolo", "grignolino", "barbera"}


def test_direct_containers_answer_by_name(
    deployment: Deployment, wine: Wine, wines: tuple[dict[str, bytes], list[str]]
) -> None:
    artefacts, _ = wines
    containers = (
        (IMAGE, wine.artefact("logistic"), "logistic"),
        (IMAGE, wine.artefact("forest"), "forest"),
        (IMAGE, artefacts["names"], "names"),
    )
    name = deployment.in_service("choice", ("blue", deployment.several("choice", *containers, mode="Direct"), 1.0, 1))
    everything = wine.csv(*range(len(wine.rows)))
    for model in ("logistic", "forest"):
        answer, _ = deployment.invoke(name, everything, TargetContainerHostname=model)
        assert json.loads(answer) == wine.answers[model]
    assert deployment.invoke(name, "0\n2", TargetContainerHostname="names")[0] == '["barolo", "barbera"]'
    for named in ({}, {"TargetContainerHostname": "other"}):
        with pytest.raises(ClientError) as fault:
            deployment.invoke(name, everything, **named)
        assert fault.value.response["Error"]["Code"] == "ValidationError"
    deployment.delete(name)


def test_failing_second_container_fails_the_endpoint_and_is_named(deployment: Deployment) -> None:
    bad = code_only("def model_fn(d):\n    raise ValueError('no corks')\n")
    model = deployment.several("no-corks", (IMAGE, code_only(ECHO), ""), (IMAGE, bad, ""))
    deployment.create("no-corks", ("blue", model, 1.0, 1))
    described = deployment.settled("no-corks")
    assert described["EndpointStatus"] == "Failed"
    reason = described["FailureReason"]
    assert reason.startswith(
        "The container-2 container for production variant blue did not pass the ping health check."
    )
    assert "ValueError: no corks" in reason
    deployment.delete("no-corks")


def test_error_of_the_last_container_is_its_own(deployment: Deployment) -> None:
    model = deployment.several("wreck", (IMAGE, code_only(ECHO), ""), (IMAGE, code_only(BROKEN), ""))
    deployment.in_service("wreck", ("blue", model, 1.0, 1))
    with pytest.raises(deployment.runtime.exceptions.ModelError) as fault:
        deployment.invoke("wreck", "x")
    assert "from container-2 with message" in str(fault.value)
    deployment.delete("wreck")


@pytest.fixture(scope="module")
def expendable(environment_python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Have a server of its own, with a pipeline of which parts are killed."""
    assert environment_python
    with running(tmp_path_factory.mktemp("moorage") / "data") as server:
        user = Deployment(server)
        model = user.several("kill", (IMAGE, code_only(ECHO), "a"), (IMAGE, code_only(ECHO), "b"))
        serve(user, "kill", a_variant("blue", model, EnableSSMAccess=True))
        yield user


def processes(server: Moorage, word: bytes) -> list[int]:
    """Find the server's processes with a word in their name or command, without those that they have forked."""
    assert server.process is not None
    found: list[int] = []
    for pid in descendants(server.process.pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            told = Path(f"/proc/{pid}/comm").read_bytes() + Path(f"/proc/{pid}/cmdline").read_bytes()
            if word in told:
                found.append(pid)
    forked = {below for pid in found for below in descendants(pid) - {pid}}
    return sorted(set(found) - forked)


def _answers(user: Deployment) -> bool:
    with contextlib.suppress(ClientError):
        return user.invoke("kill", "x")[0] == "x"
    return False


@pytest.mark.parametrize("word", [b"moorage-model", b"moorage.front"])
@pytest.mark.parametrize("which", [0, -1])
def test_instance_of_which_a_part_is_killed_is_replaced(expendable: Deployment, word: bytes, which: int) -> None:
    user, server = expendable, expendable.moorage
    wait_until(lambda: _answers(user), within=30, what="it answers")
    before = processes(server, word)
    assert len(before) == (1 if word == b"moorage.front" else 2)
    os.kill(before[which], signal.SIGKILL)
    wait_until(
        lambda: set(processes(server, word)).isdisjoint(before) and _answers(user), within=60, what="another answers"
    )
    assert len(processes(server, b"moorage-model")) == 2
    assert len(processes(server, b"moorage.front")) == 1


def test_shell_is_opened_in_the_container_that_is_named(expendable: Deployment) -> None:
    user, server = expendable, expendable.moorage
    wait_until(lambda: _answers(user), within=30, what="it answers")
    (instance,) = {row["instance"] for row in server.ps() if row["endpoint"] == "kill"}
    for name, port in (("a", "8080"), ("b", "8081")):
        seen = server.run("exec", f"kill/blue/{instance}/{name}", "sh", "-c", "echo $SAGEMAKER_BIND_TO_PORT")
        assert seen.stdout == f"{port}\n"
    unknown = server.run("exec", f"kill/blue/{instance}/c", "id", check=False)
    assert unknown.stderr == f"Error: {instance} has no container c. Its containers: a, b.\n"
