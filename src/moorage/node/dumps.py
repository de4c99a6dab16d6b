"""Core files of models that crash, brought to where the configuration wants them (CoreDumpConfig).

Bounded, because a model may crash as often as it likes: so many of one instance, and so many of one variant in an hour.
What is above that is removed, and said.
"""

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Protocol

from moorage.aws.errors import ServiceError
from moorage.base.clock import Clock
from moorage.base.settings import Limits
from moorage.engine import cores
from moorage.engine.contract import CoreDumps, InstanceSpec
from moorage.engine.cores import Core
from moorage.engine.volumes import Volume
from moorage.kms.faults import KeyUnusable
from moorage.objects.faults import UnusableUri
from moorage.objects.store import Description, Encryption, parse_s3_uri

log = logging.getLogger(__name__)

Say = Callable[[str], None]
"""Writes a line into an instance's log; blocks."""

_HOUR_SECONDS = 3600.0
_PIECE_BYTES = 2**20
_CORE_FILE = Description(content_type="application/x-coredump")


class Puts(Protocol):
    """What is needed of an object store."""

    async def put(
        self,
        bucket: str,
        key: str,
        body: AsyncIterator[bytes],
        description: Description,
        *,
        encryption: Encryption | None,
    ) -> Any:
        """Keep an object; raises ServiceError, KeyUnusable."""


class Dumps:
    """The core dumps of this machine's instances."""

    def __init__(self, store: Puts, clock: Clock, limits: Limits) -> None:
        self._store = store
        self._clock = clock
        self._limits = limits
        self._of_instances: defaultdict[str, int] = defaultdict(int)
        self._of_variants: defaultdict[tuple[str, ...], deque[float]] = defaultdict(deque)

    async def gather(self, spec: InstanceSpec, volume: Volume, say: Say, *, ended: bool) -> None:
        """Put the core files that an instance has left into their bucket; what cannot be put is said and removed.

        While it lives only its working folders are looked into, once it has ``ended`` all that it could write to.
        """
        if spec.core_dumps is None:
            return
        await asyncio.to_thread(_take_all, volume, ended=ended)
        for core in await asyncio.to_thread(cores.taken, volume.cores):
            told = await self._put(spec, spec.core_dumps, core)
            log.info("%s: %s", spec.instance_id, told)
            await asyncio.to_thread(say, told)
            await asyncio.to_thread(core.path.unlink)

    def forget(self, spec: InstanceSpec) -> None:
        """Drop what is counted of an instance that will have no more."""
        self._of_instances.pop(spec.instance_id, None)

    async def _put(self, spec: InstanceSpec, config: CoreDumps, core: Core) -> str:
        """Put one, if it is not too many; gives what there is to say of it."""
        if too_many := self._too_many(spec):
            return f"{core} was dropped: {too_many}"
        place = f"{config.destination.rstrip('/')}/{spec.endpoint}/{spec.variant}/{spec.instance_id}/{core.path.name}"
        try:
            bucket, key = parse_s3_uri(place)
            encryption = Encryption(config.kms_key) if config.kms_key else None
            await self._store.put(bucket, key, _pieces(core.path), _CORE_FILE, encryption=encryption)
        except (ServiceError, UnusableUri, KeyUnusable, OSError) as fault:
            return f"{core} could not be put at {place}: {getattr(fault, 'message', fault)}"
        self._of_instances[spec.instance_id] += 1
        self._of_variants[_variant(spec)].append(self._clock.now())
        return f"{core}: {place}"

    def _too_many(self, spec: InstanceSpec) -> str:
        """Say which bound is reached; empty when none is."""
        sent = self._of_variants[_variant(spec)]
        while sent and sent[0] <= self._clock.now() - _HOUR_SECONDS:
            sent.popleft()
        most = self._limits.core_dumps_per_instance
        if self._of_instances[spec.instance_id] >= most:
            return f"this instance has left {most} (MOORAGE_CORE_DUMPS_PER_INSTANCE)"
        most = self._limits.core_dumps_per_hour
        if len(sent) >= most:
            return f"this variant has left {most} within an hour (MOORAGE_CORE_DUMPS_PER_HOUR)"
        return ""


def _variant(spec: InstanceSpec) -> tuple[str, ...]:
    return spec.account, spec.region, spec.endpoint, spec.variant


def _take_all(volume: Volume, *, ended: bool) -> None:
    names = cores.file_names()
    for folder in volume.writable(still=not ended):
        cores.take(folder, volume.cores, names, below=ended)


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(path.open, "rb")
    try:
        while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
            yield piece
    finally:
        await asyncio.to_thread(file.close)
