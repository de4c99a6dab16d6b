"""Starts a container's process under its limits, watches it to its end, and takes away what it leaves."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from moorage.base.tasks import Tasks
from moorage.engine import trees
from moorage.engine.cgroups import Cgroups, GroupLimits
from moorage.engine.exit import Exit
from moorage.engine.launch import Engine, Group, LaunchFailed, ServingLaunch
from moorage.engine.zygote import ZygoteGone, Zygotes

log = logging.getLogger(__name__)

PROCESSES_OF_ONE = 4096
"""Most processes and threads of one instance: a fork bomb ends here."""

_BACKLOG = 1024
_CLEANING_SECONDS = 5.0


class Running:
    """A container that was started; ``ended`` tells how it ended, once nothing of it is left."""

    def __init__(self, pid: int, gate: int, group: Group, address: str, *, ends_as_one: bool) -> None:
        self.pid = pid
        self.address = address
        self._descriptor = os.pidfd_open(pid)
        self._gate = gate
        self._group = group
        self._ends_as_one = ends_as_one
        self._dead: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(self._descriptor, self._die)

    def _die(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        if not self._dead.done():
            self._dead.set_result(None)

    def open_gate(self) -> None:
        """Let the model's code run."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._gate, b"1")

    def terminate(self) -> None:
        """Ask the container's first process to end (SIGTERM)."""
        self._signal(signal.SIGTERM)

    async def kill(self) -> None:
        """Kill everything of the container (SIGKILL)."""
        if not self._ends_as_one:
            await asyncio.to_thread(self._kill_below)
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        # By the descriptor, not by the number: that may be another process's once this one is gone.
        if not self._dead.done():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, number)

    async def wait(self) -> Exit:
        """Wait for the end of the first process, end the rest, and say how it was; the watcher's work."""
        await self._dead
        # The number is this dead process's until it is waited for, so what carries it as its session is ours.
        if not self._ends_as_one:
            await asyncio.to_thread(self._kill_below)
        code = self._reap()
        killed_at_limit = code == -signal.SIGKILL and await asyncio.to_thread(self._group.out_of_memory_kills) > 0
        return Exit(code, killed_at_limit)

    def _reap(self) -> int:
        """Take note of the dead process's exit code, and let go of it."""
        _pid, status = os.waitpid(self.pid, 0)
        os.close(self._descriptor)
        os.close(self._gate)
        return os.waitstatus_to_exitcode(status)

    def _kill_below(self) -> None:
        self._group.kill()
        trees.kill_below(self.pid)


class Launcher:
    """Starts containers by forking them from warm processes."""

    def __init__(self, engine: Engine, cgroups: Cgroups, zygotes: Zygotes) -> None:
        self._engine = engine
        self._cgroups = cgroups
        self._zygotes = zygotes
        self._tasks = Tasks()

    async def launch(self, launch: ServingLaunch) -> Running:
        """Start a container; the model's code runs when this returns. Raises LaunchFailed."""
        group = await self._engine.surround(launch) or await self._make_group(launch)
        try:
            pid, gate = await self._fork(launch)
        except BaseException:
            await self._clean(launch, group)
            raise
        running = Running(pid, gate, group, f"unix:{launch.socket}", ends_as_one=self._engine.ends_as_one)
        self._tasks.start(f"watch {launch.instance_id}", self._watch(launch, running, group))
        try:
            await asyncio.to_thread(group.join, pid)
        except ProcessLookupError:
            log.info("%s ended before the model's code ran", launch.instance_id)
        except BaseException as fault:
            await running.kill()
            raise LaunchFailed(f"the process could not be put under its limits: {fault}") from fault
        running.open_gate()
        return running

    async def _make_group(self, launch: ServingLaunch) -> Group:
        limits = GroupLimits(launch.memory_bytes, launch.vcpus, PROCESSES_OF_ONE)
        try:
            return await asyncio.to_thread(self._cgroups.make, launch.instance_id, limits, within=launch.within)
        except OSError as fault:
            raise LaunchFailed(f"the limits of the instance could not be set: {fault}") from fault

    async def _fork(self, launch: ServingLaunch) -> tuple[int, int]:
        """Fork the container's process; gives its id and the gate that it waits at."""
        bounded = "memory" in self._cgroups.controllers
        try:
            order = await asyncio.to_thread(self._engine.order, launch, bounded=bounded)
            order["toolkit"] = launch.environment.toolkit
            output = await asyncio.to_thread(launch.log.open)
        except OSError as fault:
            raise LaunchFailed(f"the instance could not be prepared: {fault}") from fault
        try:
            with _listening(launch.socket) as listener:
                try:
                    return await self._fork_once(launch, order, listener.fileno(), output)
                except ZygoteGone as gone:
                    log.warning("the zygote of %s is gone, another is started: %s", launch.environment.key, gone)
                    return await self._fork_once(launch, order, listener.fileno(), output)
        except (OSError, ZygoteGone) as fault:
            raise LaunchFailed(f"the instance could not be started: {fault}") from fault
        finally:
            os.close(output)

    async def _fork_once(
        self, launch: ServingLaunch, order: dict[str, Any], listener: int, output: int
    ) -> tuple[int, int]:
        # A gate for each attempt: what an attempt forked that failed finds its own closed, and ends.
        reader, gate = os.pipe()
        others: tuple[int, ...] = ()
        try:
            others = await asyncio.to_thread(self._engine.open_others, launch)
            descriptors = (listener, output, reader, *others)
            return await self._zygotes.fork(launch.environment, launch.threads, order, descriptors), gate
        except BaseException:
            os.close(gate)
            raise
        finally:
            for descriptor in (reader, *others):
                os.close(descriptor)

    async def _watch(self, launch: ServingLaunch, running: Running, group: Group) -> None:
        end = await running.wait()
        self._zygotes.release(launch.environment, launch.threads)
        try:
            await self._clean(launch, group)
        finally:  # not before: whoever hears of the end may use the name, and so the socket, anew
            running.ended.set_result(end)

    async def _clean(self, launch: ServingLaunch, group: Group) -> None:
        await self._engine.release(launch.instance_id)
        if not await asyncio.to_thread(group.remove):
            log.warning("the control group of %s is still in use", launch.instance_id)
        launch.socket.unlink(missing_ok=True)

    async def close(self) -> None:
        """Clean up after the last containers, which whoever calls has ended before."""
        await self._tasks.wait(_CLEANING_SECONDS)
        await self._tasks.close()
        await self._zygotes.close()
        await asyncio.to_thread(self._cgroups.close)

    def __repr__(self) -> str:
        return f"<Launcher: {self._engine.name} | {len(self._tasks)} running | {self._zygotes!r}>"


@contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    """Listen at a socket for the instance, which is handed the listener.

    So it exists before the instance answers, and whoever connects simply waits. Only the instance keeps it: when it
    has gone, a connection is refused.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        listener.listen(_BACKLOG)
        yield listener
    finally:
        listener.close()
