"""The whole product against other model servers: the same scikit-learn model, one process for it, one row a request.

All processes of each have the first core together; the load has the second. Requests to Moorage are signed.
"""

import contextlib
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import orjson
from tests.support.models import INFERENCE, pack
from tests.support.product import IMAGE, Moorage, wait_until

from benchmarks.gateway.compiled import compiled
from benchmarks.gateway.cpu import CONNECTIONS, WARM_UP_SECONDS
from benchmarks.gateway.machine import Server, cores, free_port, started
from benchmarks.gateway.model_servers import MODEL_SERVERS, ModelServer, train
from benchmarks.gateway.plan import Plan
from benchmarks.gateway.requests import COUNT, RequestFile, Signer, rows, signed, unsigned
from benchmarks.gateway.venvs import version
from benchmarks.gateway.wrk import Load, load
from benchmarks.measures import Measure, NotMeasured, not_measured
from benchmarks.server import make_configuration, wait_in_service
from moorage.aws.credentials import Credential

KIND = "application/json"
START_SECONDS = 120.0


def measure(plan: Plan) -> Iterator[Measure]:
    """Compare with one after the other, in turns."""
    with tempfile.TemporaryDirectory(prefix="bench-product-") as name, _product(Path(name)) as (ours, requests):
        _load(ours, requests, WARM_UP_SECONDS)
        for peer, it in MODEL_SERVERS.items():
            what = f"throughput of the whole product / {it.title}"
            if peer not in plan.peers:
                yield not_measured(what, it.reach, f"choose it: --peers {peer}")
                continue
            try:
                with _running(peer, it, Path(name) / peer) as (server, theirs):
                    turns = list(_turns(plan, (ours, requests), (server, theirs)))
            except (NotMeasured, RuntimeError, OSError, subprocess.SubprocessError) as fault:
                yield not_measured(what, it.reach, fault)
                continue
            yield _throughput(what, it.reach, server, turns)


def _turns(
    plan: Plan, ours: tuple[Server, RequestFile], theirs: tuple[Server, RequestFile]
) -> Iterator[tuple[Load, Load]]:
    _load(*theirs, WARM_UP_SECONDS)
    for number in range(plan.rounds):
        if number % 2 == 0:
            yield _load(*ours, plan.seconds), _load(*theirs, plan.seconds)
        else:
            that = _load(*theirs, plan.seconds)
            yield _load(*ours, plan.seconds), that


def _throughput(what: str, reach: str, server: Server, turns: list[tuple[Load, Load]]) -> Measure:
    ratio = statistics.median(mine.rate / that.rate for mine, that in turns)
    rates = [statistics.median(each.rate for each in column) for column in zip(*turns, strict=True)]
    cpu = [statistics.median(each.cpu_us for each in column) for column in zip(*turns, strict=True)]
    note = f"ours {rates[0]:.0f}/s, {server.name} {rates[1]:.0f}/s; CPU {cpu[0]:.0f} / {cpu[1]:.0f} us"
    return Measure(what, reach, f"{ratio:.2f}x", note)


def _load(server: Server, requests: RequestFile, seconds: float) -> Load:
    return load(server, requests.fresh(), connections=CONNECTIONS, seconds=seconds, core=cores()[1])


@contextlib.contextmanager
def _product(folder: Path) -> Iterator[tuple[Server, RequestFile]]:
    """Have Moorage with one instance of the model, and requests for it."""
    built = subprocess.run(
        [sys.executable, "-m", "moorage", "images", "build", IMAGE], check=True, capture_output=True, text=True
    )
    train(built.stdout.strip().splitlines()[-1], folder / "model.joblib")
    artefact = pack({"model.joblib": (folder / "model.joblib").read_bytes(), "code/inference.py": INFERENCE.encode()})
    data, port = folder / "data", free_port()
    command = [sys.executable, "-m", "moorage", "up", "--port", str(port), "--data-dir", str(data)]
    environment = {"PYTHONPATH": str(compiled())}
    with started("moorage", command, core=cores()[0], port=port, log=folder / "log", environment=environment) as server:
        moorage = Moorage(data)
        wait_until((data / "server.json").exists, within=START_SECONDS, what="moorage up is ready")
        sagemaker = make_configuration(moorage, variants=1, instances=1, artefact=artefact)
        sagemaker.create_endpoint(EndpointName="bench", EndpointConfigName="bench")
        wait_in_service(sagemaker, "bench")
        signer = _signer(moorage)
        yield server, RequestFile(folder / "requests", lambda: signed(signer, _json_rows(), KIND))


def _signer(moorage: Moorage) -> Signer:
    exports = moorage.exports()
    key = Credential(
        exports["AWS_ACCESS_KEY_ID"], exports["AWS_SECRET_ACCESS_KEY"], moorage.server()["account"], "admin"
    )
    host = urlsplit(exports["AWS_ENDPOINT_URL"]).netloc
    return Signer(key, host, exports["AWS_DEFAULT_REGION"])


def _json_rows() -> list[bytes]:
    return [orjson.dumps([row]) for row in itertools.islice(rows(), COUNT)]


@contextlib.contextmanager
def _running(name: str, it: ModelServer, folder: Path) -> Iterator[tuple[Server, RequestFile]]:
    """Have another model server, and requests for it."""
    folder.mkdir()
    place = it.prepare(name, folder)
    bodies = [orjson.dumps(it.body(row)) for row in itertools.islice(rows(), COUNT)]
    requests = RequestFile(folder / "requests", lambda: unsigned(it.path, bodies, KIND))
    start, title = it.start(place), f"{it.title} {version(place.venv, it.package)}"
    with started(
        title,
        start.command,
        core=cores()[0],
        port=place.port,
        log=folder / "log",
        environment={"MODEL": str(place.model), "PORT": str(place.port), **start.environment},
        patience_seconds=START_SECONDS,
    ) as server:
        _wait_for_success(server, it.path, bodies[0], time.monotonic() + START_SECONDS)
        yield server, requests


def _wait_for_success(server: Server, path: str, body: bytes, deadline: float) -> None:
    request = urllib.request.Request(server.url + path, body, {"Content-Type": KIND})
    while True:
        try:
            with urllib.request.urlopen(request, timeout=20):
                return
        except OSError as fault:
            if time.monotonic() > deadline:
                raise NotMeasured(f"{server.name} gave no answer: {fault}") from fault
        time.sleep(0.05)
