"""A body of 6 MB: the time it takes through the gateway and through nginx, and how much memory it takes on its way.

A signature covers the body: it has to be here as a whole before a byte of it may be sent on. nginx keeps the body in
memory too.
"""

import os
import statistics
from collections.abc import Iterator

from benchmarks.gateway import nginx, ours
from benchmarks.gateway.behind import behind
from benchmarks.gateway.machine import cores, on_core
from benchmarks.gateway.plan import Plan
from benchmarks.gateway.requests import signed
from benchmarks.load import Conversation, Load
from benchmarks.measures import Measure

BYTES, DIFFERENT, IN_A_ROW = 6 * 2**20, 4, 12


def measure(plan: Plan) -> Iterator[Measure]:
    """Take turns between the ways, one request at a time; then look at the memory of a fresh gateway."""
    first, second = cores()
    with behind(second, "whole") as server, nginx.proxy(first, server) as proxy, on_core(second):
        snapshot = ours.make_snapshot(behind=server)
        with ours.gateway(first, snapshot) as gateway:
            ways = {way.name: Load(way.url.removeprefix("http://")).converse() for way in (server, proxy, gateway)}
            rounds = [{name: _p50_ms(way) for name, way in ways.items()} for _ in range(plan.rounds)]
            for way in ways.values():
                way.close()
        yield _time(rounds)
        with ours.gateway(first, snapshot) as gateway:
            way = Load(gateway.url.removeprefix("http://")).converse()
            for request in signed()[:200]:
                way.ask(request)
            gateway.forget_peak()
            before = gateway.peak()
            _p50_ms(way)
            copies = (gateway.peak() - before) / BYTES
            way.close()
    note = f"peak of the process is {copies:.2f} bodies above idle; one body is needed"
    yield Measure("6 MB body: extra copies in memory", "none", f"{copies - 1:.2f}", note)


def _p50_ms(way: Conversation) -> float:
    requests = signed(bodies=[os.urandom(BYTES) for _ in range(DIFFERENT)], kind="application/octet-stream")
    taken = [way.ask(requests[number % DIFFERENT])[1] for number in range(IN_A_ROW)]
    return statistics.median(taken) * 1000


def _time(rounds: list[dict[str, float]]) -> Measure:
    whole = statistics.median(turn["moorage"] / turn["nginx"] for turn in rounds)
    extra = statistics.median(
        (turn["moorage"] - turn["upstream"]) / (turn["nginx"] - turn["upstream"]) for turn in rounds
    )
    p50 = {name: statistics.median(turn[name] for turn in rounds) for name in rounds[0]}
    note = f"ours {p50['moorage']:.1f} ms, nginx {p50['nginx']:.1f}, direct {p50['upstream']:.1f}"
    note += f"; of the time added to direct {extra:.2f}x"
    return Measure("6 MB body: time through the gateway / through nginx", "<= 2x", f"{whole:.2f}x", note)
