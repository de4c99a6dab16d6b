"""Lets this machine connect to a container that has a network namespace of its own and no way in (``dial:PATH``)."""

import asyncio
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

from moorage.engine import dialling

_BACKLOG = 4096
"""Callers that may wait; each waits for the making of one socket."""


class Dialler:
    """Serves one container's socket of connections."""

    def __init__(self, path: Path, listener: socket.socket, helper: "subprocess.Popen[bytes] | None") -> None:
        self._path = path
        self._listener = listener
        self._helper = helper

    @classmethod
    async def open(cls, pid: int, path: Path, port: int = 8080) -> "Dialler":
        """Serve ``path`` with sockets of a process's network namespace, to be connected to its loopback's ``port``.

        The namespace stays while it is served, also when the process has ended. Raises OSError.
        """
        return await asyncio.to_thread(cls._open, pid, path, port)

    @classmethod
    def _open(cls, pid: int, path: Path, port: int) -> "Dialler":
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            try:
                path.unlink(missing_ok=True)
                listener.bind(str(path))
                listener.listen(_BACKLOG)
                helper = _serve_in_thread if os.geteuid() == 0 else _serve_in_process
                return cls(path, listener, helper(listener, namespace, port))
            except BaseException:
                listener.close()
                path.unlink(missing_ok=True)
                raise
        finally:
            os.close(namespace)

    @property
    def address(self) -> str:
        """Where the container answers."""
        return f"dial:{self._path}"

    async def close(self) -> None:
        """Serve no longer; connections that were made stay."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._path.unlink(missing_ok=True)
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self._helper is not None:
            self._helper.kill()
            self._helper.communicate()

    def __repr__(self) -> str:
        return f"<Dialler {self._path}>"


def _serve_in_thread(listener: socket.socket, namespace: int, port: int) -> None:
    """Serve by a thread that has entered the namespace, and never leaves it."""
    own = listener.dup()  # its to close, once it has heard of the end
    entered = threading.Event()
    faults: list[OSError] = []

    def work() -> None:
        with own:
            try:
                dialling.enter_network(namespace)
            except OSError as fault:
                faults.append(fault)
                return
            finally:
                entered.set()
            dialling.serve(own, port)

    threading.Thread(target=work, name="dial", daemon=True).start()
    entered.wait()
    if faults:
        raise faults[0]


def _serve_in_process(listener: socket.socket, namespace: int, port: int) -> "subprocess.Popen[bytes]":
    """Serve by a process that has entered the user namespace, which a thread cannot; it ends with this one."""
    numbers = (listener.fileno(), namespace)
    helper = subprocess.Popen(
        [sys.executable, "-I", "-S", dialling.__file__, *(str(number) for number in (*numbers, port))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        pass_fds=numbers,
    )
    said = helper.stdout.readline() if helper.stdout else b""
    if said != dialling.READY:
        helper.kill()
        helper.communicate()
        raise OSError(f"the container's network could not be entered: {said.decode().strip() or 'no reason given'}")
    return helper
