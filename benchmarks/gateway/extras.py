"""Capture of all invocations and a shadow that gets all of them: how much of the throughput is kept.

Whether anything was captured and shadowed at all is counted too: what is dropped costs nothing.
"""

import asyncio
import http.client
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.gateway import nginx, ours
from benchmarks.gateway.cpu import CONNECTIONS, WARM_UP_SECONDS
from benchmarks.gateway.machine import Server, cores
from benchmarks.gateway.plan import Plan
from benchmarks.gateway.requests import ACCOUNT, REGION, RequestFile
from benchmarks.gateway.wrk import Load, load
from benchmarks.measures import Measure, NotMeasured
from moorage.base.clock import SystemClock
from moorage.base.ids import SystemIds
from moorage.base.settings import Settings
from moorage.objects.folder import open_store
from moorage.routing.snapshot import Capture

_BUCKET = "bench"
_ALL = Capture(100.0, f"s3://{_BUCKET}/capture", inputs=True, outputs=True, csv_types=("text/csv",))


def measure(plan: Plan) -> Iterator[Measure]:
    """Take turns between a gateway without and one with everything on."""
    first, second = cores()
    with (
        tempfile.TemporaryDirectory(prefix="bench-extras-") as name,
        nginx.upstream(second) as behind,
        nginx.upstream(second, "shadow") as shadow,
    ):
        requests, place = RequestFile(Path(name) / "requests"), Path(name) / "gateway"
        (place / "data").mkdir(parents=True)
        asyncio.run(_make_bucket(place / "data"))
        everything = ours.make_snapshot(behind=behind, shadow=shadow, capture=_ALL)
        with (
            ours.gateway(first, ours.make_snapshot(behind=behind)) as plain,
            ours.gateway(first, everything, place) as full,
        ):
            turns = list(_turns(plain, full, requests, plan))
        # A gateway that has ended has written all that it captured.
        sent = sum(with_all.requests for _, with_all in turns)
        shadowed, captured = _requests(shadow) / sent, _records(place) / sent
    if shadowed < 0.01 or captured < 0.01:
        raise NotMeasured(f"of the requests {shadowed:.0%} were shadowed and {captured:.0%} captured")
    kept = statistics.median(with_all.rate / without.rate for without, with_all in turns[1:])
    cpu = [statistics.median(each.cpu_us for each in column) for column in zip(*turns[1:], strict=True)]
    note = f"{shadowed:.0%} shadowed, {captured:.2f} records each; CPU per request {cpu[0]:.0f} and {cpu[1]:.0f} us"
    yield Measure("throughput kept with capture and shadow of 100 %", ">= 60 %", f"{kept:.0%}", note)


async def _make_bucket(data: Path) -> None:
    """Have the bucket that the captured invocations go to."""
    store = open_store(Settings(data_dir=data, run_dir=data), SystemClock(), SystemIds())
    await store.create_bucket(_BUCKET, account=ACCOUNT, region=REGION)
    store.close()


def _turns(plain: Server, full: Server, requests: RequestFile, plan: Plan) -> Iterator[tuple[Load, Load]]:
    """Load one after the other; the first turn is to warm up."""
    core = cores()[1]
    for seconds in (WARM_UP_SECONDS, *([plan.seconds] * plan.rounds)):
        without, with_all = (
            load(server, requests.fresh(), connections=CONNECTIONS, seconds=seconds, core=core)
            for server in (plain, full)
        )
        yield without, with_all


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
