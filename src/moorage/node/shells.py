"""Opens shells in instances, for ``moorage exec``.

It listens at ``run_dir/shell.sock``, which only the user who runs Moorage can reach. A caller sends one JSON line,

    {"endpoint": ..., "variant": ... or null, "instance": ... or null, "container": ... or null, "command": [...],
     "terminal": ... or null}

with its standard streams as descriptors. It is answered one line, ``{"instance": ...}`` or ``{"error": ...}``. With
``terminal`` (its ``TERM``) that line carries the descriptor of a new terminal, which the command has instead of the
caller's: what runs in an instance cannot type into the shell outside. When the command has ended a last line comes,
``{"exit": code}``; a caller who hangs up ends it.

Each shell has a thread, because the kernel kills the entering process with the thread that started it.
"""

import contextlib
import json
import logging
import os
import pty
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from moorage.engine.enter import Order
from moorage.engine.programs import library_path, program, sealed_interpreter
from moorage.node.entrances import Entrance, NoShell, Wanted

MOST = 32
"""Shells at once."""

_REQUEST_SECONDS = 10.0
_REQUEST_BYTES = 64 * 1024
_STREAMS = 3
_BACKLOG = 16

log = logging.getLogger(__name__)


class Shells:
    """The shells of this machine's instances."""

    def __init__(self, path: Path, find: Callable[[Wanted], Entrance]) -> None:
        """``find`` says where a request leads, or raises NoShell; it is called in the shells' threads."""
        self._find = find
        self._free = threading.Semaphore(MOST)
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(_BACKLOG)

    def start(self) -> None:
        """Begin to answer."""
        threading.Thread(target=self._accept, name="shells", daemon=True).start()

    def close(self) -> None:
        """Take no more callers; shells end with their instances."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._serve, args=(caller,), name="shell", daemon=True).start()

    def _serve(self, caller: socket.socket) -> None:
        with caller:
            if not self._free.acquire(blocking=False):
                _answer(caller, {"error": f"There are {MOST} shells already: end one of them."})
                return
            try:
                caller.settimeout(_REQUEST_SECONDS)
                request, streams = _read_request(caller)
                try:
                    self._open(caller, request, streams)
                finally:
                    for stream in streams:
                        os.close(stream)
            except NoShell as fault:
                _answer(caller, {"error": str(fault)})
            except (OSError, ValueError, KeyError, TypeError) as fault:
                log.warning("a shell could not be opened: %r", fault)
                _answer(caller, {"error": f"The shell could not be opened: {fault}"})
            finally:
                self._free.release()

    def _open(self, caller: socket.socket, request: dict[str, Any], streams: Sequence[int]) -> None:
        wanted = Wanted(request["endpoint"], request["variant"], request["instance"], request.get("container"))
        entrance = self._find(wanted)
        order = Order(entrance.pid, tuple(request["command"]), entrance.variables, request["terminal"])
        log.info("a shell is opened in %s: %s", entrance.instance_id, " ".join(order.command) or "interactive")
        if order.terminal is None:
            process = _start(order, streams)
            _answer(caller, {"instance": entrance.instance_id})
        else:
            ours, theirs = pty.openpty()
            try:
                process = _start(order, (theirs, theirs, theirs))
                _answer(caller, {"instance": entrance.instance_id}, [ours])
            finally:
                os.close(ours)
                os.close(theirs)
        code = _wait(process, caller, entrance.pid)
        log.info("the shell in %s has ended with %d", entrance.instance_id, code)
        _answer(caller, {"exit": code})


def _read_request(caller: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Read the first line and the descriptors that come with it."""
    line, streams, _flags, _address = socket.recv_fds(caller, _REQUEST_BYTES, _STREAMS)
    try:
        return _parse(_rest_of_line(caller, line), len(streams)), streams
    except BaseException:
        for stream in streams:
            os.close(stream)
        raise


def _rest_of_line(caller: socket.socket, line: bytes) -> bytes:
    while not line.endswith(b"\n") and len(line) <= _REQUEST_BYTES:
        more = caller.recv(_REQUEST_BYTES)
        if not more:
            break
        line += more
    return line


def _parse(line: bytes, streams: int) -> dict[str, Any]:
    if streams != _STREAMS:
        raise ValueError("the request comes without its three streams")
    request: dict[str, Any] = json.loads(line)
    return request


def _start(order: Order, streams: Sequence[int]) -> "subprocess.Popen[bytes]":
    """Start the process that enters the instance."""
    interpreter = sealed_interpreter()
    reader, writer = os.pipe()
    try:
        process = subprocess.Popen(
            program("moorage.engine.enter", reader, interpreter),
            executable=f"/proc/self/fd/{interpreter}",
            stdin=streams[0],
            stdout=streams[1],
            stderr=streams[2],
            pass_fds=(reader, interpreter),
            env={**os.environ, "LD_LIBRARY_PATH": library_path()},
            start_new_session=True,
        )
    finally:
        os.close(reader)
    with os.fdopen(writer, "wb") as orders, contextlib.suppress(BrokenPipeError):
        orders.write(order.to_json())
    return process


def _wait(process: "subprocess.Popen[bytes]", caller: socket.socket, instance: int) -> int:
    """Wait for the command's end, and end it when the caller hangs up, or the instance has ended.

    That would do so itself, but for an instance that has neither a process list nor control groups of its own.
    """
    with contextlib.ExitStack() as opened:
        poll = select.poll()
        poll.register(caller, select.POLLIN | select.POLLRDHUP)
        descriptor = os.pidfd_open(process.pid)
        opened.callback(os.close, descriptor)
        poll.register(descriptor, select.POLLIN)
        with contextlib.suppress(ProcessLookupError):  # gone already: the command finds nothing to enter
            first = os.pidfd_open(instance)
            opened.callback(os.close, first)
            poll.register(first, select.POLLIN)
        ready = {number for number, _ in poll.poll()}
        if descriptor not in ready:
            process.send_signal(signal.SIGHUP)
        return process.wait()


def _answer(caller: socket.socket, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
    with contextlib.suppress(OSError):
        socket.send_fds(caller, [json.dumps(message).encode() + b"\n"], list(descriptors))
