"""Run the benchmarks that are named, or all."""

import importlib
import sys

from benchmarks.measures import Measure, line

NAMES = ("start", "memory", "idle", "api", "endpoint", "invoke", "environment", "install")
"""From the quick ones to those that download."""


def main(names: list[str]) -> None:
    """Print a line per measure as soon as it is there."""
    if names == ["--list"]:
        print("\n".join(NAMES))
        return
    if unknown := set(names) - set(NAMES):
        sys.exit(f"There is no benchmark {', '.join(sorted(unknown))}. There are: {', '.join(NAMES)}")
    print(line(Measure("measure", "reach", "measured")))
    for name in names or NAMES:
        for measure in importlib.import_module(f"benchmarks.{name}").measure():
            print(line(measure), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
