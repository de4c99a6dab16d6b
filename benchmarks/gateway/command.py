"""``scripts/bench gateway``: the whole table."""

import argparse
import subprocess
from collections.abc import Callable, Iterator

from benchmarks.gateway import cpu, extras, large, memory, paced, product, stream
from benchmarks.gateway.model_servers import MODEL_SERVERS
from benchmarks.gateway.plan import REQUESTS, ROUNDS, SECONDS, Plan
from benchmarks.gateway.proxies import PROXIES
from benchmarks.gateway.tools import have_tools
from benchmarks.measures import Measure, NotMeasured, line, not_measured

BIG = frozenset({"ray", "mlflow"})
"""Half a gigabyte and more each: measured only for who names them."""
PEERS = (*PROXIES, *MODEL_SERVERS)
MEASURES: dict[str, Callable[[Plan], Iterator[Measure]]] = {
    "cpu": cpu.measure,
    "paced": paced.measure,
    "large": large.measure,
    "stream": stream.measure,
    "extras": extras.measure,
    "memory": memory.measure,
    "product": product.measure,
}


def main(arguments: list[str]) -> None:
    """Print the lines of what is chosen."""
    parser = argparse.ArgumentParser(prog="scripts/bench gateway", description=__doc__)
    several = f"of {', '.join(PEERS)}; or all, or none"
    parser.add_argument("--peers", type=_names, default=set(PEERS) - BIG, help=f"{several}; default: all but the big")
    parser.add_argument("--only", type=_names, default=set(MEASURES), help=f"of {', '.join(MEASURES)}")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="turns of everybody; default: %(default)s")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each load; default: %(default)s")
    parser.add_argument("--requests", type=int, default=REQUESTS, help="for the growth of memory; default: %(default)s")
    given = parser.parse_args(arguments)
    peers = {"all": set(PEERS), "none": set()}.get(",".join(given.peers), given.peers)
    for name in sorted((peers - set(PEERS)) | (given.only - set(MEASURES))):
        parser.error(f"there is no {name}")
    print(line(Measure("measure", "reach", "measured")))
    _show(Plan(frozenset(peers), given.rounds, given.seconds, given.requests), given.only)


def measure() -> Iterator[Measure]:
    """Measure everything with the small peers: what ``scripts/bench`` without a name does."""
    return _all(Plan(frozenset(PEERS) - BIG), set(MEASURES))


def _show(plan: Plan, only: set[str]) -> None:
    for found in _all(plan, only):
        print(line(found), flush=True)


def _all(plan: Plan, only: set[str]) -> Iterator[Measure]:
    have_tools()
    for name, measure_it in MEASURES.items():
        if name not in only:
            continue
        try:
            yield from measure_it(plan)
        except (NotMeasured, RuntimeError, OSError, subprocess.SubprocessError) as fault:
            yield not_measured(f"gateway: {name}", "", fault)


def _names(text: str) -> set[str]:
    return set(text.split(","))
