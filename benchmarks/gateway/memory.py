"""Memory of the gateway: what a connection costs that waits, and what is left after many requests."""

import contextlib
import itertools
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.gateway import nginx, ours
from benchmarks.gateway.machine import Server, cores
from benchmarks.gateway.plan import Plan
from benchmarks.gateway.requests import RequestFile, signed
from benchmarks.gateway.wrk import load
from benchmarks.load import Conversation, Load
from benchmarks.measures import Measure

IDLE = 10_000
FILES = 3 * IDLE
"""Open files that the gateway is allowed if the system lets us: it leaves half of them for instances."""
WARM_UP, CONNECTIONS, SEGMENT_SECONDS = 50_000, 32, 10.0


def measure(plan: Plan) -> Iterator[Measure]:
    """Look at idle connections, then at growth."""
    first, second = cores()
    _allow_files(FILES)
    with nginx.upstream(second) as behind:
        snapshot = ours.make_snapshot(behind=behind)
        with ours.gateway(first, snapshot) as gateway:
            yield _idle(gateway)
        with ours.gateway(first, snapshot) as gateway:
            yield _growth(gateway, plan.requests, second)


def _idle(gateway: Server) -> Measure:
    """Open many connections, invoke once on each, and leave them open."""
    served = Load(gateway.url.removeprefix("http://"))
    requests = itertools.cycle(signed())
    warm = [_ask(served, next(requests)) for _ in range(500)]
    for conversation in warm[:-1]:
        conversation.close()
    before = gateway.memory()
    open_ones: list[Conversation] = []
    # The gateway refuses connections when the system allows it too few files.
    with contextlib.suppress(RuntimeError, OSError):
        while len(open_ones) < IDLE:
            open_ones.append(_ask(served, next(requests)))
    each = (gateway.memory() - before) / max(1, len(open_ones))
    for conversation in (*open_ones, warm[-1]):
        conversation.close()
    note = f"{len(open_ones)} connections, one request on each before"
    return Measure("memory per idle connection", "<= 10 kB", f"{each / 1000:.1f} kB", note)


def _ask(served: Load, request: bytes) -> Conversation:
    conversation = served.converse()
    try:
        conversation.ask(request)
    except BaseException:
        conversation.close()
        raise
    return conversation


def _growth(gateway: Server, wanted: int, core: int) -> Measure:
    with tempfile.TemporaryDirectory(prefix="bench-requests-") as folder:
        requests = RequestFile(Path(folder) / "requests")

        def send(count: int) -> int:
            sent = 0
            while sent < count:
                sent += load(
                    gateway, requests.fresh(), connections=CONNECTIONS, seconds=SEGMENT_SECONDS, core=core
                ).requests
            return sent

        warm_up = send(WARM_UP)
        before = gateway.memory("Rss")
        sent = send(wanted)
        grown = gateway.memory("Rss") - before
    note = f"resident {before / 1e6:.1f} MB after the first {warm_up}"
    return Measure(f"memory growth over {sent} requests", "none", f"{grown / 1e6:+.2f} MB", note)


def _allow_files(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            return
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, wanted)), hard))
