"""The containers of one instance, started together and ended together, and the front before them.

An instance of one container has neither a front nor an envelope: then all of this is that container. Who of several
ends first ends all; only an instance that was told to stop lets each of them end in its own time.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from moorage.base.settings import Settings
from moorage.base.tasks import Tasks
from moorage.engine.cgroups import Cgroups, GroupLimits
from moorage.engine.contract import InstanceSpec
from moorage.engine.exit import Exit
from moorage.engine.launch import Container, Launch, LaunchFailed, ServingLaunch
from moorage.engine.launcher import PROCESSES_OF_ONE
from moorage.front.spec import FrontContainer, FrontSpec, ManyModels, Mode
from moorage.node.fronts import Front, start_front
from moorage.node.shelves import has_front

log = logging.getLogger(__name__)


NO_MODELS: Mapping[str, ManyModels] = {}


class NotStarted(LaunchFailed):
    """A container could not be started; the text is for people."""

    def __init__(self, container: str, message: str) -> None:
        super().__init__(message)
        self.container = container


class Launcher(Protocol):
    """What starts containers (``node.engines.Engines``)."""

    async def launch(self, launch: Launch) -> Container:
        """Start a container; raises LaunchFailed."""


@dataclass(frozen=True, slots=True)
class Member:
    """One container that was started."""

    name: str
    container: Container
    variables: Mapping[str, str] | None
    """Its environment, where it was forked and not executed: the kernel knows the zygote's."""


class Crew:
    """What runs of one instance."""

    def __init__(self, members: Sequence[Member], front: Front | None, leave: Callable[[], Awaitable[None]]) -> None:
        """``leave`` ends the front and takes back what bounded them, once nothing of the containers is left."""
        self.members = tuple(members)
        self.front = front
        self.ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        """How the one ended that was the first to, once nothing of any is left."""
        self.first: Member | None = None
        """Who that was; None also when it was the front."""
        self._leave = leave
        self._told_to_stop = False

    def __repr__(self) -> str:
        return f"<Crew: {', '.join(member.name for member in self.members)} | {self.front!r}>"

    @property
    def pid(self) -> int:
        """Process id of the first container's first process."""
        return self.members[0].container.pid

    @property
    def address(self) -> str:
        """Where the instance answers."""
        return self.members[0].container.address if self.front is None else self.front.address

    def terminate(self) -> None:
        """Ask all containers to end; the front stays as long as one is there, for what is under way."""
        self._told_to_stop = True
        for member in self.members:
            member.container.terminate()

    async def kill(self) -> None:
        """End everything."""
        living = [member.container for member in self.members if not member.container.ended.done()]
        await asyncio.gather(*(container.kill() for container in living))

    async def watch(self) -> None:
        """Wait for the first end, see to that of all, and tell it."""
        containers = [member.container.ended for member in self.members]
        fronts = [] if self.front is None else [self.front.ended]
        await asyncio.wait([*containers, *fronts], return_when=asyncio.FIRST_COMPLETED)
        self.first = next((member for member in self.members if member.container.ended.done()), None)
        if not self._told_to_stop:
            await self.kill()
        await asyncio.wait(containers)
        await self._leave()
        end = fronts[0] if self.first is None else self.first.container.ended
        if not self.ended.done():
            self.ended.set_result(end.result())


class Crews:
    """Starts the containers of instances."""

    def __init__(self, launcher: Launcher, cgroups: Cgroups, settings: Settings) -> None:
        self._launcher = launcher
        self._cgroups = cgroups
        self._settings = settings
        self._limits = settings.limits
        self._tasks = Tasks()

    async def start(
        self,
        spec: InstanceSpec,
        launches: Sequence[Launch],
        front_at: Path,
        models: Mapping[str, ManyModels] = NO_MODELS,
    ) -> Crew:
        """Start an instance's containers, and its front if it has one, at that socket. Raises NotStarted, LaunchFailed.

        ``models`` are those of the containers that serve many. What was started ends when another one cannot be.
        """
        async with contextlib.AsyncExitStack() as undo:
            front = None
            if has_front(spec):
                if len(launches) > 1:
                    await self._make_envelope(spec, launches[0], undo)
                front = await start_front(front_at)
                undo.push_async_callback(front.close)
            members = await self._start_all(spec, launches)
            if front is not None:
                await front.serve(self._front_spec(spec, members, models))
            crew = Crew(members, front, undo.pop_all().aclose)
        self._tasks.start(f"watch the containers of {spec.instance_id}", crew.watch())
        return crew

    async def _make_envelope(self, spec: InstanceSpec, launch: Launch, undo: contextlib.AsyncExitStack) -> None:
        """Bound all containers together, where control groups can."""
        limits = GroupLimits(launch.memory_bytes, launch.vcpus, PROCESSES_OF_ONE)
        try:
            envelope = await asyncio.to_thread(self._cgroups.make_envelope, spec.instance_id, limits)
        except OSError as fault:
            raise LaunchFailed(f"the limits of the instance could not be set: {fault}") from fault

        async def remove() -> None:
            if not await asyncio.to_thread(envelope.remove):
                log.warning("the control group of %s is still in use", spec.instance_id)

        undo.push_async_callback(remove)

    async def _start_all(self, spec: InstanceSpec, launches: Sequence[Launch]) -> list[Member]:
        """Start them at the same time; when one cannot be, those that were are killed."""
        names = [container.name for container in spec.containers]
        works = [self._start_one(name, launch) for name, launch in zip(names, launches, strict=True)]
        outcomes = await asyncio.gather(*works, return_exceptions=True)
        started = [outcome for outcome in outcomes if isinstance(outcome, Member)]
        if len(started) == len(launches):
            return started
        for member in started:
            await member.container.kill()
        if started:
            await asyncio.wait([member.container.ended for member in started])
        raise next(outcome for outcome in outcomes if isinstance(outcome, BaseException))

    async def _start_one(self, name: str, launch: Launch) -> Member:
        try:
            container = await self._launcher.launch(launch)
        except LaunchFailed as fault:
            raise NotStarted(name, str(fault)) from fault
        return Member(name, container, launch.variables if isinstance(launch, ServingLaunch) else None)

    def _front_spec(self, spec: InstanceSpec, members: Sequence[Member], models: Mapping[str, ManyModels]) -> FrontSpec:
        return FrontSpec(
            instance_id=spec.instance_id,
            mode=Mode(spec.execution),
            containers=tuple(
                FrontContainer(member.name, member.container.address, models.get(member.name)) for member in members
            ),
            body_bytes=self._limits.invocation_body_bytes,
            buffered_bytes=self._limits.buffered_bytes,
            timeout_seconds=self._limits.invocation_timeout_seconds,
            ping_seconds=self._limits.ping_timeout_seconds,
            settings=self._settings.to_message() if models else None,
        )

    async def close(self) -> None:
        """End what is left to do, once all instances have ended."""
        await self._tasks.close()
