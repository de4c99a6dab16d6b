"""The product as a user has it: ``moorage up`` in a process of its own, and unmodified clients against it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
ROLE = "arn:aws:iam::000000000000:role/moorage"


def wait_until(condition: Callable[[], Any], *, within: float, what: str) -> Any:
    """Wait for a condition with a deadline; gives its first true value."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    message = f"after {within} s still not: {what}"
    raise AssertionError(message)


def alive(pid: int) -> bool:
    """Say whether a process runs (a zombie does not)."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def descendants(pid: int) -> set[int]:
    """Give the process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found, todo = set(), [pid]
    while todo:
        one = todo.pop()
        found.add(one)
        todo.extend(children.get(one, []))
    return found


def connections_of(pid: int, port: int) -> int:
    """Count the connections to a port of this machine that a process has accepted."""
    table = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    open_ones = {row[9] for row in table if row[3] == "01" and int(row[1].rpartition(":")[2], 16) == port}
    count = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]") in open_ones
    return count


@dataclass
class Moorage:
    """A running server."""

    data_dir: Path
    options: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = (sys.executable, "-m", "moorage")
    """How to call Moorage; another user's tests put ``setpriv ...`` in front."""
    process: subprocess.Popen[str] | None = None

    def start(self) -> "Moorage":
        """Start it and wait until it says that it is ready."""
        self.process = subprocess.Popen(
            [*self.command, "up", "--port", "0", "--data-dir", str(self.data_dir), *self.options],
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        wait_until(lambda: self._ready() or self._ended(), within=30, what="moorage up is ready")
        if self._ended():
            message = f"moorage up ended: {self.output()}"
            raise AssertionError(message)
        return self

    def _ready(self) -> bool:
        return (self.data_dir / "server.json").exists() and self.server()["pid"] == self._leader()

    def _leader(self) -> int:
        assert self.process is not None
        return self.process.pid

    def _ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def output(self) -> str:
        """Give what it has printed; only once it has ended."""
        assert self.process is not None
        assert self.process.stdout is not None
        return self.process.stdout.read()

    def server(self) -> dict[str, Any]:
        """Give what it says of itself."""
        found: dict[str, Any] = json.loads((self.data_dir / "server.json").read_text())
        return found

    def run(self, *arguments: str, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run another command of the command line against it."""
        return subprocess.run(
            [*self.command, *arguments],
            env={**os.environ, **self.environment, "MOORAGE_DATA_DIR": str(self.data_dir)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=check,
        )

    @property
    def port(self) -> int:
        """Give the public port."""
        return int(self.server()["url"].rpartition(":")[2])

    def ps(self) -> list[dict[str, Any]]:
        """Give its processes as ``moorage ps`` shows them."""
        found: list[dict[str, Any]] = json.loads(self.run("ps", "--output", "json").stdout)
        return found

    def pids(self, role: str, endpoint: str | None = None) -> list[int]:
        """Give the pids of a role."""
        return [
            row["pid"] for row in self.ps() if row["role"] == role and (endpoint is None or row["endpoint"] == endpoint)
        ]

    def exports(self) -> dict[str, str]:
        """Give what ``eval "$(moorage env)"`` would set."""
        lines = self.run("env").stdout.splitlines()
        pairs = [line.removeprefix("export ").split("=", 1) for line in lines if line.startswith("export ")]
        return {name: value.strip("'\"") for name, value in pairs}

    def aws(self, home: Path, *arguments: str) -> str:
        """Run the AWS CLI v1 with our exports and a home of its own; gives what it prints."""
        return subprocess.run(
            [str(Path(sys.executable).with_name("aws")), *arguments],
            env={**os.environ, **self.exports(), "HOME": str(home), "AWS_PAGER": ""},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout

    def client(self, service: str, **config: Any) -> Any:
        """Make a plain boto3 client with nothing changed but the environment's values."""
        exports = self.exports()
        return boto3.session.Session().client(
            service,
            endpoint_url=exports["AWS_ENDPOINT_URL"],
            verify=exports.get("AWS_CA_BUNDLE"),
            region_name=exports["AWS_DEFAULT_REGION"],
            aws_access_key_id=exports["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=exports["AWS_SECRET_ACCESS_KEY"],
            config=Config(**config),
        )

    def stop(self, *, within: float = 60) -> str:
        """Stop it as SIGTERM does and give all it has printed."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
        output, _ = self.process.communicate(timeout=within)
        return output

    def kill_everything(self) -> None:
        """Kill -9 of every process at once, as a power cut would."""
        assert self.process is not None
        pids = descendants(self.process.pid)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.communicate(timeout=30)
        wait_until(lambda: not any(alive(pid) for pid in pids), within=10, what="all processes have ended")


@contextlib.contextmanager
def running(data_dir: Path, *options: str, **environment: str) -> Iterator[Moorage]:
    """Have a server for the length of a test; nothing of it may be left afterwards."""
    moorage = Moorage(data_dir, options, environment).start()
    try:
        yield moorage
    finally:
        assert moorage.process is not None
        family = descendants(moorage.process.pid)
        moorage.stop()
        left = [pid for pid in family if alive(pid)]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert not left, f"processes left after the stop: {left}"
