"""Servers on a core of their own: started, waited for, their CPU time and memory read from /proc, stopped by pid."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.gateway.tools import find

_TICKS_IN_A_SECOND = os.sysconf("SC_CLK_TCK")
_STOP_SECONDS = 15.0


def cores() -> tuple[int, int]:
    """Give the core of the server under load, and the core of the load and the server behind."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """Run this process on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def free_port() -> int:
    """Give a port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


@dataclass
class Server:
    """A server's processes: the one that was started, and all of its session."""

    name: str
    port: int
    process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def pid(self) -> int:
        """The process that was started."""
        return self.process.pid

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def pids(self) -> list[int]:
        """Give all its living processes."""
        return [int(stat[0]) for stat in self._family() if stat[2] != "Z"]

    def cpu_seconds(self) -> float:
        """Give the user and system time of all its processes until now."""
        return sum(int(stat[13]) + int(stat[14]) for stat in self._family()) / _TICKS_IN_A_SECOND

    def memory(self, of: str = "Pss") -> int:
        """Give the sum of ``Pss`` or ``Rss`` of its processes, in bytes."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
                total += sum(map(int, re.findall(rf"^{of}:\s+(\d+) kB", text, re.MULTILINE))) * 1024
        return total

    def peak(self) -> int:
        """Give the most resident bytes that the process ever had, or since ``forget_peak``."""
        found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text(), re.MULTILINE)
        return int(found[1]) * 1024 if found else 0

    def forget_peak(self) -> None:
        """Measure ``peak`` from here."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def _family(self) -> list[list[str]]:
        """Give ``stat`` of the processes of its session and of all that descend from it."""
        stats = list(_stats())
        family = {int(stat[0]) for stat in stats if int(stat[5]) == self.pid}
        grown = True
        while grown:
            children = {int(stat[0]) for stat in stats if int(stat[3]) in family} - family
            family |= children
            grown = bool(children)
        return [stat for stat in stats if int(stat[0]) in family]


@contextlib.contextmanager
def started(  # noqa: PLR0913 - a server is started by this much
    name: str,
    command: Sequence[str],
    *,
    core: int,
    port: int,
    log: Path,
    environment: Mapping[str, str] | None = None,
    patience_seconds: float = 60.0,
) -> Iterator[Server]:
    """Run a server on one core, from when it accepts connections."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [find("taskset"), "-c", str(core), *command],
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    server = Server(name, port, process)
    try:
        _wait_for(server, log, time.monotonic() + patience_seconds)
        yield server
    finally:
        _stop(server)


def _wait_for(server: Server, log: Path, deadline: float) -> None:
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server.port), timeout=1):
            return
        if server.process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{server.name} does not listen: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.01)


def _stop(server: Server) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in server.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + _STOP_SECONDS
        while server.pids() and time.monotonic() < deadline:
            server.process.poll()
            time.sleep(0.02)
    server.process.wait()


def _stats() -> Iterator[list[str]]:
    """Give the fields of each process's ``stat`` (proc(5), counted from 0), the name without its blanks."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                before, _, after = (entry / "stat").read_text().rpartition(")")
                yield [before.partition(" ")[0], "", *after.split()]
