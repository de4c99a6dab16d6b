"""An object that model data comes from, in a bucket or at a web server: one version of it, which is read to its end."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from moorage.base.clock import Clock
from moorage.engine.sources.faults import SourceRefused
from moorage.objects.places import Place, S3Place, WebPlace
from moorage.objects.store import Bucket, ObjectReader, Page
from moorage.objects.web import Web, WebChanged, WebReader

PAUSES = (0.2, 1.0, 3.0, 10.0)
"""Before each further try at the same byte, in seconds."""

_BREAKS = (ConnectionError, TimeoutError)


class Store(Protocol):
    """What is needed of an object store."""

    async def open(self, bucket: str, key: str) -> ObjectReader:
        """Open an object for reading; raises NoSuchBucket, NoSuchKey."""

    async def bucket(self, name: str) -> Bucket:
        """Give a bucket; raises NoSuchBucket."""

    async def list(
        self, bucket: str, *, prefix: str = "", delimiter: str = "", after: str = "", limit: int = 1000
    ) -> Page:
        """List what comes after a key; raises NoSuchBucket."""


class Opened(Protocol):
    """An object that was opened."""

    @property
    def name(self) -> Sequence[str]:
        """What names this version of it: the same for the same bytes."""

    @property
    def etag(self) -> str:
        """Without quotes; empty: it has none."""

    @property
    def size(self) -> int | None:
        """In bytes; None: not known."""

    def chunks(self, start: int = 0) -> AsyncIterator[bytes]:
        """Give its bytes from ``start`` on; a connection that breaks off raises ConnectionError or TimeoutError."""

    async def close(self) -> None:
        """Let it go."""


class StoredObject:
    """One in a bucket."""

    def __init__(self, reader: ObjectReader) -> None:
        self._reader = reader
        self.etag = reader.info.etag
        self.size: int | None = reader.info.size
        self.name: Sequence[str] = (reader.info.bucket, reader.info.key, reader.info.etag)

    def chunks(self, start: int = 0) -> AsyncIterator[bytes]:
        """Give its bytes from ``start`` on."""
        return self._reader.chunks(start)

    async def close(self) -> None:
        """Let it go."""
        await self._reader.close()


class WebObject:
    """One at a web server."""

    def __init__(self, url: str, reader: WebReader) -> None:
        self._reader = reader
        self.etag = reader.etag
        self.size = reader.size
        self.name: Sequence[str] = (url, reader.version or secrets.token_hex(16))
        """Of what its server gives no name to, a name that nothing else has: it is never taken for what was there."""

    def chunks(self, start: int = 0) -> AsyncIterator[bytes]:
        """Give its bytes from ``start`` on."""
        return self._reader.chunks(start)

    async def close(self) -> None:
        """Let it go."""
        await self._reader.close()


async def open_place(store: Store, web: Web, place: Place, clock: Clock) -> Opened:
    """Open what is at a place; raises NoSuchBucket, NoSuchKey, WebRefused, ConnectionError."""
    if isinstance(place, S3Place):
        return StoredObject(await store.open(place.bucket, place.key))
    return await _open_web(web, place, clock)


async def _open_web(web: Web, place: WebPlace, clock: Clock) -> WebObject:
    for pause in PAUSES:
        try:
            return WebObject(place.uri, await web.open(place.uri))
        except _BREAKS:
            await clock.sleep_until(clock.monotonic() + pause)
    return WebObject(place.uri, await web.open(place.uri))


async def whole(opened: Opened, clock: Clock) -> AsyncIterator[bytes]:
    """Give all bytes of an object, going on where a connection breaks off; raises SourceRefused, ConnectionError."""
    done, tries = 0, 0
    while True:
        try:
            async for piece in opened.chunks(done):
                done += len(piece)
                tries = 0
                yield piece
            break
        except _BREAKS:
            if tries == len(PAUSES):
                raise
        except WebChanged as fault:
            raise SourceRefused("The model data was replaced by another while it was downloaded.") from fault
        await clock.sleep_until(clock.monotonic() + PAUSES[tries])
        tries += 1
    if opened.size is not None and done != opened.size:
        raise SourceRefused(f"The model data ended after {done} of {opened.size} bytes.")


async def read_all(opened: Opened, clock: Clock, most_bytes: int) -> bytes:
    """Read a small object; raises SourceRefused for one that is not small."""
    pieces: list[bytes] = []
    count = 0
    async for piece in whole(opened, clock):
        pieces.append(piece)
        count += len(piece)
        if count > most_bytes:
            raise SourceRefused(f"The manifest has more than {most_bytes} bytes.")
    return await asyncio.to_thread(b"".join, pieces)
