"""A Docker daemon for tests: the developer's own where one answers, or else one that the tests start and stop.

All test processes of a machine share one: each holds a shared lock for as long as it may use it, and whoever gets the
lock alone at its end is the last, and stops it. Its images stay, so that the next run need not load them again.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.product import alive, wait_until

from moorage.engine.docker.daemon import Address, Daemon, NoDaemon, ask_daemon, find_daemon

_FOLDER = Path("/tmp/moorage-test-dockerd")
_SOCKET = _FOLDER / "docker.sock"
_STARTS_WITHIN_SECONDS = 30
_STOPS_WITHIN_SECONDS = 30

needs_docker = pytest.mark.skipif(
    shutil.which("dockerd") is None and shutil.which("podman") is None,
    reason="there is neither dockerd nor podman (Debian: docker.io)",
)


@pytest.fixture(scope="session")
def daemon() -> Iterator[Daemon]:
    """Have a Docker daemon; skips the test where there is none to be had."""
    with contextlib.ExitStack() as stack:
        try:
            found = stack.enter_context(any_daemon())
        except NoDaemon as fault:
            pytest.skip(str(fault))
        yield found


@contextlib.contextmanager
def any_daemon() -> Iterator[Daemon]:
    """Have the daemon that answers, or one that is started for this; raises NoDaemon."""
    answers = None
    with contextlib.suppress(NoDaemon):
        answers = find_daemon(os.environ)
    if answers is not None:
        yield answers
        return
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        raise NoDaemon("no Docker daemon answers, and only root can start one (Debian: docker.io)")
    with _shared_daemon() as found:
        yield found


@contextlib.contextmanager
def _shared_daemon() -> Iterator[Daemon]:
    _FOLDER.mkdir(mode=0o700, exist_ok=True)
    users = os.open(_FOLDER / "users.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        with _alone("start.lock"):
            fcntl.flock(users, fcntl.LOCK_SH)
            if _ask() is None:
                _start()
        found = _ask()
        assert found is not None
        yield found
    finally:
        with _alone("start.lock"), contextlib.suppress(BlockingIOError):
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _stop()
        os.close(users)


@contextlib.contextmanager
def _alone(name: str) -> Iterator[None]:
    lock = os.open(_FOLDER / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _ask() -> Daemon | None:
    with contextlib.suppress(NoDaemon):
        return ask_daemon(Address(str(_SOCKET)))
    return None


def _start() -> None:
    """Start it without a bridge of its own: what is tested makes its own."""
    for name in ("pid", "docker.sock"):
        (_FOLDER / name).unlink(missing_ok=True)
    with (_FOLDER / "dockerd.log").open("wb") as output:
        subprocess.run(
            ["setsid", "--fork", "dockerd", "--data-root", str(_FOLDER / "data"), "--exec-root", str(_FOLDER / "exec"),
             "-H", f"unix://{_SOCKET}", "--pidfile", str(_FOLDER / "pid"), "--bridge", "none"],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=True,
        )  # fmt: skip
    try:
        wait_until(_ask, within=_STARTS_WITHIN_SECONDS, what="dockerd answers")
    except AssertionError as fault:
        raise AssertionError(f"{fault}: {(_FOLDER / 'dockerd.log').read_text()[-1000:]}") from fault
    _SOCKET.chmod(0o666)  # as for the group docker; its folder lets in nobody but whom a test lets in


def _stop() -> None:
    try:
        pid = int((_FOLDER / "pid").read_text())
    except (OSError, ValueError):
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not alive(pid), within=_STOPS_WITHIN_SECONDS, what="dockerd has ended")
