"""One instance from its launch to its end.

PREPARING, STARTING, READY in this order; from each of them to an end, which ``outcome`` names. A stop is taken up at
each wait. While the process is being forked nothing interrupts it: milliseconds, or the second of a zygote's start.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from moorage.base.clock import Clock
from moorage.base.settings import Limits
from moorage.base.tasks import Tasks
from moorage.engine.contract import ENDED, Failure, InstanceReport, InstanceSpec, InstanceState
from moorage.engine.exit import Exit
from moorage.engine.launch import Container, Launch, LaunchFailed, Progress, ServingLaunch
from moorage.engine.logs import TAIL_BYTES, TAIL_LINES
from moorage.engine.ping import NoAnswer, ping
from moorage.logs.pump import ContainerLog
from moorage.node.disks import Disks
from moorage.node.entrances import Candidate
from moorage.node.outcome import Ended, Outcome, judge
from moorage.node.preparation import CannotPrepare, Preparation
from moorage.node.reports import Reports

log = logging.getLogger(__name__)

FAILED_CHECKS = 2
"""So many failed health checks in a row make a ready instance unhealthy."""

_FIRST_PAUSE_SECONDS = 0.02
_LONGER = 1.25
_LONGEST_PAUSE_SECONDS = 1.0
"""Between two pings of a container that answers, and not with 200, or refuses: a fifth of what it has taken so far."""

_KILLED_SECONDS = 30.0
"""For the kernel to end killed processes."""

_OK = 200


class Launcher(Protocol):
    """What starts containers (``node.engines.Engines``)."""

    async def launch(self, launch: Launch) -> Container:
        """Start a container; raises LaunchFailed."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all lives of this machine share."""

    preparation: Preparation
    launcher: Launcher
    disks: Disks
    reports: Reports
    clock: Clock
    limits: Limits


class Life:
    """The life of one instance; ``run`` is all of it."""

    def __init__(self, spec: InstanceSpec, log: ContainerLog, around: Surroundings) -> None:
        self._spec = spec
        self._log = log
        self._preparation = around.preparation
        self._launcher = around.launcher
        self._disks = around.disks
        self._reports = around.reports
        self._clock = around.clock
        self._limits = around.limits
        self._stop = asyncio.Event()
        self._tasks = Tasks()
        self._last_ping = "no answer yet"
        self._variables: Mapping[str, str] | None = None
        self._report = InstanceReport(
            instance_id=spec.instance_id,
            endpoint=spec.endpoint,
            variant=spec.variant,
            state=InstanceState.PREPARING,
            since=around.clock.now(),
            log_path=str(log.folder),
            account=spec.account,
            region=spec.region,
        )
        self._reports.put(self._report)

    @property
    def candidate(self) -> Candidate:
        """What a shell would find here."""
        return Candidate(self._spec, self._report, self._variables)

    def stop(self) -> None:
        """Begin the end: SIGTERM, after the grace SIGKILL."""
        self._stop.set()

    async def run(self) -> None:
        """Live to the end; the last report has one of the ENDED states. What is done after it delays nobody."""
        try:
            outcome = await self._live()
        except LaunchFailed as fault:
            outcome = Outcome(InstanceState.FAILED, Failure.START, str(fault))
        except Exception as fault:  # an instance that nobody hears of again would never be replaced
            log.exception("the life of %s was broken off", self._spec.instance_id)
            outcome = Outcome(InstanceState.FAILED, Failure.START, f"Moorage could not run it: {fault}")
        finally:
            await self._tasks.close()
            await asyncio.to_thread(self._log.finish)
        tail = "" if outcome.state is InstanceState.STOPPED else await asyncio.to_thread(self._tail)
        if outcome.message:  # after the tail, which is told beside the message
            await asyncio.to_thread(self._conclude, outcome.message)
        container = self._spec.containers[0].name if self._spec.containers else None
        self._change(
            outcome.state,
            failure=outcome.failure,
            container=container if outcome.state is InstanceState.FAILED else None,
            message=outcome.message,
            log_tail=tail,
            pid=None,
            address=None,
        )
        await self._disks.leave(self._spec, self._say)
        await asyncio.to_thread(self._log.finish)  # what was said of its disk
        self._preparation.release(self._spec)

    async def _live(self) -> Outcome:
        preparing = self._tasks.start("prepare", self._prepare())
        await self._first(preparing)
        if not preparing.done():
            return Outcome(InstanceState.STOPPED, None, "")
        launch = preparing.result()
        if isinstance(launch, CannotPrepare):
            return Outcome(InstanceState.FAILED, launch.failure, str(launch))
        if isinstance(launch, ServingLaunch):  # forked, not executed: the kernel knows the zygote's
            self._variables = launch.variables
        self._change(InstanceState.STARTING, message="")
        container = await self._launcher.launch(launch)
        self._change(InstanceState.STARTING, pid=container.pid, address=container.address)
        return await self._run_container(container)

    def _tail(self) -> str:
        return self._log.tail(TAIL_LINES, TAIL_BYTES)

    async def _prepare(self) -> Launch | CannotPrepare:
        descriptor = await asyncio.to_thread(self._log.open)
        try:
            launch, resolved = await self._preparation.prepare(self._spec, self._progress, self._installs(descriptor))
        except CannotPrepare as fault:
            return fault
        finally:
            os.close(descriptor)
        self._report = replace(self._report, resolved_images=(resolved,))
        return launch

    def _progress(self, line: str) -> None:
        self._change(InstanceState.PREPARING, message=line)

    def _installs(self, descriptor: int) -> Progress:
        """Tell what pip says of a model's requirements also to the container's log, where AWS's container has it."""
        os.set_blocking(descriptor, False)

        def tell(line: str) -> None:
            with contextlib.suppress(BlockingIOError):  # a disk that does not keep up must not hold this loop
                os.write(descriptor, f"{line}\n".encode(errors="replace"))
            self._progress(line)

        return tell

    def _say(self, line: str) -> None:
        """Add a line to the container's log; blocks."""
        self._log.say(line)

    def _conclude(self, why: str) -> None:
        """Have the container's log end with why the instance has, in one line of Moorage's; blocks."""
        self._log.add("[moorage] " + " ".join(why.split()))

    async def _run_container(self, container: Container) -> Outcome:
        address = container.address
        if self._spec.core_dumps is not None:
            self._tasks.start("watch for core dumps", self._disks.watch(self._spec, self._say))
        becoming_ready = self._tasks.start("become ready", self._become_ready(address))
        await self._first(becoming_ready, container.ended)
        was_ready = becoming_ready.done() and becoming_ready.result()
        why = self._why(container, Ended.NEVER_HEALTHY)
        if was_ready and not container.ended.done() and not self._stop.is_set():
            self._change(InstanceState.READY)
            failing = self._tasks.start("watch health", self._watch_health(address))
            await self._first(failing, container.ended)
            why = self._why(container, Ended.UNHEALTHY)
        end = await self._end(container, why)
        return judge(why, end, was_ready=was_ready, last_ping=self._last_ping)

    def _why(self, container: Container, otherwise: Ended) -> Ended:
        if self._stop.is_set():
            return Ended.TOLD_TO_STOP
        return Ended.BY_ITSELF if container.ended.done() else otherwise

    async def _end(self, container: Container, why: Ended) -> Exit:
        """End what still runs of the container, in good order only where it was told to stop."""
        if why is Ended.UNHEALTHY:
            self._change(InstanceState.UNHEALTHY, message=self._last_ping)
        if why is Ended.TOLD_TO_STOP:
            self._change(InstanceState.STOPPING)
            container.terminate()
            await asyncio.wait([container.ended], timeout=self._limits.stop_grace_seconds)
            if not container.ended.done():
                grace = f"{self._limits.stop_grace_seconds:g}"
                await asyncio.to_thread(
                    self._say, f"[moorage] The container did not end within {grace} s of SIGTERM and is killed"
                )
        if not container.ended.done():
            await container.kill()
        try:
            async with asyncio.timeout(_KILLED_SECONDS):
                return await asyncio.shield(container.ended)
        except TimeoutError:
            raise TimeoutError(f"its processes were killed and did not end within {_KILLED_SECONDS:g} s") from None

    async def _become_ready(self, address: str) -> bool:
        """Ask until the container answers 200; False when that was not in time.

        The socket is there before the container accepts, so the first request just waits for as long as it takes.
        """
        deadline = self._clock.monotonic() + self._spec.startup_timeout_seconds
        pause = _FIRST_PAUSE_SECONDS
        while (left := deadline - self._clock.monotonic()) > 0:
            if await self._is_well(address, left):
                return True
            await self._clock.sleep_until(min(deadline, self._clock.monotonic() + pause))
            pause = min(_LONGER * pause, _LONGEST_PAUSE_SECONDS)
        return False

    async def _watch_health(self, address: str) -> None:
        """Check in the interval; returns when the checks fail."""
        failed = 0
        due = self._clock.monotonic()
        while failed < FAILED_CHECKS:
            due = max(due + self._limits.ping_interval_seconds, self._clock.monotonic())
            await self._clock.sleep_until(due)
            failed = 0 if await self._is_well(address, self._limits.ping_timeout_seconds) else failed + 1

    async def _is_well(self, address: str, timeout_seconds: float) -> bool:
        try:
            status = await ping(address, timeout_seconds)
        except NoAnswer as fault:
            self._last_ping = str(fault)
            return False
        self._last_ping = f"/ping answered {status}"
        return status == _OK

    async def _first(self, *works: "asyncio.Future[Any]") -> None:
        """Wait until one is done or the instance is to stop."""
        stopping = self._tasks.start("stop", self._stop_told())
        await asyncio.wait([*works, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()

    def _stop_told(self) -> Coroutine[Any, Any, Any]:
        return self._stop.wait()

    def _change(self, state: InstanceState, **changes: Any) -> None:
        if self._report.state in ENDED:
            return
        since = self._report.since if state is self._report.state else self._clock.now()
        self._report = replace(self._report, state=state, since=since, **changes)
        self._reports.put(self._report)
