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
from benchmarks.gateway.compiled import source
from benchmarks.gateway.machine import Server, cores
from benchmarks.gateway.plan import Plan
from benchmarks.gateway.proxies import PROXIES
from benchmarks.gateway.requests import RequestFile
from benchmarks.gateway.wrk import Load, load
from benchmarks.measures import Measure, NotMeasured, not_measured

CONNECTIONS = 32
WARM_UP_SECONDS = 1.0
REACHES = {"nginx": ">= 0.5", "envoy": "> 1x", "starlette": ">= 50x"}
"""CPU time per request of each by ours."""


@dataclass(frozen=True)
class Round:
    """One turn of each."""

    busy: dict[str, Load]
    """At 32 connections, by the server's name."""
    alone: dict[str, Load]
    """At one connection."""

    @property
    def ratio(self) -> float:
        """The CPU time of nginx per request by ours: 0.5 means that we take twice as much."""
        return self.busy["nginx"].cpu_us / self.busy["moorage"].cpu_us

    @property
    def ratio_of_source(self) -> float:
        """The same for the gateway that is not compiled."""
        return self.busy["nginx"].cpu_us / self.busy["source"].cpu_us


def take_turns(servers: list[Server], *, rounds: int, seconds: float) -> Iterator[Round]:
    """Load one server after the other, as often as there are rounds; the first two at one connection too."""
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
            yield Round(busy, {server.name: run(server, 1, seconds) for server in servers[:2]})


@contextlib.contextmanager
def pair() -> Iterator[tuple[Server, Server, Server, Server]]:
    """Have nginx, a gateway and one as plain Python on the first core, and what they proxy to on the second."""
    first, second = cores()
    with (
        nginx.upstream(second) as behind,
        nginx.proxy(first, behind) as proxy,
        ours.gateway(first, ours.make_snapshot(behind=behind)) as gateway,
        ours.gateway(first, ours.make_snapshot(behind=behind), name="source", code=source()) as plain,
    ):
        yield proxy, gateway, plain, behind


def measure(plan: Plan) -> Iterator[Measure]:
    """Compare CPU time with nginx and the other proxies, and latency with nginx."""
    absent: dict[str, str] = {}
    with pair() as (*servers, behind), contextlib.ExitStack() as others:
        titles = {"nginx": "nginx"}
        for name, proxy in PROXIES.items():
            if name not in plan.peers:
                absent[name] = f"choose it: --peers {name}"
                continue
            try:
                servers.append(others.enter_context(proxy(cores()[0], behind)))
                titles[name] = servers[-1].name
            except (NotMeasured, RuntimeError, OSError) as fault:
                absent[name] = str(fault)
        rounds = list(take_turns(servers, rounds=plan.rounds, seconds=plan.seconds))
    for name, reach in REACHES.items():
        if name in absent:
            yield not_measured(f"CPU per request: {name} / ours", reach, absent[name])
        else:
            yield _ratio(titles[name], reach, rounds)
    ratio = statistics.median(turn.ratio_of_source for turn in rounds)
    yield Measure("the same, from source and not compiled: nginx / ours", "", f"{ratio:.2f}x")
    for which, reach in (("p50", "<= 0.1 ms"), ("p99", "<= 0.4 ms")):
        pairs = [[getattr(turn.alone[name], f"{which}_ms") for name in ("moorage", "nginx")] for turn in rounds]
        yield added(f"latency added at concurrency 1, over nginx, {which}", reach, pairs)


def added(what: str, reach: str, pairs: list[list[float]]) -> Measure:
    """Make the line of what one way takes longer than another: milliseconds of both, of each round."""
    ours_ms, other_ms = (statistics.median(column) for column in zip(*pairs, strict=True))
    extra = sorted(one - other for one, other in pairs)
    note = f"ours {ours_ms:.3f} ms, other {other_ms:.3f} ms; rounds {extra[0]:.3f} to {extra[-1]:.3f}"
    return Measure(what, reach, f"{statistics.median(extra):.3f} ms", note)


def _ratio(name: str, reach: str, rounds: list[Round]) -> Measure:
    ratios = sorted(turn.busy[name].cpu_us / turn.busy["moorage"].cpu_us for turn in rounds)
    middle = statistics.median(ratios)
    theirs, ours_us = (statistics.median(turn.busy[who].cpu_us for turn in rounds) for who in (name, "moorage"))
    theirs_rate, our_rate = (statistics.median(turn.busy[who].rate for turn in rounds) for who in (name, "moorage"))
    note = f"{theirs:.1f} / {ours_us:.1f} us, {theirs_rate:.0f} and {our_rate:.0f} requests/s"
    note += f"; rounds {ratios[0]:.2f} to {ratios[-1]:.2f}"
    return Measure(f"CPU per request: {name} / ours", reach, f"{middle:.2f}x", note)


def show(*, rounds: int, seconds: float) -> None:
    """Print every round, and the median of the ratios: for those who make the gateway faster."""
    print(
        f"{'round server':<16}{'CPU us':>8}{'req/s':>9}{'p50 32':>9}{'p99 32':>9}{'p50 1':>9}{'p99 1':>9}  nginx/ours"
    )
    ratios = []
    with pair() as (*servers, _):
        for number, turn in enumerate(take_turns(servers, rounds=rounds, seconds=seconds), 1):
            ratios.append(turn.ratio)
            for name in ("nginx", "moorage", "source"):
                busy, alone = turn.busy[name], turn.alone.get(name)
                figures = [busy.p50_ms, busy.p99_ms, *((alone.p50_ms, alone.p99_ms) if alone else ())]
                times = "".join(f"{ms:9.3f}" for ms in figures).ljust(36)
                ratio = {"moorage": f"  {turn.ratio:.3f}", "source": f"  {turn.ratio_of_source:.3f}"}.get(name, "")
                print(f"{number:<6}{name:<10}{busy.cpu_us:8.1f}{busy.rate:9.0f}{times}{ratio}", flush=True)
    print(f"nginx / ours, median of {len(ratios)} rounds: {statistics.median(ratios):.3f}")
