"""Capture of all invocations and a shadow that gets all of them: how much of the throughput is kept.

Whether anything was captured and shadowed at all is counted too: what is dropped costs nothing.
"""

import http.client
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.gateway import nginx, ours
from benchmarks.gateway.cpu import CONNECTIONS, WARM_UP_SECONDS
from benchmarks.gateway.machine import Server, cores
from benchmarks.gateway.plan import Plan
from benchmarks.gateway.requests import RequestFile
from benchmarks.gateway.wrk import Load, load
from benchmarks.measures import Measure, NotMeasured
from moorage.routing.snapshot import Capture

_ALL = Capture(100.0, "s3://bench/capture", inputs=True, outputs=True, csv_types=("text/csv",))


def measure(plan: Plan) -> Iterator[Measure]:
    """Take turns between a gateway without and one with everything on."""
    first, second = cores()
    with (
        tempfile.TemporaryDirectory(prefix="bench-extras-") as name,
        nginx.upstream(second) as behind,
        nginx.upstream(second, "shadow") as shadow,
    ):
        requests, place = RequestFile(Path(name) / "requests"), Path(name) / "gateway"
        place.mkdir()

        def run(server: Server, seconds: float) -> Load:
            return load(server, requests.fresh(), connections=CONNECTIONS, seconds=seconds, core=second)

        full_snapshot = ours.make_snapshot(behind=behind, shadow=shadow, capture=_ALL)
        with ours.gateway(first, ours.make_snapshot(behind=behind)) as plain:
            with ours.gateway(first, full_snapshot, place) as full:
                loads = [run(server, WARM_UP_SECONDS) for server in (plain, full)][1:]
                kept = []
                for number in range(plan.rounds):
                    turns = (plain, full) if number % 2 == 0 else (full, plain)
                    rates = {server.port: run(server, plan.seconds) for server in turns}
                    loads.append(rates[full.port])
                    kept.append(rates[full.port].rate / rates[plain.port].rate)
        sent = sum(one.requests for one in loads)
        shadowed, captured = _requests(shadow) / sent, _records(place) / sent
    if shadowed < 0.01 or captured < 0.01:
        raise NotMeasured(f"of the requests, {shadowed:.0%} were shadowed and {captured:.0%} captured")
    note = f"{shadowed:.0%} were shadowed, {captured:.0%} captured; CPU {statistics.median(o.cpu_us for o in loads):.0f} us"
    yield Measure("throughput kept with capture and shadow of 100 %", ">= 60 %", f"{statistics.median(kept):.0%}", note)


def _requests(server: Server) -> int:
    """Ask nginx how many requests it has had."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", "/status")
    numbers = connection.getresponse().read().splitlines()[2].split()
    connection.close()
    return int(numbers[2])


def _records(folder: Path) -> int:
    """Count the captured invocations in all files that a gateway has left."""
    return sum(path.read_bytes().count(b'"captureData"') for path in folder.rglob("*") if path.is_file())
