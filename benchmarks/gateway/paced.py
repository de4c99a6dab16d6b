"""Latency added while 1,000 requests a second arrive, however long each takes (an open loop)."""

import itertools
from collections.abc import Iterator

from benchmarks.gateway.cpu import added, pair
from benchmarks.gateway.machine import Server, cores, on_core
from benchmarks.gateway.plan import Plan
from benchmarks.gateway.requests import signed
from benchmarks.load import Load, Outcome
from benchmarks.measures import Measure

RATE, CONNECTIONS = 1_000, 32


def measure(plan: Plan) -> Iterator[Measure]:
    """Take turns between nginx and the gateway."""
    _, core = cores()
    pairs = []
    with pair() as (nginx, gateway, _, _), on_core(core):
        for server in (nginx, gateway):
            _pace(server, 1.0)
        for number in range(plan.rounds):
            turns = (nginx, gateway) if number % 2 == 0 else (gateway, nginx)
            outcomes = {server.name: _pace(server, plan.seconds) for server in turns}
            pairs.append((outcomes["moorage"], outcomes["nginx"]))
    for which, reach in (("p50", "<= 0.3 ms"), ("p99", "<= 1.5 ms")):
        both = [[getattr(outcome, f"{which}_ms") for outcome in pair] for pair in pairs]
        yield added(f"latency added at {RATE} requests/s, over nginx, {which}", reach, both)


def _pace(server: Server, seconds: float) -> Outcome:
    requests = itertools.islice(itertools.cycle(signed()), int(RATE * seconds))
    outcome = Load(server.url.removeprefix("http://")).pace(requests, RATE, CONNECTIONS)
    if set(outcome.statuses) != {200}:
        raise RuntimeError(f"{server.name}: {outcome.statuses}")
    return outcome
