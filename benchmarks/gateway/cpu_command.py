"""``scripts/bench gateway-cpu``: the one number to look at while making the gateway faster."""

import argparse

from benchmarks.gateway import cpu
from benchmarks.gateway.plan import ROUNDS, SECONDS
from benchmarks.gateway.tools import have_tools


def main(arguments: list[str]) -> None:
    """Print every round and the median."""
    parser = argparse.ArgumentParser(prog="scripts/bench gateway-cpu", description=cpu.__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each load; default: %(default)s")
    given = parser.parse_args(arguments)
    have_tools()
    cpu.show(rounds=given.rounds, seconds=given.seconds)
