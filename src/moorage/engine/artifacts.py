"""Model artefacts on this machine: fetched from the object store once, extracted once, shared by all instances."""

import asyncio
import contextlib
import errno
import hashlib
import os
import threading
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Protocol

from moorage.aws.errors import ServiceError
from moorage.base.clock import Clock
from moorage.base.settings import Limits
from moorage.engine.archive import ArchiveLimits, ArchiveRefused, extract
from moorage.engine.built_folder import build_once, lay_over, remove_tree, set_aside
from moorage.kms.faults import KeyUnusable
from moorage.objects.faults import NoSuchBucket, NoSuchKey, UnusableUri
from moorage.objects.store import ObjectReader, parse_s3_uri

Progress = Callable[[str], None]

_TELL_EACH_BYTES = 64 * 2**20


class Opens(Protocol):
    """What is needed of an object store."""

    async def open(self, bucket: str, key: str) -> ObjectReader:
        """Open an object for reading; raises NoSuchBucket, NoSuchKey."""


class ArtifactFailure(Exception):
    """The model data cannot be had; the text is one sentence for people."""


def _never() -> bool:
    return False


class Artifacts:
    """The extracted artefacts in a folder, which several processes may use at once.

    Only one of them may ``sweep``: it knows of its own holders, the instances that it runs, and of no others.
    """

    def __init__(self, store: Opens, folder: Path, limits: Limits, clock: Clock) -> None:
        self._store = store
        self._folder = folder
        self._limits = limits
        self._clock = clock
        self._held: defaultdict[str, set[Path]] = defaultdict(set)
        """Folders by who needs them."""

    def at(self, folder: Path) -> "Artifacts":
        """Give the same store's artefacts in another folder, for one instance alone."""
        return Artifacts(self._store, folder, self._limits, self._clock)

    async def fetch(self, url: str, progress: Progress, holder: str = "") -> Path:
        """Give the folder of an extracted artefact: read-only, and the same for everybody who names the same object.

        The object is looked at each time: when it has changed, the new one is fetched. Until it is released, the
        ``holder`` has what was fetched. The caller sets the deadline. Raises ArtifactFailure.
        """
        try:
            try:
                return await self._fetch(url, progress, holder)
            except OSError as fault:
                if fault.errno != errno.ENOSPC or not await self.sweep(idle_seconds=0):
                    raise
                return await self._fetch(url, progress, holder)  # there is more room now
        except UnusableUri as fault:
            raise ArtifactFailure(f"The model data cannot be fetched: {fault}.") from fault
        except (NoSuchBucket, NoSuchKey) as fault:
            raise ArtifactFailure(f"There is no model data at {url}: {fault.message}") from fault
        except ServiceError as fault:
            raise ArtifactFailure(f"The object store refused the model data at {url}: {fault.message}") from fault
        except KeyUnusable as fault:
            raise ArtifactFailure(f"The model data at {url} cannot be decrypted: {fault}") from fault
        except ArchiveRefused as fault:
            raise ArtifactFailure(f"{fault} ({url})") from fault
        except OSError as fault:
            reason = fault.strerror or str(fault)
            raise ArtifactFailure(f"The model data at {url} could not be stored: {reason}.") from fault

    async def _fetch(self, url: str, progress: Progress, holder: str) -> Path:
        bucket, key = parse_s3_uri(url)
        reader = await self._store.open(bucket, key)
        try:
            folder = self._hold(_name_of(bucket, key, reader.info.etag), holder)

            async def build(unfinished: Path) -> None:
                # An archive of its own folder's file system, where there is room for what is in it.
                archive = unfinished / "archive"
                content = unfinished / "content"
                await self._download(reader, archive, progress)
                await self._extract(archive, content, progress)
                await asyncio.to_thread(archive.unlink)

            await build_once(
                folder, build, clock=self._clock, waits=lambda: progress("waiting for the same download of another")
            )
        finally:
            await reader.close()
        return folder / "content"

    def _hold(self, name: str, holder: str) -> Path:
        """Give a folder that is not swept away from now on, whether it is there already or not."""
        folder = self._folder / name
        self._held[holder].add(folder)
        return folder

    async def with_code(self, model: Path | None, code: Path, holder: str = "") -> Path:
        """Give a model's folder with another artefact as its folder ``code``; each as ``fetch`` gave it, or no model.

        The files are the same ones under second names. Raises ArtifactFailure.
        """
        parts = [folder.parent.name for folder in (model, code) if folder is not None]
        folder = self._hold(_name_of(*parts), holder)

        async def build(unfinished: Path) -> None:
            await asyncio.to_thread(lay_over, model, code, unfinished / "content")

        try:
            await build_once(folder, build, clock=self._clock, waits=lambda: None)
        except OSError as fault:
            raise ArtifactFailure(f"The submitted code could not be stored: {fault.strerror or fault}.") from fault
        return folder / "content"

    def release(self, holder: str) -> None:
        """Say that a holder needs nothing any more."""
        for folder in self._held.pop(holder, ()):
            with contextlib.suppress(OSError):
                os.utime(folder)  # which says when it was used last; one system call: not worth a thread

    async def sweep(self, *, idle_seconds: float, enough: Callable[[], bool] = _never) -> list[Path]:
        """Remove the artefacts that nobody holds or has used for so long, until it is ``enough``; gives what went."""
        gone = []
        for path in await asyncio.to_thread(self._idle, self._clock.now() - idle_seconds):
            if await asyncio.to_thread(enough):
                break
            # From the look at the holders to the new name nothing else happens: a fetch finds the folder and holds
            # it, or finds none.
            if not any(path in held for held in self._held.values()) and (doomed := set_aside(path)):
                await asyncio.to_thread(remove_tree, doomed)
                gone.append(path)
        return gone

    def _idle(self, before: float) -> list[Path]:
        """Give the artefacts that were used last before a time, the oldest first."""
        if not self._folder.is_dir():
            return []
        found = [(path.stat().st_mtime, path) for path in self._folder.iterdir() if not path.name.startswith(".")]
        return [path for used, path in sorted(found) if used <= before]

    async def _download(self, reader: ObjectReader, path: Path, progress: Progress) -> None:
        size = reader.info.size
        done, told = 0, 0
        progress(f"downloading the model data, {_megabytes(size)}")
        async with _new_file(path) as file:
            async for chunk in reader.chunks():
                await asyncio.to_thread(file.write, chunk)
                done += len(chunk)
                if done - told >= _TELL_EACH_BYTES:
                    told = done
                    progress(f"downloading the model data, {_megabytes(done)} of {_megabytes(size)}")
        if done != size:
            raise ArtifactFailure(f"The model data ended after {done} of {size} bytes.")

    async def _extract(self, archive: Path, folder: Path, progress: Progress) -> None:
        """Extract in a thread, which is told to end, and is waited for, when this is cancelled."""
        loop = asyncio.get_running_loop()
        interrupt = threading.Event()
        told = 0

        def tell(done: int) -> None:
            nonlocal told
            if done - told >= _TELL_EACH_BYTES:
                told = done
                loop.call_soon_threadsafe(progress, f"extracting the model data, {_megabytes(done)}")

        def work() -> None:
            folder.mkdir(mode=0o755)
            limits = ArchiveLimits(self._limits.artifact_bytes, self._limits.artifact_files)
            extract(archive, folder, limits, interrupt, tell)

        progress("extracting the model data")
        running = loop.run_in_executor(None, work)
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            interrupt.set()
            await asyncio.gather(running, return_exceptions=True)
            raise


@asynccontextmanager
async def _new_file(path: Path) -> AsyncGenerator[IO[bytes], None]:
    file = await asyncio.to_thread(path.open, "xb")
    try:
        yield file
    finally:
        await asyncio.to_thread(file.close)


def _name_of(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
