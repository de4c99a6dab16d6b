"""CPU time per request of one gateway process with a signature verified on each request, and nginx's beside it.

Both proxy to the same server behind; the same requests go to both, in turns. nginx checks nothing.
"""

import contextlib
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gateway import nginx, ours
from benchmarks.gateway.machine import Server, cores
from benchmarks.gateway.requests import RequestFile
from benchmarks.gateway.wrk import Load, load

CONNECTIONS = 32
ROUNDS, SECONDS, WARM_UP_SECONDS = 5, 3.0, 1.0


@dataclass(frozen=True)
class Round:
    """One turn of each."""

    busy: dict[str, Load]
    """At 32 connections, by the server's name."""
    alone: dict[str, Load]
    """At one connection."""

    def ratio(self, name: str = "moorage") -> float:
        """Give nginx's CPU time per request by that of another: 0.5 means twice nginx's."""
        return self.busy["nginx"].cpu_us / self.busy[name].cpu_us


def take_turns(servers: list[Server], *, rounds: int = ROUNDS, seconds: float = SECONDS) -> Iterator[Round]:
    """Load one server after the other, as often as there are rounds."""
    _, core = cores()
    with tempfile.TemporaryDirectory(prefix="bench-requests-") as folder:
        requests = RequestFile(Path(folder) / "requests")

        def run(server: Server, connections: int, length: float) -> Load:
            return load(server, requests.fresh(), connections=connections, seconds=length, core=core)

        for server in servers:
            run(server, CONNECTIONS, WARM_UP_SECONDS)
        for number in range(rounds):
            turns = servers if number % 2 == 0 else servers[::-1]
            busy = {server.name: run(server, CONNECTIONS, seconds) for server in turns}
            yield Round(busy, {server.name: run(server, 1, seconds) for server in turns})


@contextlib.contextmanager
def pair() -> Iterator[list[Server]]:
    """Have nginx and a gateway on the first core, and what both proxy to on the second."""
    first, second = cores()
    with nginx.upstream(second) as behind, nginx.proxy(first, behind) as proxy:
        with ours.gateway(first, ours.make_snapshot(behind=behind)) as gateway:
            yield [proxy, gateway]


def show(*, rounds: int, seconds: float) -> None:
    """Print every round, and the median of the ratios: for those who make the gateway faster."""
    print(
        f"{'round server':<16}{'CPU us':>8}{'req/s':>9}{'p50 32':>9}{'p99 32':>9}{'p50 1':>9}{'p99 1':>9}  nginx/ours"
    )
    ratios = []
    with pair() as servers:
        for number, turn in enumerate(take_turns(servers, rounds=rounds, seconds=seconds), 1):
            ratios.append(turn.ratio())
            for name in ("nginx", "moorage"):
                busy, alone = turn.busy[name], turn.alone[name]
                times = "".join(f"{ms:9.3f}" for ms in (busy.p50_ms, busy.p99_ms, alone.p50_ms, alone.p99_ms))
                ratio = f"  {ratios[-1]:.3f}" if name == "moorage" else ""
                print(f"{number:<6}{name:<10}{busy.cpu_us:8.1f}{busy.rate:9.0f}{times}{ratio}", flush=True)
    print(f"nginx / ours, median of {len(ratios)} rounds: {statistics.median(ratios):.3f}")
