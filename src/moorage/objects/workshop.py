"""Where a folder store's blocking work is done: threads, the index and the blobs, in the order that keeps promises."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from sqlite3 import Connection
from typing import TypeVar

from moorage.objects.blobs import BlobFolder, BlobLink, BlobWriter
from moorage.objects.database import Database
from moorage.objects.rows import named_blobs
from moorage.objects.store import FileSpan

T = TypeVar("T")

PIECE_BYTES = 2**20
"""How much of a body is in memory at once, about: what is gathered before a thread takes it, or read by one."""

_INDEX_THREADS = 2
_FILE_THREADS = 6

log = logging.getLogger(__name__)


class Workshop:
    """Index and blobs of one folder, made when they are first needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._prepared = False
        self.blobs = BlobFolder(folder)
        self._database = Database(folder / "index.db")
        self._index_threads = ThreadPoolExecutor(_INDEX_THREADS, "objects-index")
        self._file_threads = ThreadPoolExecutor(_FILE_THREADS, "objects-files")

    async def read(self, statement: Callable[[Connection], T]) -> T:
        """Ask the index."""

        def ask() -> T:
            self._prepare()
            with self._database.reading() as connection:
                return statement(connection)

        return await _in_thread(self._index_threads, ask)

    async def write(self, change: Callable[[Connection], Sequence[str]]) -> None:
        """Change the index, then remove the blobs that the change gave up."""

        def act() -> None:
            self._prepare()
            self._commit(change)

        await _in_thread(self._index_threads, act)

    async def receive(
        self, body: AsyncIterator[bytes] | FileSpan, digests: Collection[str], data_key: bytes | None = None
    ) -> BlobWriter:
        """Write a body into a new blob, which the caller must close."""
        blob = await self.begin(digests, data_key)
        try:
            if isinstance(body, FileSpan):
                await self.work(partial(blob.write_span, body))
            else:
                await self._write_all(blob, body)
        except BaseException:
            await self.work(blob.close)
            raise
        return blob

    async def _write_all(self, blob: BlobWriter, body: AsyncIterator[bytes]) -> None:
        pending: list[bytes] = []
        gathered = 0
        async for piece in body:
            pending.append(piece)
            gathered += len(piece)
            if gathered >= PIECE_BYTES:
                await self.work(partial(blob.write, pending))
                pending, gathered = [], 0
        await self.work(partial(blob.write, pending))

    async def begin(self, digests: Collection[str], data_key: bytes | None = None) -> BlobWriter:
        """Begin a blob, which the caller must close; with a data key it is encrypted."""
        return await self.work(lambda: self.blobs.write(digests, data_key), BlobWriter.close)

    async def keep(self, blob: BlobWriter | BlobLink, change: Callable[[Connection], Sequence[str]]) -> None:
        """Bring a blob to the disk and commit the row that names it, in this order."""

        def act() -> None:
            if isinstance(blob, BlobWriter):
                blob.finish()
            self._commit(change, blob)

        await self.work(act)

    async def work(self, act: Callable[[], T], undo: Callable[[T], None] | None = None) -> T:
        """Do something with files; ``undo`` lets go of what was made for a caller who was cancelled meanwhile."""

        def prepared() -> T:
            self._prepare()
            return act()

        return await _in_thread(self._file_threads, prepared, undo)

    async def sweep(self) -> int:
        """Remove what crashes have left; tells how many files."""

        def named(blobs: Collection[str]) -> Collection[str]:
            return named_blobs(self._database.connection(), blobs)

        return await self.work(lambda: self.blobs.sweep(named))

    def close(self) -> None:
        """Wait for what is being done and let go of everything."""
        self._index_threads.shutdown()
        self._file_threads.shutdown()
        self._database.close()

    def _commit(self, change: Callable[[Connection], Sequence[str]], blob: BlobWriter | BlobLink | None = None) -> None:
        with self._database.transaction() as connection:
            given_up = change(connection)
        if blob is not None:
            blob.kept = True
        try:
            self.blobs.remove(given_up)
        except OSError as fault:
            # The change stands. The next sweep removes them.
            log.warning("blobs that are no longer needed could not be removed: %s", fault)

    def _prepare(self) -> None:
        if not self._prepared:
            self.blobs.prepare()
            self._prepared = True


async def _in_thread(threads: ThreadPoolExecutor, act: Callable[[], T], undo: Callable[[T], None] | None = None) -> T:
    future = asyncio.get_running_loop().run_in_executor(threads, act)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        # A thread cannot be cancelled: wait, so that nobody cleans up under it.
        await asyncio.wait([future])
        if not future.cancelled() and future.exception() is None and undo is not None:
            undo(future.result())
        raise
