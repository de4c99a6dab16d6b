"""``moorage up`` to the first answer of the API."""

import contextlib
import http.client
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measures import Measure

RUNS = 5


def measure() -> Iterator[Measure]:
    """Start it several times, the first one to warm the disk."""
    seconds = [_start() for _ in range(RUNS + 1)][1:]
    yield Measure("moorage up to first API answer, warm disk", "<= 1.0 s", f"{statistics.median(seconds):.2f} s")
    helps = [_help() for _ in range(RUNS)]
    yield Measure("moorage --help", "< 0.2 s", f"{statistics.median(helps):.2f} s")


def _start() -> float:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [_command(), "up", "--ephemeral", "--port", str(port)]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            while not _healthy(port):
                time.sleep(0.002)
            return time.perf_counter() - started
        finally:
            process.terminate()


def _healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/_moorage/health")
        return connection.getresponse().status == http.client.OK
    return False


def _help() -> float:
    started = time.perf_counter()
    subprocess.run([_command(), "--help"], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def _command() -> str:
    return str(Path(sys.executable).with_name("moorage"))
