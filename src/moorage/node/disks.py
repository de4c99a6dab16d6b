"""The disk of each instance: which it gets, for how long, and what happens to the core files on it.

Without VolumeSizeInGB, KmsKeyId and CoreDumpConfig an instance has none: what it may write lies in its memory. An
encrypted one, and one for core files, are as large as VolumeSizeInGB says or have a default size that is only a bound.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import replace

from moorage.base.clock import Clock
from moorage.base.settings import Limits
from moorage.base.tasks import Tasks
from moorage.engine.contract import Failure, InstanceSpec
from moorage.engine.volumes import GIB, Volume, VolumeLocked, VolumeRefused, Volumes, Wanted
from moorage.node.dumps import Dumps, Say
from moorage.node.preparation import CannotPrepare

log = logging.getLogger(__name__)

SMALLEST_DEFAULT_BYTES = 30 * GIB
"""Of a volume whose size the configuration does not say. It takes room only as it is filled."""

_LOOK_SECONDS = 2.0
"""Between two looks for core files of an instance that lives on."""


class Disks:
    """The disks of this machine's instances."""

    def __init__(self, volumes: Volumes, dumps: Dumps, clock: Clock, limits: Limits, *, bounded: bool) -> None:
        """``bounded``: this machine can bound them. What is promised of them is refused before, where it cannot."""
        self._volumes = volumes
        self._dumps = dumps
        self._clock = clock
        self._limits = limits
        self._bounded = bounded
        self._tasks = Tasks()
        self._making: dict[str, asyncio.Task[Volume | CannotPrepare]] = {}
        """Not to be left alone when whoever waits for it gives up: a thread does not."""

    async def make(self, spec: InstanceSpec, memory_bytes: int) -> Volume | None:
        """Give an instance the disk that it is to have; raises CannotPrepare."""
        if spec.volume_gib is None and spec.kms_key is None and spec.core_dumps is None:
            return None
        making = self._tasks.start("make a volume", self._make(spec, self._want(spec, memory_bytes)))
        self._making[spec.instance_id] = making
        made = await asyncio.shield(making)
        if isinstance(made, CannotPrepare):
            raise made
        return made

    async def _make(self, spec: InstanceSpec, wanted: Wanted) -> Volume | CannotPrepare:
        try:
            return await asyncio.to_thread(self._volumes.make, spec.instance_id, wanted)
        except VolumeLocked as fault:
            return CannotPrepare(Failure.START, str(fault))
        except VolumeRefused as fault:
            return CannotPrepare(Failure.UNSUPPORTED, str(fault))
        except OSError as fault:
            size = f" of {spec.volume_gib} GiB" if spec.volume_gib is not None else ""
            message = f"The volume{size} of the instance could not be made on this machine: {fault.strerror or fault}."
            return CannotPrepare(Failure.CAPACITY, message)

    def _want(self, spec: InstanceSpec, memory_bytes: int) -> Wanted:
        size: int | None = max(SMALLEST_DEFAULT_BYTES, 2 * memory_bytes)
        if spec.volume_gib is not None:
            size = spec.volume_gib * GIB
        elif spec.kms_key is None and not self._bounded:
            size = None  # just a folder for core files
        return Wanted(size, spec.kms_key, json.dumps(replace(spec, containers=()).to_message()).encode())

    def core_bytes(self, spec: InstanceSpec, memory_bytes: int) -> int:
        """Give the size of the largest core file that an instance may leave."""
        if spec.core_dumps is None:
            return 0
        disk = spec.volume_gib * GIB if spec.volume_gib is not None else memory_bytes
        return min(self._limits.core_dump_bytes, memory_bytes, disk)

    async def watch(self, spec: InstanceSpec, say: Say) -> None:
        """Put the core files of an instance's other processes into their bucket while it lives on, for ever."""
        while True:
            await self._clock.sleep_until(self._clock.monotonic() + _LOOK_SECONDS)
            await self._gather(spec.instance_id, spec, say, ended=False)

    async def leave(self, spec: InstanceSpec, say: Say) -> None:
        """Take back the disk of an instance that has ended, once the core files are off it."""
        if making := self._making.pop(spec.instance_id, None):
            await asyncio.wait([making])
        if await asyncio.to_thread(self._volumes.has, spec.instance_id):
            await self._leave(spec.instance_id, spec, say)

    async def _leave(self, name: str, spec: InstanceSpec, say: Say) -> None:
        await self._gather(name, spec, say, ended=True)
        self._dumps.forget(spec)
        await self._remove(name)

    async def _remove(self, name: str) -> None:
        try:
            await asyncio.to_thread(self._volumes.remove, name)
        except OSError as fault:
            log.error("the volume of %s could not be removed: %s", name, fault)

    async def _gather(self, name: str, spec: InstanceSpec, say: Say, *, ended: bool) -> None:
        try:
            if spec.core_dumps is not None:
                volume = await asyncio.to_thread(self._volumes.open, name)
                await self._dumps.gather(spec, volume, say, ended=ended)
        except (OSError, VolumeRefused) as fault:
            log.error("the core dumps of %s could not be put away: %s", name, fault)

    async def leave_leftovers(self, names: list[str], say: Callable[[InstanceSpec], Say]) -> None:
        """Take back the disks that a killed node agent has left."""
        for name in names:
            note = await asyncio.to_thread(self._volumes.note, name)
            if note:
                spec = InstanceSpec.from_message(json.loads(note))
                await self._leave(name, spec, say(spec))
            else:  # the agent was killed while it made or removed it
                await self._remove(name)
            log.info("the volume %s of an earlier run was removed", name)
