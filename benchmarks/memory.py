"""Memory of all processes of an idle server."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measures import Measure
from benchmarks.server import server

SETTLE_SECONDS = 3.0


def measure() -> Iterator[Measure]:
    """Sum up what each process has to itself and its share of what is shared (PSS, proc(5))."""
    with server() as moorage:
        time.sleep(SETTLE_SECONDS)
        pss = {row["role"]: _pss(row["pid"]) / 1e6 for row in moorage.ps()}
    note = ", ".join(f"{role} {megabytes:.0f}" for role, megabytes in pss.items())
    yield Measure("idle memory of all Moorage processes (PSS sum)", "<= 120 MB", f"{sum(pss.values()):.0f} MB", note)


def _pss(pid: int) -> int:
    found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0
