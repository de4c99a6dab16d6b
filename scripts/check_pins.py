"""Asks the package index whether the pins of built-in images can be installed: wheels, and no conflicts.

usage: python scripts/check_pins.py [--all] [WORD ...]

For each Python and each list of pins that has one of the words (all without a word): pip must find wheels of exactly
these packages and miss none. It may fetch wheels to look into them; those of torch, hundreds of megabytes each, are
only looked for in the index's list unless --all is given. Not part of the tests: it needs the index, and minutes.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from moorage.engine.images import pins
from moorage.engine.images.pins import Pins, Python

PYTHONS: tuple[Python, ...] = ((3, 11), (3, 12), (3, 13), (3, 14))
PLATFORMS = ("manylinux1", "manylinux2014", "manylinux_2_17", "manylinux_2_26", "manylinux_2_27", "manylinux_2_28")


def every(python: Python) -> Iterator[Pins]:
    """Give every list of pins of a Python."""
    for version in ("0.20", "1.2", "1.3", "1.4", "1.5", "1.7"):
        yield pins.scikit_learn(version, python)
    for version in ("1.7", "3.0"):
        yield pins.xgboost(version, python)
    for version in ("1.17", "1.20", "1.22", "1.24", "1.32"):
        yield pins.onnx(version, python)
    for version in ("2.0", "2.1", "2.2", "2.3", "2.4", "2.5", "2.6", "2.7", "2.8", "2.9"):
        yield pins.pytorch(version, python)
    for version in ("4.28", "4.37", "4.49", "4.51"):
        yield pins.huggingface("2.6", version, python)


def main(arguments: list[str]) -> int:
    """Check them; gives the exit code."""
    if arguments and arguments[0] in {"-h", "--help"}:
        print(__doc__)
        return 0
    words = [word for word in arguments if not word.startswith("--")]
    wrong = 0
    for python in PYTHONS:
        for requirements in dict.fromkeys(each.requirements for each in every(python)):
            if words and not any(word in requirements[0] for word in words):
                continue
            fault = _fault(requirements, python, everything="--all" in arguments)
            wrong += fault is not None
            print(f"Python {python[0]}.{python[1]}  {requirements[0]}: {fault or 'fine'}", flush=True)
    return int(wrong > 0)


def _fault(requirements: tuple[str, ...], python: Python, *, everything: bool) -> str | None:
    large = next((line for line in requirements if line.startswith("torch==")), None)
    if large and not everything:
        if fault := _not_listed(large, python):
            return fault
        requirements = tuple(line for line in requirements if line != large)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        wish = ("--dry-run", "--ignore-installed", "--quiet", "--report", str(report), "--target", folder)
        done = _pip(("install", *wish, *_target(python), *requirements))
        if done.returncode != 0:
            return done.stderr.strip()
        found = json.loads(report.read_bytes())["install"]
    names = {_plain(entry["metadata"]["name"]) for entry in found}
    missing = names - {_plain(line.partition("==")[0]) for line in requirements}
    return f"not pinned: {', '.join(sorted(missing))}" if missing and not (large and everything) else None


def _not_listed(requirement: str, python: Python) -> str | None:
    name, _, version = requirement.partition("==")
    listed = _pip(("index", "versions", name, *_target(python))).stdout
    return None if f" {version}," in f" {listed}," or f" {version}\n" in listed else f"the index has no {requirement}"


def _target(python: Python) -> tuple[str, ...]:
    platforms = (word for name in PLATFORMS for word in ("--platform", f"{name}_x86_64"))
    return ("--only-binary", ":all:", "--python-version", f"{python[0]}.{python[1]}", *platforms)


def _pip(words: tuple[str, ...]) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
