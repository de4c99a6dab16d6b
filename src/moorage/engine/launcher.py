"""Starts a container's process under its limits, watches it to its end, and takes away what it leaves."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moorage.base.clock import Clock
from moorage.base.tasks import Tasks
from moorage.engine import trees
from moorage.engine.cgroups import Cgroups, GroupLimits
from moorage.engine.child import Child
from moorage.engine.embryo import Embryo
from moorage.engine.exit import Exit, read_exit_code
from moorage.engine.launch import Engine, Group, LaunchFailed, ServingLaunch
from moorage.engine.spares import Spare, Spares
from moorage.engine.zygote import ZygoteGone, Zygotes

log = logging.getLogger(__name__)

PROCESSES_OF_ONE = 4096
"""Most processes and threads of one instance: a fork bomb ends here."""

_BACKLOG = 1024
_CLEANING_SECONDS = 5.0


class Running:
    """A container that was started; ``ended`` tells how it ended, once nothing of it is left."""

    def __init__(self, process: Child, group: Group, address: str, *, ends_as_one: bool) -> None:
        self.address = address
        self._process = process
        self._group = group
        self._ends_as_one = ends_as_one
        self.ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()

    @property
    def pid(self) -> int:
        """Process id of its first process."""
        return self._process.pid

    def terminate(self) -> None:
        """Ask the container's first process to end (SIGTERM)."""
        self._process.signal(signal.SIGTERM)

    async def kill(self) -> None:
        """Kill everything of the container (SIGKILL)."""
        if not self._ends_as_one:
            await asyncio.to_thread(self._kill_below)
        self._process.signal(signal.SIGKILL)

    async def wait(self) -> Exit:
        """Wait for the end of the first process, end the rest, and say how it was; the watcher's work."""
        await self._process.dead
        # The number is this dead process's until it is waited for, so what carries it as its session is ours.
        if not self._ends_as_one:
            await asyncio.to_thread(self._kill_below)
        # A foreman tells how its last worker was ended (serving/workers.py).
        code = read_exit_code(self._process.reap())
        killed_at_limit = code == -signal.SIGKILL and await asyncio.to_thread(self._group.out_of_memory_kills) > 0
        return Exit(code, killed_at_limit)

    def _kill_below(self) -> None:
        self._group.kill()
        trees.kill_below(self.pid)


@dataclass(frozen=True, slots=True)
class _Ready:
    """What an embryo is given to become an instance."""

    order: Mapping[str, Any]
    descriptors: Sequence[int]

    def close(self) -> None:
        """Close this process's copies."""
        for descriptor in self.descriptors:
            os.close(descriptor)


class Launcher:
    """Starts containers by forking them from warm processes."""

    def __init__(self, engine: Engine, cgroups: Cgroups, zygotes: Zygotes, clock: Clock) -> None:
        self._engine = engine
        self._cgroups = cgroups
        self._zygotes = zygotes
        self._spares = Spares(zygotes.fork_ahead, cgroups, clock)
        self._tasks = Tasks()

    @property
    def has_spare(self) -> bool:
        """Whether the next launch may find its process forked, and in its control groups."""
        return bool(self._spares)

    async def launch(self, launch: ServingLaunch) -> Running:
        """Start a container; the model's code runs when this returns. Raises LaunchFailed."""
        group = await self._engine.surround(launch)
        self._zygotes.hold(launch.environment, launch.threads)
        try:
            process, group = await self._start(launch, group)
        except BaseException:
            self._zygotes.release(launch.environment, launch.threads)
            await self._clean(launch)
            raise
        finally:
            if self._engine.forks_ahead and launch.within is None:
                self._spares.make_soon(launch.environment, launch.threads)
        running = Running(process, group, f"unix:{launch.socket}", ends_as_one=self._engine.ends_as_one)
        self._tasks.start(f"watch {launch.instance_id}", self._watch(launch, running, group))
        return running

    async def _start(self, launch: ServingLaunch, group: Group | None) -> tuple[Embryo, Group]:
        """Have a process, within its limits, that has its order."""
        try:
            ready = await asyncio.to_thread(self._make_ready, launch)
        except OSError as fault:
            raise LaunchFailed(f"the instance could not be prepared: {fault}") from fault
        try:
            # A spare's groups are in no envelope, and a process changes its groups slowly.
            spare = None if launch.within else self._spares.take(launch.environment, launch.threads)
            if spare is not None:
                if await self._use(spare, launch, ready):
                    return spare.embryo, spare.group
                await spare.end()
            return await self._start_anew(launch, group or await self._make_group(launch), ready)
        finally:
            ready.close()

    async def _use(self, spare: Spare, launch: ServingLaunch, ready: _Ready) -> bool:
        """Let a spare be the instance; False where it cannot."""
        try:
            await asyncio.to_thread(spare.group.limit, _limits_of(launch))
            await spare.embryo.give(ready.order, ready.descriptors)
        except OSError as fault:
            log.warning("%s does not take the process that was forked ahead: %s", launch.instance_id, fault)
            return False
        except BaseException:
            await spare.end()
            raise
        return True

    async def _start_anew(self, launch: ServingLaunch, group: Group, ready: _Ready) -> tuple[Embryo, Group]:
        try:
            process = await self._fork(launch)
            try:
                await asyncio.to_thread(group.join, process.pid)
                await process.give(ready.order, ready.descriptors)
            except (ProcessLookupError, ConnectionError):  # whoever watches it will say how it ended
                log.info("%s ended before the model's code ran", launch.instance_id)
            except BaseException as fault:
                await process.end()
                if not isinstance(fault, OSError):
                    raise
                raise LaunchFailed(f"the process could not be put under its limits: {fault}") from fault
        except BaseException:
            await self._remove(group, launch)
            raise
        return process, group

    async def _make_group(self, launch: ServingLaunch) -> Group:
        try:
            return await asyncio.to_thread(
                self._cgroups.make, launch.instance_id, _limits_of(launch), within=launch.within
            )
        except OSError as fault:
            raise LaunchFailed(f"the limits of the instance could not be set: {fault}") from fault

    def _make_ready(self, launch: ServingLaunch) -> _Ready:
        """Make what the process will be given; blocks, raises OSError."""
        order = self._engine.order(launch, bounded="memory" in self._cgroups.controllers)
        order["toolkit"] = launch.environment.toolkit
        with contextlib.ExitStack() as undo:
            listener = _listen(launch.socket)
            undo.callback(os.close, listener)
            output = launch.log.open()
            undo.callback(os.close, output)
            disk = self._engine.open_disk(launch)
            undo.pop_all()
        return _Ready(order, (listener, output, *disk))

    async def _fork(self, launch: ServingLaunch) -> Embryo:
        try:
            try:
                return await self._fork_once(launch)
            except ZygoteGone as gone:
                log.warning("the zygote of %s is gone, another is started: %s", launch.environment.key, gone)
                return await self._fork_once(launch)
        except (OSError, ZygoteGone) as fault:
            raise LaunchFailed(f"the instance could not be started: {fault}") from fault

    async def _fork_once(self, launch: ServingLaunch) -> Embryo:
        namespaces = await asyncio.to_thread(self._engine.open_namespaces, launch)
        try:
            return await self._zygotes.fork(launch.environment, launch.threads, namespaces)
        finally:
            for descriptor in namespaces:
                os.close(descriptor)

    async def _watch(self, launch: ServingLaunch, running: Running, group: Group) -> None:
        end = await running.wait()
        self._zygotes.release(launch.environment, launch.threads)
        try:
            await self._clean(launch, group)
        finally:  # not before: whoever hears of the end may use the name, and so the socket, anew
            running.ended.set_result(end)

    async def _clean(self, launch: ServingLaunch, group: Group | None = None) -> None:
        await self._engine.release(launch.instance_id)
        if group is not None:
            await self._remove(group, launch)
        launch.socket.unlink(missing_ok=True)

    async def _remove(self, group: Group, launch: ServingLaunch) -> None:
        if not await asyncio.to_thread(group.remove):
            log.warning("the control group of %s is still in use", launch.instance_id)

    async def close(self) -> None:
        """Clean up after the last containers, which whoever calls has ended before."""
        await self._tasks.wait(_CLEANING_SECONDS)
        await self._tasks.close()
        await self._spares.close()
        await self._zygotes.close()
        await asyncio.to_thread(self._cgroups.close)

    def __repr__(self) -> str:
        return f"<Launcher: {self._engine.name} | {len(self._tasks)} running | {self._zygotes!r}>"


def _limits_of(launch: ServingLaunch) -> GroupLimits:
    return GroupLimits(launch.memory_bytes, launch.vcpus, PROCESSES_OF_ONE)


def _listen(path: Path) -> int:
    """Listen at a socket for the instance, which is handed the listener; raises OSError.

    So it exists before the instance answers, and whoever connects simply waits. Only the instance keeps it: when it
    has gone, a connection is refused.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        listener.listen(_BACKLOG)
        return listener.detach()
