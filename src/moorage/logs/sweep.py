"""Removes old logs: what is older than the retention time, and the oldest of what is too much for the disk."""

import contextlib
import os
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from moorage.logs import names


@dataclass(frozen=True, slots=True)
class _Found:
    """One segment."""

    path: Path
    written: float
    """Time of the last write, in seconds since the epoch."""
    size: int
    is_last: bool
    """Of its stream."""


Living = Callable[[], frozenset[Path]]
"""Gives the folders of the streams that are written to. Asked once the files are listed: so no new one is missing."""


def sweep(logs: Path, living: Living, *, now: float, kept_seconds: float, most_bytes: int) -> int:
    """Remove what is too old or too much, but never the end of a stream that is written to; gives how many files.

    Folders that have been empty for the retention time are removed too.
    """
    found = sorted(_segments(logs), key=lambda segment: segment.written)
    total, removed, needed = sum(segment.size for segment in found), 0, living()
    for segment in found:
        is_old = segment.written < now - kept_seconds
        if (segment.is_last and segment.path.parent in needed) or not (is_old or total > most_bytes):
            continue
        segment.path.unlink(missing_ok=True)
        total -= segment.size
        removed += 1
    kept = needed.union(*(folder.parents for folder in needed))
    for group in names.all_groups(logs):
        _remove_empty(group, kept, now - kept_seconds)
    return removed


def finish_leftovers(logs: Path, living: Living) -> None:
    """End the last lines of streams that a killed node agent has left."""
    last = [segment.path for segment in _segments(logs) if segment.is_last]
    needed = living()
    for path in last:
        if path.parent not in needed:
            _end_line(path)


def _segments(logs: Path) -> Iterator[_Found]:
    for group in names.all_groups(logs):
        for folder in names.streams(group).values():
            segments = _names_of(folder)
            for name in segments:
                path = folder / name
                with contextlib.suppress(FileNotFoundError):
                    about = path.stat()
                    yield _Found(path, about.st_mtime, about.st_size, name == segments[-1])


def _names_of(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir() if names.segment_base(path.name) is not None)
    except FileNotFoundError:
        return []


def _remove_empty(group: Path, kept: AbstractSet[Path], before: float) -> None:
    """Remove the streams of a group that have nothing left, and the group when it has none; the deepest come first."""
    for parent, _, files in os.walk(group, topdown=False):
        folder = Path(parent)
        if folder in kept or set(files) - {names.CREATED}:
            continue
        with contextlib.suppress(OSError):  # it has folders, or has got something this moment
            if folder.stat().st_mtime < before and len(list(folder.iterdir())) == len(files):
                (folder / names.CREATED).unlink(missing_ok=True)
                folder.rmdir()


def _end_line(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("r+b") as file:
        if file.seek(0, os.SEEK_END) and not _ends_a_line(file.fileno(), file.tell()):
            file.write(b"\n")


def _ends_a_line(descriptor: int, size: int) -> bool:
    return os.pread(descriptor, 1, size - 1) == b"\n"
