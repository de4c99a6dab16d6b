"""The fronts of instances: a process each (``moorage.front``), started and watched beside the containers.

A front inherits the socket that it listens at, so that callers wait for it and are not refused, and one end of a
channel, on which it is told what it needs to know and whose end is its end: with this process it goes, too.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from moorage.base import link
from moorage.base.link import Link, LinkClosed
from moorage.base.tasks import Tasks
from moorage.engine.exit import Exit
from moorage.engine.launch import LaunchFailed
from moorage.front.spec import FrontSpec

log = logging.getLogger(__name__)

_BACKLOG = 1024
_LEAVE_SECONDS = 1.0
"""For a front to end whose channel is closed; then it is killed."""


class Front:
    """A front that was started."""

    def __init__(self, process: "subprocess.Popen[bytes]", channel: Link, path: Path) -> None:
        self.address = f"unix:{path}"
        """Where it answers."""
        self.pid = process.pid
        self.ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._process = process
        self._channel = channel
        self._path = path
        self._loaded: dict[str, int] = {}
        self.on_models: Callable[[int], None] | None = None
        """Who hears how many models are loaded."""
        self._tasks = Tasks()
        self._tasks.start("hear the front", self._hear())
        self._descriptor = os.pidfd_open(process.pid)
        asyncio.get_running_loop().add_reader(self._descriptor, self._end)

    def __repr__(self) -> str:
        return f"<Front: process {self.pid} at {self.address}, {'ended' if self.ended.done() else 'running'}>"

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        code = self._process.wait()  # it has ended: this does not wait
        if not self.ended.done():
            self.ended.set_result(Exit(code, out_of_memory=False))

    async def serve(self, spec: FrontSpec) -> None:
        """Tell it what to do; nothing happens where it has ended already, which ``ended`` tells."""
        with contextlib.suppress(LinkClosed):
            await self._channel.send({"op": "serve", "spec": spec.to_message()})

    async def _hear(self) -> None:
        """Hear what it says until it ends."""
        with contextlib.suppress(LinkClosed):
            async for message in self._channel.messages():
                if message["op"] == "models":
                    self._loaded[message["container"]] = message["loaded"]
                    if self.on_models is not None:
                        self.on_models(self.loaded_models or 0)

    @property
    def loaded_models(self) -> int | None:
        """How many models its containers have loaded; None: it has not said."""
        return sum(self._loaded.values()) if self._loaded else None

    async def close(self) -> None:
        """End it, and wait for that."""
        await self._tasks.close()
        await self._channel.close()
        await asyncio.wait([self.ended], timeout=_LEAVE_SECONDS)
        if not self.ended.done():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)
            await self.ended
        self._path.unlink(missing_ok=True)


async def start_front(path: Path) -> Front:
    """Start a front that is to listen at a path; raises LaunchFailed."""
    try:
        process, channel = await asyncio.to_thread(_start, path)
    except OSError as fault:
        raise LaunchFailed(f"the front of the instance could not be started: {fault}") from fault
    return Front(process, await link.take(channel), path)


def _start(path: Path) -> tuple["subprocess.Popen[bytes]", socket.socket]:
    path.unlink(missing_ok=True)
    ours, theirs = socket.socketpair()
    with theirs, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        try:
            listener.bind(str(path))
            listener.listen(_BACKLOG)
            numbers = (theirs.fileno(), listener.fileno())
            command = [sys.executable, "-m", "moorage.front", *(str(number) for number in numbers)]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=numbers)
        except BaseException:
            ours.close()
            raise
    return process, ours
