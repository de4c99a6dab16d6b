"""One embryo ahead for each zygote: forked, separated and in its control groups before anybody needs it.

What a fork costs, and the kernel's wait before a process changes its control groups (``cgroups.hasten``), is then paid
while nothing is waited for: not before the launches have been quiet for a moment. A spare ends with its zygote. One
that dies is not replaced before the next launch: that is made without it, and asks for another.
"""

import asyncio
import logging
import math
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count

from moorage.base.clock import Clock
from moorage.base.tasks import Tasks
from moorage.engine.cgroups import Cgroup, Cgroups
from moorage.engine.embryo import Embryo
from moorage.engine.environments import Environment
from moorage.engine.launch import LaunchFailed
from moorage.engine.zygote import ZygoteGone

log = logging.getLogger(__name__)

QUIET_SECONDS = 0.1
"""After a launch: what was started has the processors for itself meanwhile, and more launches may follow at once."""

_ENDING_SECONDS = 5.0

Fork = Callable[[Environment, int], Awaitable[Embryo | None]]
"""Forks from the zygote of an environment and a number of threads; None where none is warm. Raises as a fork does."""


class Spare:
    """An embryo that nobody has needed yet."""

    def __init__(self, embryo: Embryo, group: Cgroup) -> None:
        """``group`` is the embryo's own, without limits so far."""
        self.embryo = embryo
        self.group = group
        self.taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def usable(self) -> bool:
        """Whether it lives, and its zygote too: what ends that makes the spare one of yesterday."""
        return not (self.embryo.dead.done() or self.embryo.zygote_gone.done())

    async def end(self) -> None:
        """Let nothing of it be left."""
        await self.embryo.end()
        if not await asyncio.to_thread(self.group.remove):
            log.warning("the control group of an embryo is still in use")


@dataclass(slots=True)
class _Place:
    """Where the spare of one zygote is, or will be."""

    due: float = 0.0
    spare: Spare | None = None
    keeper: "asyncio.Task[None] | None" = None


class Spares:
    """The spares of this machine."""

    def __init__(self, fork: Fork, cgroups: Cgroups, clock: Clock) -> None:
        self._fork = fork
        self._cgroups = cgroups
        self._clock = clock
        self._places: defaultdict[tuple[str, int], _Place] = defaultdict(_Place)
        self._numbers = count()
        self._tasks = Tasks()
        self._closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __bool__(self) -> bool:
        return any(place.spare is not None and place.spare.usable for place in self._places.values())

    def take(self, environment: Environment, threads: int) -> Spare | None:
        """Give the spare of a zygote, which is the caller's from now on; None where there is none now."""
        place = self._places[environment.key, threads]
        spare = place.spare
        if spare is None or not spare.usable:
            return None
        place.spare = place.keeper = None
        spare.taken.set_result(None)
        return spare

    def make_soon(self, environment: Environment, threads: int) -> None:
        """Have a spare of this zygote when the launches are over, if it still is there then."""
        if self._closing.done():
            return
        place = self._places[environment.key, threads]
        place.due = self._clock.monotonic() + QUIET_SECONDS
        if place.keeper is None or place.keeper.done():
            place.keeper = self._tasks.start(f"spare of {environment.key}", self._keep(place, environment, threads))

    async def _keep(self, place: _Place, environment: Environment, threads: int) -> None:
        """Have a spare, and another for each launch that finds it of no use any more, until one is taken.

        Never cancelled: nothing is left over.
        """
        served = -math.inf
        while served < place.due and await self._is_quiet(place):
            served = place.due
            try:
                spare = await self._make(environment, threads)
            except (LaunchFailed, ZygoteGone, OSError) as fault:
                log.info("no process is forked ahead of its instance: %s", fault)
                continue
            if spare is None or await self._is_taken(place, spare):
                return

    async def _is_taken(self, place: _Place, spare: Spare) -> bool:
        """Watch a spare: True when it is taken, False when it was of no use any more, and has been ended."""
        place.spare = spare
        ends = [spare.taken, spare.embryo.dead, spare.embryo.zygote_gone, self._closing]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if spare.taken.done():
            return True
        place.spare = None
        await spare.end()
        return False

    async def _is_quiet(self, place: _Place) -> bool:
        """Wait until no launch was for a moment; False when nothing is to be made any more."""
        while self._clock.monotonic() < place.due:
            resting = self._tasks.start("wait for quiet", self._clock.sleep_until(place.due))
            await asyncio.wait([resting, self._closing], return_when=asyncio.FIRST_COMPLETED)
            if self._closing.done():
                resting.cancel()
                return False
        return True

    async def _make(self, environment: Environment, threads: int) -> Spare | None:
        embryo = await self._fork(environment, threads)
        if embryo is None:
            return None
        try:
            group = await asyncio.to_thread(self._cgroups.make, f"spare-{next(self._numbers)}")
        except OSError:
            await embryo.end()
            raise
        spare = Spare(embryo, group)
        try:
            await asyncio.to_thread(group.join, embryo.pid)
        except OSError:
            await spare.end()
            raise
        return spare

    async def close(self) -> None:
        """End all spares."""
        self._closing.set_result(None)
        await self._tasks.wait(_ENDING_SECONDS)
        await self._tasks.close()

    def __repr__(self) -> str:
        return f"<Spares: {sum(place.spare is not None for place in self._places.values())}>"
