"""The gateway as the wheels for Linux have it: with the modules of an invocation's way compiled (scripts/compile)."""

import functools
import subprocess
from pathlib import Path

from benchmarks.measures import NotMeasured

_ROOT = Path(__file__).parents[2]


@functools.cache
def compiled() -> Path:
    """Give the folder that PYTHONPATH must name, made first if need be; raises NotMeasured without a C compiler."""
    made = subprocess.run([_ROOT / "scripts/compile"], capture_output=True, text=True, check=False)
    if made.returncode:
        raise NotMeasured(f"scripts/compile: {made.stderr.strip().splitlines()[-1]}")
    return Path(made.stdout.strip())


def source() -> Path:
    """Give the folder for the gateway as it runs from a checkout, as plain Python."""
    return _ROOT / "src"
