"""The first build of the scikit-learn environment."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from tests.support.product import IMAGE

from benchmarks.measures import Measure


def measure() -> Iterator[Measure]:
    """Build it into an empty folder; what it takes is mostly the network's and pip's."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "moorage", "images", "build", IMAGE],
            env={**os.environ, "MOORAGE_ENVIRONMENTS_DIR": folder},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        seconds = time.perf_counter() - started
    yield Measure("first build of the scikit-learn environment", "<= 60 s", f"{seconds:.0f} s")
