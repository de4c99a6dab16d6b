"""One instance from its launch to its end, with all its containers.

PREPARING, STARTING, READY in this order; from each of them to an end, which ``outcome`` names. A stop is taken up at
each wait. While processes are being forked nothing interrupts it: milliseconds, or the second of a zygote's start.
Each container has to pass its health checks; that of whom one is in trouble with is in the last report.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from typing import Any

from moorage.base.clock import Clock
from moorage.base.settings import Limits
from moorage.base.tasks import Tasks
from moorage.engine.contract import ENDED, Failure, InstanceReport, InstanceSpec, InstanceState
from moorage.engine.exit import Exit
from moorage.engine.launch import LaunchFailed, Progress
from moorage.engine.logs import TAIL_BYTES, TAIL_LINES
from moorage.engine.ping import NoAnswer, ping
from moorage.node.crew import Crew, Crews, NotStarted
from moorage.node.disks import Disks
from moorage.node.entrances import Candidate, Door
from moorage.node.outcome import Ended, Outcome, front_ended, judge
from moorage.node.preparation import CannotPrepare, Places, Preparation, Prepared
from moorage.node.reports import Reports

log = logging.getLogger(__name__)

FAILED_CHECKS = 2
"""So many failed health checks in a row make a ready instance unhealthy."""

_FIRST_PAUSE_SECONDS = 0.02
_LONGER = 1.25
_LONGEST_PAUSE_SECONDS = 1.0
"""Between two pings of a container that answers, and not with 200, or refuses: a fifth of what it has taken so far."""

_FRONT_GRACE_SECONDS = 1.0

_KILLED_SECONDS = 30.0
"""For the kernel to end killed processes."""

_OK = 200


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all lives of this machine share."""

    preparation: Preparation
    crews: Crews
    places: Places
    disks: Disks
    reports: Reports
    clock: Clock
    limits: Limits


class Life:
    """The life of one instance; ``run`` is all of it."""

    def __init__(self, spec: InstanceSpec, around: Surroundings) -> None:
        self._spec = spec
        self._logs = around.places.logs_of(spec)
        self._front_at = around.places.socket(spec.instance_id)
        self._preparation = around.preparation
        self._crews = around.crews
        self._disks = around.disks
        self._reports = around.reports
        self._clock = around.clock
        self._limits = around.limits
        self._stop = asyncio.Event()
        self._tasks = Tasks()
        self._crew: Crew | None = None
        self._pings: dict[str, str] = {}
        """What came of the last ping, by address."""
        self._blamed: str | None = None
        """Name of the container that is to blame for the end."""
        self._report = InstanceReport(
            instance_id=spec.instance_id,
            endpoint=spec.endpoint,
            variant=spec.variant,
            state=InstanceState.PREPARING,
            since=around.clock.now(),
            log_path=str(around.places.log(spec).folder),
            account=spec.account,
            region=spec.region,
        )
        self._reports.put(self._report)

    @property
    def candidate(self) -> Candidate:
        """What a shell would find here."""
        members = self._crew.members if self._crew is not None else ()
        doors = {member.name: Door(member.container.pid, member.variables) for member in members}
        return Candidate(self._spec, self._report, doors)

    def stop(self) -> None:
        """Begin the end: SIGTERM, after the grace SIGKILL."""
        self._stop.set()

    async def run(self) -> None:
        """Live to the end; the last report has one of the ENDED states. What is done after it delays nobody."""
        try:
            outcome = await self._live()
        except LaunchFailed as fault:
            self._blamed = fault.container if isinstance(fault, NotStarted) else None
            outcome = Outcome(InstanceState.FAILED, Failure.START, str(fault))
        except Exception as fault:  # an instance that nobody hears of again would never be replaced
            log.exception("the life of %s was broken off", self._spec.instance_id)
            outcome = Outcome(InstanceState.FAILED, Failure.START, f"Moorage could not run it: {fault}")
        finally:
            await self._tasks.close()
            await asyncio.to_thread(self._finish_logs)
        tail = "" if outcome.state is InstanceState.STOPPED else await asyncio.to_thread(self._tail)
        if outcome.message:  # after the tail, which is told beside the message
            await asyncio.to_thread(self._conclude, outcome.message)
        self._change(
            outcome.state,
            failure=outcome.failure,
            container=None if outcome.state is InstanceState.STOPPED else self._blamed or self._first_name(),
            message=outcome.message,
            log_tail=tail,
            pid=None,
            address=None,
        )
        await self._disks.leave(self._spec, self._say)
        await asyncio.to_thread(self._finish_logs)  # what was said of its disk
        self._preparation.release(self._spec)
        await self._preparation.clear(self._spec)

    async def _live(self) -> Outcome:
        preparing = self._tasks.start("prepare", self._prepare())
        await self._first(preparing)
        if not preparing.done():
            return Outcome(InstanceState.STOPPED, None, "")
        prepared = preparing.result()
        if isinstance(prepared, CannotPrepare):
            self._blamed = prepared.container
            return Outcome(InstanceState.FAILED, prepared.failure, str(prepared))
        self._change(InstanceState.STARTING, message="")
        crew = self._crew = await self._crews.start(self._spec, prepared.launches, self._front_at, prepared.models)
        if crew.front is not None:
            crew.front.on_models = self._tell_models
        self._change(InstanceState.STARTING, pid=crew.pid, address=crew.address)
        return await self._run_crew(crew)

    def _tell_models(self, count: int) -> None:
        """Tell how many models are loaded."""
        self._change(self._report.state, loaded_models=count)

    def _first_name(self) -> str | None:
        return next(iter(self._logs), None)

    def _finish_logs(self) -> None:
        for container_log in self._logs.values():
            container_log.finish()

    def _tail(self) -> str:
        """Give the end of the log of the container that is to blame, or of the first; blocks."""
        name = self._blamed or self._first_name()
        return self._logs[name].tail(TAIL_LINES, TAIL_BYTES) if name is not None else ""

    async def _prepare(self) -> Prepared | CannotPrepare:
        opened = {name: await asyncio.to_thread(container_log.open) for name, container_log in self._logs.items()}
        installs = {name: self._installs(descriptor) for name, descriptor in opened.items()}
        try:
            prepared = await self._preparation.prepare(self._spec, self._progress, installs)
        except CannotPrepare as fault:
            return fault
        finally:
            for descriptor in opened.values():
                os.close(descriptor)
        self._report = replace(self._report, resolved_images=prepared.resolved, stand_ins=prepared.stand_ins)
        return prepared

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
        """Add a line about the instance to the log of its first container; blocks."""
        if (name := self._first_name()) is not None:
            self._logs[name].say(line)

    def _conclude(self, why: str) -> None:
        """Have each container's log end with why the instance has, in one line of Moorage's; blocks."""
        for container_log in self._logs.values():
            container_log.add("[moorage] " + " ".join(why.split()))

    async def _run_crew(self, crew: Crew) -> Outcome:
        if self._spec.core_dumps is not None:
            self._tasks.start("watch for core dumps", self._disks.watch(self._spec, self._say))
        becoming_ready = self._tasks.start("become ready", self._become_ready(crew))
        await self._first(becoming_ready, crew.ended)
        was_ready = becoming_ready.done() and becoming_ready.result()
        why = self._why(crew, Ended.NEVER_HEALTHY)
        if was_ready and not crew.ended.done() and not self._stop.is_set():
            self._change(InstanceState.READY)
            failing = self._tasks.start("watch health", self._watch_health(crew))
            await self._first(failing, crew.ended)
            why = self._why(crew, Ended.UNHEALTHY)
        end = await self._end(crew, why)
        return self._judge(crew, why, end, was_ready=was_ready)

    def _judge(self, crew: Crew, why: Ended, end: Exit, *, was_ready: bool) -> Outcome:
        if why is Ended.BY_ITSELF:
            if crew.first is None:
                return front_ended(end)
            self._blamed = crew.first.name
        several = len(crew.members) > 1 and self._blamed is not None
        who = f"The container {self._blamed}" if several else "The container"
        return judge(why, end, was_ready=was_ready, last_ping=self._last_ping(crew), who=who)

    def _last_ping(self, crew: Crew) -> str:
        """Say what came of the last ping of the container that is to blame, or of the instance."""
        blamed = [member.container.address for member in crew.members if member.name == self._blamed]
        return self._pings.get((*blamed, crew.address)[0], "no answer yet")

    def _why(self, crew: Crew, otherwise: Ended) -> Ended:
        if self._stop.is_set():
            return Ended.TOLD_TO_STOP
        return Ended.BY_ITSELF if crew.ended.done() else otherwise

    async def _end(self, crew: Crew, why: Ended) -> Exit:
        """End what still runs of the containers, in good order only where they were told to stop."""
        if why is Ended.UNHEALTHY:
            self._change(InstanceState.UNHEALTHY, message=self._last_ping(crew))
        if why is Ended.TOLD_TO_STOP:
            self._change(InstanceState.STOPPING)
            crew.terminate()
            await asyncio.wait([crew.ended], timeout=self._limits.stop_grace_seconds)
            if not crew.ended.done():
                await asyncio.to_thread(self._say_who_is_killed, crew)
        if not crew.ended.done():
            await crew.kill()
        try:
            async with asyncio.timeout(_KILLED_SECONDS):
                return await asyncio.shield(crew.ended)
        except TimeoutError:
            raise TimeoutError(f"its processes were killed and did not end within {_KILLED_SECONDS:g} s") from None

    def _say_who_is_killed(self, crew: Crew) -> None:
        """Tell the logs of containers that have not ended in their grace; blocks."""
        grace = f"{self._limits.stop_grace_seconds:g}"
        for member in crew.members:
            if not member.container.ended.done():
                line = f"[moorage] The container did not end within {grace} s of SIGTERM and is killed"
                self._logs[member.name].say(line)

    async def _become_ready(self, crew: Crew) -> bool:
        """Ask until all containers have answered 200, and then the front; False when that was not in time."""
        deadline = self._clock.monotonic() + self._spec.startup_timeout_seconds
        answers = await asyncio.gather(*(self._ask_for(member.container.address, deadline) for member in crew.members))
        late = [member.name for member, is_well in zip(crew.members, answers, strict=True) if not is_well]
        if late:
            self._blamed = late[0]
            return False
        return crew.front is None or await self._ask_for(crew.front.address, deadline)

    async def _ask_for(self, address: str, deadline: float) -> bool:
        """Ask until the answer is 200; False when that was not in time.

        The socket is there before the container accepts, so the first request just waits for as long as it takes.
        """
        pause = _FIRST_PAUSE_SECONDS
        while (left := deadline - self._clock.monotonic()) > 0:
            if await self._is_well(address, left):
                return True
            await self._clock.sleep_until(min(deadline, self._clock.monotonic() + pause))
            pause = min(_LONGER * pause, _LONGEST_PAUSE_SECONDS)
        return False

    async def _watch_health(self, crew: Crew) -> None:
        """Check in the interval; returns when the checks fail. Where there is a front, it asks all containers."""
        failed = 0
        due = self._clock.monotonic()
        while failed < FAILED_CHECKS:
            due = max(due + self._limits.ping_interval_seconds, self._clock.monotonic())
            await self._clock.sleep_until(due)
            # A front answers when its containers have, each in its own time: it needs a little more.
            grace = 0.0 if crew.front is None else _FRONT_GRACE_SECONDS
            is_well = await self._is_well(crew.address, self._limits.ping_timeout_seconds + grace)
            failed = 0 if is_well else failed + 1
        await self._blame(crew)

    async def _blame(self, crew: Crew) -> None:
        """Find out which container it is that is not well."""
        if crew.front is None:
            return
        seconds = self._limits.ping_timeout_seconds
        answers = await asyncio.gather(*(self._is_well(member.container.address, seconds) for member in crew.members))
        ill = [member.name for member, is_well in zip(crew.members, answers, strict=True) if not is_well]
        self._blamed = ill[0] if ill else None

    async def _is_well(self, address: str, timeout_seconds: float) -> bool:
        try:
            status = await ping(address, timeout_seconds)
        except NoAnswer as fault:
            self._pings[address] = str(fault)
            return False
        self._pings[address] = f"/ping answered {status}"
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
