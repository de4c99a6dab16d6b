"""One container from its start to its end.

Its end is heard twice: from the daemon, which knows the exit code, and from the kernel (a pidfd), which also tells when
the daemon is gone. What of the memory's control group must be read, is read at that instant: soon it is gone too.
"""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Any

from moorage.base.clock import Clock
from moorage.base.tasks import Tasks
from moorage.engine.cgroups import find_out_of_memory_counter, read_out_of_memory_kills
from moorage.engine.docker.api import Api, DaemonGone, DaemonRefused
from moorage.engine.exit import SIGNALLED, Exit, read_exit_code

log = logging.getLogger(__name__)

_TOLD_SECONDS = 10.0
"""For the daemon to say how a container ended of which the kernel says that it has."""

_OUTPUT_SECONDS = 5.0
"""For the last of its output, which a process that it left behind may keep open."""

_CLEANING_SECONDS = 10.0
"""For what it leaves to be removed, before its end is told all the same."""

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0
"""Between two tries to reach a daemon that is gone."""

_KILL_SECONDS = 10.0


class Process:
    """The first process of a container, as this machine's kernel sees it."""

    def __init__(self, pid: int) -> None:
        """Watch a process; raises OSError where that cannot be."""
        self.pid = pid
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.out_of_memory_kills = 0
        self._counter = find_out_of_memory_counter(pid)
        self._descriptor = os.pidfd_open(pid)
        asyncio.get_running_loop().add_reader(self._descriptor, self._end)

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        self.count_kills()
        if not self.ended.done():
            self.ended.set_result(None)

    def count_kills(self) -> None:
        """Look how many processes of its group the kernel has killed at the memory limit, while that can be seen."""
        if self._counter is not None:
            self.out_of_memory_kills = max(self.out_of_memory_kills, read_out_of_memory_kills(self._counter))

    def kill(self) -> None:
        """Kill it, and so all that is in its process namespace; an ordinary user may not."""
        if not self.ended.done():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)

    def close(self) -> None:
        """Watch it no longer."""
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)


class DockerContainer:
    """A container that was started."""

    def __init__(  # noqa: PLR0913 - what there is of a container
        self, api: Api, container_id: str, *, address: str, process: Process | None, tasks: Tasks, clock: Clock
    ) -> None:
        """``process`` is None where containers run in another kernel."""
        self.address = address
        self.ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._api = api
        self._id = container_id
        self._process = process
        self._tasks = tasks
        self._clock = clock

    @property
    def pid(self) -> int:
        """Process id of its first process on this machine; 0 where it has none."""
        return self._process.pid if self._process else 0

    def terminate(self) -> None:
        """Ask its first process to end (SIGTERM)."""
        self._tasks.start(f"terminate {self._id[:12]}", self._signal("SIGTERM"))

    async def kill(self) -> None:
        """End all of it (SIGKILL), by the kernel where the daemon cannot be reached."""
        if not await self._signal("SIGKILL") and self._process is not None:
            self._process.kill()

    def kill_at_once(self) -> None:
        """End all of it by the kernel, without the daemon: only the daemon's own user may."""
        if self._process is not None:
            self._process.count_kills()
            self._process.kill()

    @property
    def out_of_memory_kills(self) -> int:
        """The processes that the kernel has killed at the memory limit, as far as it was seen."""
        return self._process.out_of_memory_kills if self._process else 0

    async def _signal(self, name: str) -> bool:
        query = {"signal": name}
        try:
            await self._api.call("POST", f"/containers/{self._id}/kill", query=query, seconds=_KILL_SECONDS)
        except DaemonRefused as fault:
            return fault.status in {HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT}  # it has ended
        except DaemonGone as fault:
            log.warning("%s could not be sent to a container: %s", name, fault)
            return False
        return True

    async def watch(self, output: "asyncio.Task[None] | None", clean: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Wait for its end, clean up after it, and then tell: whoever hears of it may use its name anew."""
        state = await self._wait()
        if output is not None:
            await asyncio.wait([output], timeout=_OUTPUT_SECONDS)
        cleaning = self._tasks.start(f"clean up after {self._id[:12]}", clean())
        await asyncio.wait([cleaning], timeout=_CLEANING_SECONDS)
        self.ended.set_result(self._judge(state))

    async def _wait(self) -> Mapping[str, Any]:
        """Wait for the end; gives the daemon's last words on it, nothing where there are none."""
        asking = self._tasks.start(f"wait for {self._id[:12]}", self._ask_for_the_end())
        if self._process is None:
            return await asking
        either: list[asyncio.Future[Any]] = [asking, self._process.ended]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        done, _ = await asyncio.wait([asking], timeout=_TOLD_SECONDS)
        if done:
            return asking.result()
        asking.cancel()
        log.warning("%s has ended, and %s does not say how", self._id[:12], self._api.daemon)
        return {}

    async def _ask_for_the_end(self) -> Mapping[str, Any]:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                await self._api.call("POST", f"/containers/{self._id}/wait", seconds=None)
                found = await self._api.call("GET", f"/containers/{self._id}/json")
            except DaemonRefused as fault:
                if fault.status == HTTPStatus.NOT_FOUND:  # somebody has removed it
                    return {}
                log.warning("%s does not say how %s does: %s", self._api.daemon, self._id[:12], fault)
            except DaemonGone as fault:
                log.warning("%s is not watched just now: %s", self._id[:12], fault)
            else:
                state: Mapping[str, Any] = found["State"]
                if not state.get("Running"):
                    return state
            await self._clock.sleep_until(self._clock.monotonic() + pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _judge(self, state: Mapping[str, Any]) -> Exit:
        code = read_exit_code(int(state.get("ExitCode", SIGNALLED + signal.SIGKILL)))
        killed = bool(state.get("OOMKilled")) or self.out_of_memory_kills > 0
        return Exit(code, out_of_memory=killed and code != 0)

    def __repr__(self) -> str:
        return f"<DockerContainer {self._id[:12]} at {self.address}>"
