"""Objects as they are, as files of a folder: by the store itself where it can, else several at a time by reading."""

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from moorage.base.clock import Clock
from moorage.engine.interrupts import Interrupt
from moorage.engine.sources.conveyor import feed
from moorage.engine.sources.opened import Opened, Store, StoredObject, whole
from moorage.objects.faults import NoSuchKey
from moorage.objects.store import ObjectInfo

_AT_ONCE = 8
_BATCH_FILES = 100

Wanted = tuple[ObjectInfo, Path]
Told = Callable[[int], None]


class Overtaken(Exception):
    """An object is not the one that was listed any more."""


@runtime_checkable
class CopiesOut(Protocol):
    """A store on this machine."""

    async def copy_out(self, wanted: Sequence[Wanted]) -> Sequence[Wanted]:
        """Write objects into new files; gives those that have to be read."""


async def write_tree(store: Store, wanted: Sequence[Wanted], clock: Clock, told: Told) -> None:
    """Write objects into new files, whose folders are there; ``told`` hears of the bytes that are done.

    Raises Overtaken when one is not the listed one, and what reading it raises.
    """
    left: list[Wanted] = []
    for start in range(0, len(wanted), _BATCH_FILES):
        batch = wanted[start : start + _BATCH_FILES]
        missed = await store.copy_out(batch) if isinstance(store, CopiesOut) else batch
        left.extend(missed)
        told(sum(info.size for info, _ in batch) - sum(info.size for info, _ in missed))
    waiting = iter(left)
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(_AT_ONCE, len(left))):
                group.create_task(_read_some(store, waiting, clock, told))
    except BaseExceptionGroup as faults:
        raise faults.exceptions[0] from None


async def write_file(opened: Opened, path: Path, clock: Clock, told: Told, most_bytes: int | None = None) -> None:
    """Write an object into a new file; with ``most_bytes``, only so many of them, and then OverflowError."""

    def write(pieces: Iterator[bytes], interrupt: Interrupt) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o444)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            os.fchmod(descriptor, 0o444)  # whatever the umask is
            done = 0
            for piece in pieces:
                interrupt.check()
                done += len(piece)
                if most_bytes is not None and done > most_bytes:
                    raise OverflowError
                rest = memoryview(piece)
                while rest:
                    rest = rest[file.write(rest) :]
                told(len(piece))

    await feed(whole(opened, clock), write)


def make_folders(root: Path, paths: Sequence[str]) -> None:
    """Make the folders that files are to be in. Blocks."""
    for parent in {path.rpartition("/")[0] for path in paths}:
        (root / parent).mkdir(mode=0o755, parents=True, exist_ok=True)


def close_folders(root: Path) -> None:
    """Make a folder and those in it such that everybody may read them and nobody write to them. Blocks."""
    for parent, _folders, _files in os.walk(root, topdown=False):
        os.chmod(parent, 0o555)  # noqa: PTH101, S103 - shared with instances, which run as other users


async def _read_some(store: Store, waiting: Iterator[Wanted], clock: Clock, told: Told) -> None:
    for info, path in waiting:
        try:
            opened = StoredObject(await store.open(info.bucket, info.key))
        except NoSuchKey as fault:
            raise Overtaken from fault
        try:
            if opened.etag != info.etag:
                raise Overtaken
            await write_file(opened, path, clock, told)
        finally:
            await opened.close()
