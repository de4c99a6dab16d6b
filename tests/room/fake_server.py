"""A server whose processes are tiny: what the supervisor's tests let it look after."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from moorage.base.settings import Settings
from moorage.supervisor.family import Role
from moorage.supervisor.up import CannotStart, up


def gateway(settings: Settings, listener: socket.socket) -> None:
    """Answer every request with 200 and the own pid, until SIGTERM; drain until every other gateway does so too."""

    def drain(*_: object) -> None:
        (settings.data_dir / f"{os.getpid()}.drains").touch()
        while len([*settings.data_dir.glob("*.drains")]) < settings.gateways:
            time.sleep(0.01)
        sys.exit(0)

    signal.signal(signal.SIGTERM, drain)
    listener.setblocking(True)
    while True:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            body = str(os.getpid()).encode()
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
            connection.sendall(head + body)


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
    gateways = int(os.environ.get("FAKE_GATEWAYS", "1"))
    settings = Settings(Path(data_dir), Path(os.environ["FAKE_RUN_DIR"]), port=int(port), gateways=gateways)

    def make_roles(settings: Settings, listeners: Sequence[socket.socket], _certificate: object) -> list[Role]:
        node = stubborn if kind == "stubborn" else lambda: sleeper(settings, "node")
        front = (lambda *_: broken()) if kind == "broken" else gateway
        return [
            *(Role("gateway", partial(front, settings, listener), 5.0, listener) for listener in listeners),
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
