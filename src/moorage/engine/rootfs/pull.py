"""Gets images into the store, so that containers can be made of them."""

import asyncio
import os
import platform
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from moorage.base.clock import Clock
from moorage.base.settings import Limits
from moorage.engine.built_folder import build_once
from moorage.engine.interrupts import Interrupt, in_thread
from moorage.engine.launch import ImageFailure, Progress
from moorage.engine.references import Reference, UnusableReference, mirrored, parse_reference
from moorage.engine.registry.client import CannotReach, Document, NotThere, RegistryClient, RegistryFault
from moorage.engine.registry.manifests import Config, UnusableImage, architecture_of, read_config
from moorage.engine.rootfs.accounts import find_account
from moorage.engine.rootfs.layers import LayerLimits, unpack
from moorage.engine.rootfs.sources import FromArchive, FromRegistry, Packed, Parts, Source
from moorage.engine.rootfs.store import ImageStore, KnownImage, size_of

_TELL_EACH_BYTES = 8 * 2**20
_AT_ONCE = 3
"""Layers that are fetched at the same time, as container engines do."""


class Images:
    """The images of this machine, and how others become some."""

    def __init__(
        self, store: ImageStore, client: RegistryClient, limits: Limits, clock: Clock, mirrors: Mapping[str, str]
    ) -> None:
        self._store = store
        self._client = client
        self._limits = limits
        self._clock = clock
        self._mirrors = mirrors
        self._architecture = architecture_of(platform.machine())

    def has(self, image: str) -> bool:
        """Say whether an image is here, without asking a registry. Blocks."""
        try:
            reference = parse_reference(image)
        except UnusableReference:
            return False
        named = None if reference.digest else self._store.find_name(reference)
        digest = reference.digest or (named.digest if named else "")
        return bool(digest) and self._store.find(digest) is not None

    async def ensure(self, image: str, progress: Progress) -> tuple[Reference, KnownImage]:
        """Have an image here: what its registry has under its name now, or what was added as an archive.

        When the registry does not answer, what its name stood for last is taken. Raises ImageFailure.
        """
        reference = self._parse(image)
        named = None if reference.digest else await asyncio.to_thread(self._store.find_name, reference)
        digest = reference.digest or (named.digest if named else "")
        known = await asyncio.to_thread(self._store.find, digest) if digest else None
        if known is not None and (reference.digest or (named and named.pinned)):
            return reference, known
        try:
            return reference, await self._pull(reference, progress)
        except CannotReach as fault:
            if known is None:
                raise ImageFailure(f"The image {image} cannot be had: {fault}") from fault
            progress(f"{fault} What was pulled before is taken.")
            return reference, known
        except NotThere as fault:
            raise ImageFailure(f"Requested image {image} not found. {fault}") from fault
        except (RegistryFault, UnusableImage, OSError) as fault:
            raise ImageFailure(_sentence(image, fault)) from fault

    async def add_archive(self, name: str, path: Path, progress: Progress) -> KnownImage:
        """Have an image of an archive here, under a name that no registry is asked for. Raises ImageFailure."""
        reference = self._parse(name)
        if reference.digest:
            raise ImageFailure(f"{name} has a digest; a name for an archive is repository:tag.")
        try:
            return await self._add(FromArchive(path, name), reference, progress, pinned=True)
        except (UnusableImage, OSError) as fault:
            raise ImageFailure(_sentence(name, fault)) from fault

    @staticmethod
    def _parse(image: str) -> Reference:
        try:
            return parse_reference(image)
        except UnusableReference as fault:
            raise ImageFailure(str(fault)) from fault

    async def _pull(self, reference: Reference, progress: Progress) -> KnownImage:
        place = mirrored(reference, self._mirrors)
        progress(f"asking {place.registry} for {reference.path}")
        top: Document = await in_thread(partial(self._client.manifest, place, place.version))
        known = await asyncio.to_thread(self._store.find, top.digest)
        if known is None:
            return await self._add(FromRegistry(self._client, place, top), reference, progress, pinned=False)
        await asyncio.to_thread(self._note, known, reference, pinned=False)
        return known

    async def _add(self, source: Source, reference: Reference, progress: Progress, *, pinned: bool) -> KnownImage:
        held = await asyncio.to_thread(self._store.hold_all)
        try:
            parts = await in_thread(partial(source.parts, self._architecture))
            config = read_config(parts.config, self._architecture)
            self._check(parts, config)
            await self._have_layers(source, parts, config, reference, progress)
            known = await asyncio.to_thread(self._describe, parts, config)
            await asyncio.to_thread(self._note, known, reference, pinned=pinned)
        finally:
            os.close(held)
        return known

    def _check(self, parts: Parts, config: Config) -> None:
        if len(config.diff_ids) != len(parts.layers) or not parts.layers:
            raise UnusableImage("has another number of layers than its configuration says")
        size = sum(layer.size for layer in parts.layers)
        if size > self._limits.artifact_bytes:
            raise UnusableImage(f"has {size} bytes, more than MOORAGE_ARTIFACT_BYTES={self._limits.artifact_bytes}")

    async def _have_layers(
        self, source: Source, parts: Parts, config: Config, reference: Reference, progress: Progress
    ) -> None:
        told = _Told(reference, sum(layer.size for layer in parts.layers), self._limits.artifact_bytes, progress)
        turns = asyncio.Semaphore(_AT_ONCE)
        layers = dict(zip(config.diff_ids, parts.layers, strict=True))
        try:
            async with asyncio.TaskGroup() as group:
                for diff_id, layer in layers.items():
                    group.create_task(self._have_layer(source, layer, diff_id, told, turns))
        except BaseExceptionGroup as faults:
            raise _first(faults) from faults

    async def _have_layer(
        self, source: Source, layer: Packed, diff_id: str, told: "_Told", turns: asyncio.Semaphore
    ) -> None:
        loop = asyncio.get_running_loop()

        def fetched(count: int) -> None:
            loop.call_soon_threadsafe(told.fetched, count)

        limits = LayerLimits(self._limits.artifact_bytes, self._limits.artifact_files)

        def work(unfinished: Path, interrupt: Interrupt) -> None:
            folder = unfinished / "fs"
            folder.mkdir(mode=0o755)
            with source.open(layer, unfinished / "packed", interrupt, fetched) as packed:
                unpack(packed, folder, diff_id, limits, interrupt, told.unpacked)

        async def build(unfinished: Path) -> None:
            await in_thread(partial(work, unfinished))

        async with turns:
            await build_once(self._store.layer(diff_id), build, clock=self._clock, waits=told.waits)

    def _describe(self, parts: Parts, config: Config) -> KnownImage:
        folders = [self._store.layer(diff_id) / "fs" for diff_id in reversed(config.diff_ids)]
        account = find_account(config.user, folders)
        return KnownImage(
            digest=parts.digest,
            layers=config.diff_ids,
            entrypoint=config.entrypoint,
            environment=dict(config.environment),
            folder=config.folder,
            uid=account.uid,
            gid=account.gid,
            groups=account.groups,
            home=account.home,
            unpacked_bytes=sum(size_of(folder) for folder in set(folders)),
            labels=dict(config.labels),
        )

    def _note(self, known: KnownImage, reference: Reference, *, pinned: bool) -> None:
        self._store.put(known, None if reference.digest else reference, now=self._clock.now(), pinned=pinned)


class _Told:
    """Counts what is fetched and unpacked of an image, and tells it from time to time."""

    def __init__(self, reference: Reference, size: int, most_unpacked: int, progress: Progress) -> None:
        self._name = reference.written
        self._size = size
        self._most_unpacked = most_unpacked
        self._progress = progress
        self._fetched = 0
        self._told = 0
        self._unpacked = 0
        progress(f"pulling {self._name}, {_megabytes(size)}")

    def fetched(self, count: int) -> None:
        """Hear of fetched bytes; called in the loop."""
        self._fetched += count
        if self._fetched - self._told >= _TELL_EACH_BYTES:
            self._told = self._fetched
            self._progress(f"pulling {self._name}, {_megabytes(self._fetched)} of {_megabytes(self._size)}")

    def unpacked(self, count: int) -> None:
        """Hear of unpacked bytes; called in threads. Raises UnusableImage when they are too many."""
        self._unpacked += count
        if self._unpacked > self._most_unpacked:
            raise UnusableImage(f"is larger than MOORAGE_ARTIFACT_BYTES={self._most_unpacked} when unpacked")

    def waits(self) -> None:
        """Hear that another is at work on a layer."""
        self._progress(f"waiting for {self._name}, which is being pulled by another")


def _first(faults: BaseExceptionGroup[BaseException]) -> Exception:
    fault: BaseException = faults
    while isinstance(fault, BaseExceptionGroup):
        fault = fault.exceptions[0]
    return fault if isinstance(fault, Exception) else OSError(str(fault))


def _sentence(image: str, fault: Exception) -> str:
    if isinstance(fault, UnusableImage):
        return f"The image {image} {fault}."
    if isinstance(fault, OSError):
        return f"The image {image} could not be stored: {fault.strerror or fault}."
    return f"The image {image} cannot be had: {fault}"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
