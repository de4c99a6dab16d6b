"""Model data before it is fetched: which objects it is, what names their content, and how it becomes a folder."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from moorage.base.clock import Clock
from moorage.base.settings import Limits
from moorage.engine.archive import ArchiveLimits, extract
from moorage.engine.contract import ModelSource
from moorage.engine.interrupts import Interrupt
from moorage.engine.sources import manifest
from moorage.engine.sources.conveyor import feed
from moorage.engine.sources.faults import SourceRefused, shown
from moorage.engine.sources.names import file_of, paths_of
from moorage.engine.sources.opened import Opened, Store, open_place, read_all, whole
from moorage.engine.sources.tree import close_folders, make_folders, write_file, write_tree
from moorage.objects.places import Place, S3Place, parse_place
from moorage.objects.store import ObjectInfo
from moorage.objects.web import Web

Progress = Callable[[str], None]

_TELL_EACH_BYTES = 64 * 2**20


class Found(Protocol):
    """Model data that is there."""

    @property
    def name(self) -> str:
        """What names the folder that it becomes: other content, or content in another form, has another name."""

    async def build(self, folder: Path, progress: Progress) -> None:
        """Make the folder, with all in it, read-only for everybody."""


class Sources:
    """Finds model data."""

    def __init__(self, store: Store, web: Web, limits: Limits, clock: Clock) -> None:
        self._store = store
        self._web = web
        self._limits = limits
        self._clock = clock

    @asynccontextmanager
    async def find(self, source: ModelSource, account: str | None = None) -> AsyncIterator[Found]:
        """Look for what a source names, and have it open for as long as it is used.

        Of buckets it may be in those of the account only; None: in any. Raises SourceRefused, UnusableUri, and what
        stores and web servers raise.
        """
        for uri in (source.uri, source.manifest):
            if uri is not None and account is not None:
                await self._check_owner(parse_place(uri), account)
        if source.data_type == "S3Prefix":
            yield await self._list(source)
            return
        opened = await open_place(self._store, self._web, parse_place(source.uri), self._clock)
        try:
            _check_etag(source.uri, source.etag, opened)
            if source.compression == "Gzip":
                yield _Archive(opened, self._limits, self._clock)
            else:
                yield _Single(opened, file_of(parse_place(source.uri).key), self._limits, self._clock)
        finally:
            await opened.close()

    async def _check_owner(self, place: Place, account: str) -> None:
        if isinstance(place, S3Place) and (await self._store.bucket(place.bucket)).account != account:
            raise SourceRefused(f"The bucket {shown(place.bucket)} is another account's.")

    async def _list(self, source: ModelSource) -> "_Tree":
        place = parse_place(source.uri)
        if not isinstance(place, S3Place):
            raise SourceRefused("Only a bucket has objects below a prefix: S3Prefix needs an S3Uri of S3.")
        keys = None if source.manifest is None else await self._read_manifest(source, place)
        listed = [info async for info in self._below(place) if keys is None or info.key in keys]
        missing = set(keys or ()) - {info.key for info in listed}
        for key in sorted(missing):
            raise SourceRefused(f"The manifest lists {shown(key)}, which is not in the bucket {place.bucket}.")
        if not listed:
            raise SourceRefused(f"There are no objects below {place.uri}.")
        if sum(info.size for info in listed) > self._limits.artifact_bytes:
            raise SourceRefused(f"The model data is larger than {self._limits.artifact_bytes} bytes.")
        paths = paths_of((info.key for info in listed), place.key)
        return _Tree(self._store, place.key, listed, paths, self._clock)

    async def _below(self, place: S3Place) -> AsyncIterator[ObjectInfo]:
        after: str | None = ""
        count = 0
        while after is not None:
            page = await self._store.list(place.bucket, prefix=place.key, after=after)
            for info in page.objects:
                yield info
            count += len(page.objects)
            if count > self._limits.artifact_files:
                raise SourceRefused(f"The model data has more than {self._limits.artifact_files} files.")
            after = page.next_after

    async def _read_manifest(self, source: ModelSource, prefix: S3Place) -> dict[str, None]:
        uri = source.manifest or ""
        opened = await open_place(self._store, self._web, parse_place(uri), self._clock)
        try:
            _check_etag(uri, source.manifest_etag, opened)
            content = await read_all(opened, self._clock, manifest.MOST_BYTES)
        finally:
            await opened.close()
        return dict.fromkeys(await asyncio.to_thread(manifest.keys_of, content, prefix))


@dataclass(frozen=True, slots=True)
class _Archive:
    """A ``.tar.gz``, which is extracted while it comes."""

    opened: Opened
    limits: Limits
    clock: Clock

    @property
    def name(self) -> str:
        return name_of(*self.opened.name)

    async def build(self, folder: Path, progress: Progress) -> None:
        says = _Teller(progress, "downloading and extracting the model data", self.opened.size)

        async def arriving() -> AsyncIterator[bytes]:
            async for piece in whole(self.opened, self.clock):
                says.add(len(piece))
                yield piece

        def work(pieces: Iterator[bytes], interrupt: Interrupt) -> None:
            folder.mkdir(mode=0o755)
            limits = ArchiveLimits(self.limits.artifact_bytes, self.limits.artifact_files)
            extract(pieces, folder, limits, interrupt, lambda _bytes: None)

        says.begin()
        await feed(arriving(), work)


@dataclass(frozen=True, slots=True)
class _Single:
    """One object as it is."""

    opened: Opened
    file: str
    limits: Limits
    clock: Clock

    @property
    def name(self) -> str:
        return name_of("file", self.file, *self.opened.name)

    async def build(self, folder: Path, progress: Progress) -> None:
        says = _Teller(progress, "downloading the model data", self.opened.size)
        says.begin()
        await asyncio.to_thread(folder.mkdir, mode=0o755)
        try:
            most = self.limits.artifact_bytes
            await write_file(self.opened, folder / self.file, self.clock, says.hear(), most)
        except OverflowError as fault:
            raise SourceRefused(f"The model data is larger than {self.limits.artifact_bytes} bytes.") from fault
        await asyncio.to_thread(close_folders, folder)


@dataclass(frozen=True, slots=True)
class _Tree:
    """All objects below a prefix, or those that count, as they are."""

    store: Store
    prefix: str
    listed: Sequence[ObjectInfo]
    paths: dict[str, str]
    """Of the files, by key."""
    clock: Clock

    @property
    def name(self) -> str:
        content = [text for info in self.listed for text in (info.key, info.etag)]
        return name_of("tree", self.listed[0].bucket, self.prefix, *content)

    async def build(self, folder: Path, progress: Progress) -> None:
        says = _Teller(progress, "downloading the model data", sum(info.size for info in self.listed))
        says.begin()
        await asyncio.to_thread(make_folders, folder, list(self.paths.values()))
        wanted = [(info, folder / self.paths[info.key]) for info in self.listed]
        await write_tree(self.store, wanted, self.clock, says.hear())
        await asyncio.to_thread(close_folders, folder)


class _Teller:
    """Tells people how far a download is."""

    def __init__(self, progress: Progress, what: str, size: int | None) -> None:
        self._progress = progress
        self._what = what
        self._of = "" if size is None else f" of {_megabytes(size)}"
        self._done = self._told = 0

    def begin(self) -> None:
        """Say that it begins."""
        self._progress(f"{self._what}{self._of.replace(' of', ',')}")

    def hear(self) -> Callable[[int], None]:
        """Give what any thread may tell of bytes that are done."""
        loop = asyncio.get_running_loop()

        def tell(count: int) -> None:
            loop.call_soon_threadsafe(self.add, count)

        return tell

    def add(self, count: int) -> None:
        """Hear of bytes that are done."""
        self._done += count
        if self._done - self._told >= _TELL_EACH_BYTES:
            self._told = self._done
            self._progress(f"{self._what}, {_megabytes(self._done)}{self._of}")


def name_of(*parts: str) -> str:
    """Give a folder's name that stands for some texts and no others."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _check_etag(uri: str, wanted: str | None, opened: Opened) -> None:
    if wanted is None:
        return
    etag = wanted.removeprefix("W/").strip('"')
    if etag != opened.etag:
        has = f"the ETag {opened.etag}" if opened.etag else "no ETag"
        raise SourceRefused(f"The object at {uri} has {has}, and the model wants the one with the ETag {etag}.")


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
