"""Instances: how fast one comes, how fast one that died is replaced, how many fit.

All of it through the product, as a client sees it: the signed call, the control plane, the node agent, the gateway.
The model is a scikit-learn random forest that says with its prediction which of its copies has made it.
"""

import contextlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError
from tests.support.dockerd import any_daemon
from tests.support.models import pack
from tests.support.product import IMAGE, Moorage, descendants

from benchmarks.measures import Measure, not_measured
from benchmarks.server import make_configuration, server, wait_in_service
from moorage.engine.docker.daemon import NoDaemon

ROUNDS = 7
MANY = 50
_PATIENCE_SECONDS = 30.0
_PAUSE_SECONDS = 0.002
"""Between two tries: who asks without a pause takes a core from those who work."""

_TRAIN = """
import sys, joblib
from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier
joblib.dump(RandomForestClassifier(n_estimators=100, random_state=7).fit(*load_wine(return_X_y=True)), sys.argv[1])
"""

_INFERENCE = """
import os, joblib

def model_fn(model_dir):
    global NAME
    NAME = os.urandom(8).hex()
    return joblib.load(os.path.join(model_dir, "model.joblib"))

def predict_fn(rows, model):
    return model.predict(rows)

def output_fn(prediction, accept):
    return f"{prediction[0]} {NAME}", "text/plain"
"""

_NEW = "new instance: from the call that decides to its first prediction"

_ROW = json.dumps([[1.0] * 13])


def measure() -> Iterator[Measure]:
    """Make one, kill one under load, start many."""
    artefact = _artefact()
    with server() as moorage:
        sagemaker = make_configuration(moorage, variants=1, instances=1, artefact=artefact)
        yield _first_prediction(moorage, sagemaker, _NEW, "<= 60 ms")
        yield _replaced(moorage, sagemaker)
    yield from _many(artefact)
    yield _in_a_container(artefact)


class Caller:
    """Invokes an endpoint, and knows who answered."""

    def __init__(self, moorage: Moorage, endpoint: str) -> None:
        self._endpoint = endpoint
        self._runtime = moorage.client("sagemaker-runtime", retries={"total_max_attempts": 1})

    def who(self) -> str:
        """Invoke once; gives the copy of the model that has predicted."""
        answer = self._runtime.invoke_endpoint(EndpointName=self._endpoint, Body=_ROW, ContentType="application/json")
        return str(answer["Body"].read().decode().partition(" ")[2])

    def wait_for_other(self, known: str) -> None:
        """Invoke until another copy answers; errors are those of an instance that has just died or is not there yet."""
        deadline = time.perf_counter() + _PATIENCE_SECONDS
        fault: ClientError | None = None
        while time.perf_counter() < deadline:
            try:
                if self.who() != known:
                    return
            except ClientError as error:
                fault = error
            time.sleep(_PAUSE_SECONDS)
        raise TimeoutError(f"nobody but {known} answers: {fault}")


def _in_a_container(artefact: bytes) -> Measure:
    """Make one after another, each in a container of Docker's."""
    what, reach = f"{_NEW}, docker", "<= 700 ms"
    try:
        with any_daemon() as daemon, server(MOORAGE_ENGINE="docker", DOCKER_HOST=str(daemon.address)) as moorage:
            sagemaker = make_configuration(moorage, variants=1, instances=1, artefact=artefact)
            if fault := _guests_fault(moorage):
                return not_measured(what, reach, fault)
            return _first_prediction(moorage, sagemaker, what, reach)
    except NoDaemon as fault:
        return not_measured(what, reach, fault)


def _guests_fault(moorage: Moorage) -> str:
    """Ask the product why built-in images do not run in containers here; empty when they do."""
    checks = {check["name"]: check for check in json.loads(moorage.run("doctor", "--output", "json").stdout)}
    found = checks["built-in images"]
    return "" if found["state"] == "ok" else str(found["found"])


def _first_prediction(moorage: Moorage, sagemaker: Any, what: str, reach: str) -> Measure:
    """Create endpoint after endpoint while another one of the environment lives: from the call to a prediction."""
    seconds = []
    with _endpoint(moorage, sagemaker, "lives-on"):
        for number in range(ROUNDS):
            name = f"new-{number}"
            caller = Caller(moorage, name)
            started = time.perf_counter()
            sagemaker.create_endpoint(EndpointName=name, EndpointConfigName="bench")
            caller.wait_for_other("")
            seconds.append(time.perf_counter() - started)
            _end(sagemaker, name)
    return Measure(what, reach, _milliseconds(seconds), _spread(seconds))


def _replaced(moorage: Moorage, sagemaker: Any) -> Measure:
    """Kill the only instance while it is being invoked, and wait for the next answer."""
    seconds = []
    for number in range(ROUNDS):
        # Each time another endpoint: what dies again and again is a crash loop, and waits.
        name = f"replaced-{number}"
        with _endpoint(moorage, sagemaker, name) as caller, _load(moorage, name):
            (pid,) = moorage.pids("instance", name)
            dead = caller.who()
            os.kill(pid, signal.SIGKILL)
            started = time.perf_counter()
            caller.wait_for_other(dead)
            seconds.append(time.perf_counter() - started)
    what = "instance that dies under load: until another answers in its place"
    return Measure(what, "<= 100 ms", _milliseconds(seconds), _spread(seconds))


def _many(artefact: bytes) -> Iterator[Measure]:
    """Create an endpoint of many instances; the memory of one is what the last forty of them add."""
    with server() as moorage:
        sagemaker = make_configuration(moorage, variants=1, instances=MANY, artefact=artefact)
        started = time.perf_counter()
        sagemaker.create_endpoint(EndpointName="many", EndpointConfigName="bench")
        wait_in_service(sagemaker, "many")
        seconds = time.perf_counter() - started
        yield Measure(f"{MANY} instances of one model: CreateEndpoint to InService", "<= 10 s", f"{seconds:.1f} s")
        whole = _pss(moorage)
        _scale(sagemaker, "many", MANY // 5)
        _wait_for(lambda: sagemaker.describe_endpoint(EndpointName="many")["EndpointStatus"] == "InService")
        _wait_for(lambda: len(moorage.pids("instance")) == MANY // 5)
        few = _pss(moorage)
        each = (whole - few) / (MANY - MANY // 5) / 1e6
        yield Measure("memory of each further instance (PSS)", "<= 25 MB", f"{each:.1f} MB", "after its load, idle")


@contextlib.contextmanager
def _endpoint(moorage: Moorage, sagemaker: Any, name: str) -> Iterator[Caller]:
    """Have an endpoint of one instance that has been invoked."""
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName="bench")
    wait_in_service(sagemaker, name)
    caller = Caller(moorage, name)
    caller.who()
    yield caller
    _end(sagemaker, name)


def _end(sagemaker: Any, name: str) -> None:
    """Delete an endpoint that may still be on its way, and wait until nothing of it disturbs the next one."""
    _wait_for(lambda: sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"] == "InService")
    sagemaker.delete_endpoint(EndpointName=name)
    _wait_for(lambda: not sagemaker.list_endpoints(NameContains=name)["Endpoints"])


@contextlib.contextmanager
def _load(moorage: Moorage, endpoint: str) -> Iterator[None]:
    """Have somebody else invoke the endpoint all the time."""
    done = threading.Event()
    other = Caller(moorage, endpoint)

    def invoke() -> None:
        while not done.is_set():
            with contextlib.suppress(ClientError):
                other.who()

    thread = threading.Thread(target=invoke)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _scale(sagemaker: Any, endpoint: str, count: int) -> None:
    wanted = [{"VariantName": "variant-0", "DesiredInstanceCount": count}]
    sagemaker.update_endpoint_weights_and_capacities(EndpointName=endpoint, DesiredWeightsAndCapacities=wanted)


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.perf_counter() + _PATIENCE_SECONDS
    while not condition():
        if time.perf_counter() > deadline:
            raise TimeoutError(f"not in {_PATIENCE_SECONDS:g} seconds")


def _artefact() -> bytes:
    """Train the model with the environment that will serve it, which is made now if it is not there."""
    built = subprocess.run(
        [sys.executable, "-m", "moorage", "images", "build", IMAGE], check=True, capture_output=True, text=True
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.joblib")
        subprocess.run([built.stdout.strip().splitlines()[-1], "-c", _TRAIN, str(path)], check=True)
        return pack({"model.joblib": path.read_bytes(), "code/inference.py": _INFERENCE.encode()})


def _pss(moorage: Moorage) -> int:
    """Sum up the memory of all processes (proc(5): each shared page counts as a share)."""
    assert moorage.process is not None
    total = 0
    for pid in descendants(moorage.process.pid):
        with contextlib.suppress(OSError):
            found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
            total += int(found[1]) * 1024 if found else 0
    return total


def _milliseconds(seconds: list[float]) -> str:
    return f"{statistics.median(seconds) * 1000:.0f} ms"


def _spread(seconds: list[float]) -> str:
    return f"{min(seconds) * 1000:.0f} to {max(seconds) * 1000:.0f} ms in {len(seconds)} rounds"
