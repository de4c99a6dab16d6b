"""A server whose processes are tiny: what the supervisor's tests let it look after."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from moorage.base.settings import Settings
from moorage.supervisor.family import Role
from moorage.supervisor.up import CannotStart, up


def gateway(listener: socket.socket) -> None:
    """Answer every request with 200, until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    listener.setblocking(True)
    while True:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")


def sleeper(settings: Settings, name: str) -> None:
    """Wait for SIGTERM; leave a note of when it came."""

    def stop(*_: object) -> None:
        with (settings.data_dir / "stopped").open("a") as file:
            file.write(name + "\n")
        sys.exit(0)

    signal.signal(signal.SIGTERM, stop)
    (settings.data_dir / f"{name}.up").touch()
    while True:
        signal.pause()


def stubborn() -> None:
    """Never stop by itself, and have a child that does not either."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    while True:
        signal.pause()


def broken() -> None:
    """Fail as a program with a fault would."""
    raise RuntimeError("the state cannot be read")


def main(data_dir: str, port: str, kind: str) -> None:
    """Run it: ``KIND`` is ``good``, ``stubborn``, ``broken`` or ``ephemeral``."""
    settings = Settings(Path(data_dir), Path(os.environ["FAKE_RUN_DIR"]), port=int(port))

    def make_roles(settings: Settings, listener: socket.socket) -> list[Role]:
        node = stubborn if kind == "stubborn" else lambda: sleeper(settings, "node")
        front = broken if kind == "broken" else lambda: gateway(listener)
        return [
            Role("gateway", front, 5.0, listens=True),
            Role("control", lambda: sleeper(settings, "control"), 5.0),
            Role("node", node, 0.3 if os.environ.get("FAKE_IMPATIENT") else 60.0),
            Role("neighbours", lambda: sleeper(settings, "neighbours"), 5.0),
        ]

    try:
        up(settings, make_roles, lambda _: "process", ephemeral=kind == "ephemeral")
    except CannotStart as fault:
        sys.exit(f"Error: {fault}")


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)  # as a terminal gives them, whatever the test run itself was given
    sys.stdout.write(json.dumps({"pid": os.getpid()}) + "\n")
    sys.stdout.flush()
    main(*sys.argv[1:])
