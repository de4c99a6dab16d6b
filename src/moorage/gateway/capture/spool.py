"""Captured data on disk on its way to its bucket: whose it is, and how much there may be.

Each gateway writes into a folder of its own under ``data_dir/spool/capture`` and holds the lock of that folder. The
kernel drops the lock when the process dies, however it dies; the next gateway that looks takes the dead one's files
into its own folder. So a file has one owner at any time, and nobody has to be told.

The first line of a file says where it goes; the records follow. Lines are appended, so that a killed process leaves
at most its last line torn, and what is behind the last newline is not delivered. Nothing is brought to the disk by
force: a file outlives its process, not the loss of power.

Everything here blocks and is called in threads, several at once.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from moorage.base.data_dir import Lock, try_lock
from moorage.base.ids import Ids

WRITE_BYTES = 65_536
"""What is gathered before it is written."""

BLOCK_BYTES = 4_096
"""The least that a file takes: otherwise many small ones would be free."""

_SUFFIX = ".jsonl"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a file goes."""

    account: str
    """Who must own the bucket."""
    bucket: str
    key: str


@dataclass(frozen=True, slots=True)
class Finished:
    """A file with what is to be delivered of it: the bytes from ``start`` to ``end``."""

    path: Path
    target: Target
    start: int
    end: int
    written_at: float
    """Seconds since the epoch."""


class SpoolFile:
    """A file that is being written. After an OSError it must be closed; what is whole of it will be delivered."""

    def __init__(self, path: Path, target: Target, opened_at: float) -> None:
        """Make it; ``opened_at`` is ``clock.monotonic()``."""
        self.path = path
        self.target = target
        self.opened_at = opened_at
        self.records = 0
        self.size = 0
        """Bytes of the records."""
        self.flushed_records = 0
        """Those that the system has, for certain."""
        self._pending: list[bytes] = [orjson.dumps(asdict(target)) + b"\n"]
        self.header_bytes = len(self._pending[0])
        self._pending_bytes = 0
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self.flush()
        except BaseException:
            self.close()
            path.unlink(missing_ok=True)
            raise

    def __repr__(self) -> str:
        return f"<SpoolFile: {self.records} records, {self.size} bytes, {self.flushed_records} flushed>"

    def append(self, pieces: Iterable[bytes], breathe: Callable[[int], None]) -> None:
        """Add a record; ``breathe`` is told of each piece's size and may wait a moment. Raises OSError."""
        for piece in pieces:
            self._pending.append(piece)
            self._pending_bytes += len(piece)
            self.size += len(piece)
            if self._pending_bytes >= WRITE_BYTES:
                self._write()
            breathe(len(piece))
        self.records += 1

    def append_lines(self, lines: list[bytes]) -> None:
        """Add records that are lines already. Raises OSError."""
        joined = b"".join(lines)
        self._pending.append(joined)
        self._pending_bytes += len(joined)
        self.size += len(joined)
        if self._pending_bytes >= WRITE_BYTES:
            self._write()
        self.records += len(lines)

    def flush(self) -> None:
        """Give the system all that was added. Raises OSError."""
        if self._pending:
            self._write()
        self.flushed_records = self.records

    def close(self) -> None:
        """Write no more."""
        os.close(self._descriptor)

    def _write(self) -> None:
        rest = memoryview(self._pending[0] if len(self._pending) == 1 else b"".join(self._pending))
        self._pending, self._pending_bytes = [], 0
        while rest:
            written = os.write(self._descriptor, rest)
            rest = rest[written:]


class Spool:
    """The folder of all gateways of a data folder, and this one's part of it."""

    def __init__(self, folder: Path, ids: Ids, limit_bytes: int) -> None:
        self._folder = folder
        self._ids = ids
        self._limit_bytes = limit_bytes
        # One writer each, so that nobody has to wait for a lock.
        self._measured_bytes = 0
        self._added_bytes = 0
        self._removed_bytes = 0
        self._own: Path | None = None
        self._lock: Lock | None = None
        self._alone = threading.Lock()

    def __repr__(self) -> str:
        return f"<Spool: {self.used_bytes} of {self._limit_bytes} bytes>"

    @property
    def used_bytes(self) -> int:
        """What lay here at the last look, with what this gateway has added and taken since."""
        return self._measured_bytes + self._added_bytes - self._removed_bytes

    def has_room(self, size: int) -> bool:
        """Say whether so many bytes more fit."""
        return self.used_bytes + size <= self._limit_bytes

    def create(self, target: Target, opened_at: float) -> SpoolFile:
        """Begin a file. Raises OSError."""
        path = self._own_folder() / (self._ids.request_id() + _SUFFIX)
        file = SpoolFile(path, target, opened_at)
        self.note(BLOCK_BYTES + file.header_bytes)
        return file

    def note(self, size: int) -> None:
        """Take into account that so many bytes have been added; by the thread that writes alone."""
        self._added_bytes += size

    def measure(self) -> None:
        """Look how much there is, of all gateways."""
        used = 0
        for folder in self._folders():
            with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.endswith(_SUFFIX):
                        with contextlib.suppress(FileNotFoundError):
                            used += BLOCK_BYTES + entry.stat().st_size
        self._measured_bytes = used - self._added_bytes + self._removed_bytes

    def adopt(self) -> list[Path]:
        """Take over the files of gateways that are dead; gives them. Raises OSError."""
        own = self._own_folder()
        adopted = []
        for folder in self._folders():
            if folder != own:
                adopted += _take_over(folder, own)
        return adopted

    def remove(self, path: Path) -> None:
        """Remove a file that is delivered, or given up; one at a time."""
        with contextlib.suppress(FileNotFoundError):
            size = path.stat().st_size
            path.unlink()
            self._removed_bytes += size + BLOCK_BYTES

    def close(self) -> None:
        """Leave this gateway's folder to whoever comes next, or remove it when it is empty."""
        with self._alone:
            own, self._own = self._own, None
            lock, self._lock = self._lock, None
        if own is not None and lock is not None:
            if not any(path.suffix == _SUFFIX for path in own.iterdir()):
                _remove_folder(own)
            lock.release()

    def _folders(self) -> list[Path]:
        with contextlib.suppress(FileNotFoundError):
            return [path for path in self._folder.iterdir() if path.is_dir()]
        return []

    def _own_folder(self) -> Path:
        with self._alone:
            while self._own is None:
                path = self._folder / self._ids.request_id()
                path.mkdir(mode=0o700, parents=True)
                # Another gateway can take the folder for a dead one's before it is locked: then there is a next one.
                self._lock = _try_lock(path)
                self._own = path if self._lock is not None else None
            return self._own


def read_finished(path: Path) -> Finished | None:
    """Look what is to be delivered of a file; None when there is no whole record in it."""
    with path.open("rb") as file:
        first = file.readline()
        try:
            target = Target(**orjson.loads(first))
        except (ValueError, TypeError):  # torn
            return None
        end = _last_newline(file.fileno(), os.fstat(file.fileno()).st_size)
        written_at = os.fstat(file.fileno()).st_mtime
    return Finished(path, target, len(first), end, written_at) if end > len(first) else None


def _last_newline(descriptor: int, end: int) -> int:
    """Give the offset behind the last newline before an offset; 0 when there is none."""
    while end:
        start = max(0, end - WRITE_BYTES)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _take_over(folder: Path, own: Path) -> list[Path]:
    lock = _try_lock(folder)
    if lock is None:
        return []
    try:
        taken = [path.rename(own / path.name) for path in folder.glob(f"*{_SUFFIX}")]
        _remove_folder(folder)
        return taken
    finally:
        lock.release()


def _remove_folder(folder: Path) -> None:
    """Remove an empty folder whose lock is held."""
    (folder / "lock").unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # somebody has tried its lock in this moment: the next look removes it
        folder.rmdir()


def _try_lock(folder: Path) -> Lock | None:
    try:
        return try_lock(folder)
    except FileNotFoundError:  # removed under our hands
        return None
