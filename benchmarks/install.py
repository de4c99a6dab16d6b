"""What ``pip install moorage`` takes."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measures import Measure


def measure() -> Iterator[Measure]:
    """Install the built wheel into a fresh virtual environment."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _run(sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), ".")
        (wheel,) = folder.glob("*.whl")
        _run(sys.executable, "-m", "venv", str(folder / "venv"))
        before = _bytes(folder / "venv")
        started = time.perf_counter()
        _run(str(folder / "venv/bin/python"), "-m", "pip", "install", "--quiet", "--no-cache-dir", str(wheel))
        seconds = time.perf_counter() - started
        added = _bytes(folder / "venv") - before
    yield Measure("installed size without framework environments", "<= 60 MB", f"{added / 1e6:.0f} MB")
    yield Measure("install time, nothing cached", "<= 20 s", f"{seconds:.0f} s")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _bytes(folder: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
