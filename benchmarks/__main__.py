"""Run the benchmarks that are named, or all."""

import argparse
import importlib
import sys

from benchmarks.measures import Measure, line

NAMES = ("start", "memory", "idle", "api", "endpoint", "instances", "invoke", "gateway", "environment", "install")
"""From the quick ones to those that download."""

_WITH_ARGUMENTS = {"gateway": "benchmarks.gateway.command", "gateway-cpu": "benchmarks.gateway.cpu_command"}
"""Those with arguments of their own stand first and alone."""


def main(arguments: list[str]) -> None:
    """Print a line per measure as soon as it is there."""
    if arguments and arguments[0] in _WITH_ARGUMENTS:
        importlib.import_module(_WITH_ARGUMENTS[arguments[0]]).main(arguments[1:])
        return
    parser = argparse.ArgumentParser(prog="scripts/bench")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--list", action="store_true", help="show what there is")
    given = parser.parse_args(arguments)
    if given.list:
        print("\n".join((*NAMES, "gateway-cpu")))
        return
    if unknown := set(given.names) - set(NAMES):
        sys.exit(f"There is no benchmark {', '.join(sorted(unknown))}. There are: {', '.join(NAMES)}")
    print(line(Measure("measure", "reach", "measured")))
    for name in given.names or NAMES:
        for measure in importlib.import_module(f"benchmarks.{name}").measure():
            print(line(measure), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
