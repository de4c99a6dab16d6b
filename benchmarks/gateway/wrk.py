"""wrk: the load, one thread, connections that stay open, as fast as the server answers."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gateway.machine import Server
from benchmarks.gateway.tools import find

_SCRIPT = Path(__file__).with_name("requests.lua")


@dataclass(frozen=True)
class Load:
    """What one run of wrk gave."""

    requests: int
    rate: float
    """Requests in a second."""
    p50_ms: float
    p99_ms: float
    cpu_us: float
    """User and system time of the server's processes per request, in microseconds."""


def load(server: Server, requests: Path, *, connections: int, seconds: float, core: int) -> Load:
    """Load a server with the requests of a file; anything but success for all of them is an error."""
    command = [find("taskset"), "-c", str(core), find("wrk"), "-t1", f"-c{connections}", f"-d{seconds:g}s"]
    command += ["--timeout", "30s", "-s", str(_SCRIPT), server.url, "--", str(requests)]
    before = server.cpu_seconds()
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    used = server.cpu_seconds() - before
    found = json.loads(output.strip().splitlines()[-1])
    if found["bad"] or found["broken"] or not found["requests"]:
        raise RuntimeError(f"{server.name}: not every request succeeded: {found}")
    return Load(
        requests=found["requests"],
        rate=found["requests"] / found["us"] * 1e6,
        p50_ms=found["p50"] / 1000,
        p99_ms=found["p99"] / 1000,
        cpu_us=used / found["requests"] * 1e6,
    )
