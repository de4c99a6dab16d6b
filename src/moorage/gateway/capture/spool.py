"""Captured data on disk on its way to its bucket: whose it is, and how much there may be.

Each gateway writes into a folder of its own under ``data_dir/spool/capture`` and holds the lock of that folder. The
kernel drops the lock when the process dies, however it dies; the next gateway that looks takes the dead one's files
into its own folder. So a file has one owner at any time, and nobody has to be told.

The first line of a file says where it goes; the records follow. Lines are appended, so that a killed process leaves
at most its last line torn, and what is behind the last newline is not delivered. Nothing is brought to the disk by
force: a file outlives its process, not the loss of power.

What is to be encrypted in its bucket is encrypted here too: behind the first line, in which its data key lies sealed,
each write is a piece of ``kms.journal``.

Everything here blocks and is called in threads, several at once.
"""

import contextlib
import os
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO

import orjson

from moorage.base.data_dir import Lock, try_lock
from moorage.base.ids import Ids
from moorage.kms.faults import KeyUnusable
from moorage.kms.journal import JournalSealer, read_journal
from moorage.kms.records import Home
from moorage.kms.ring import KeyRing
from moorage.objects.store import Encryption

WRITE_BYTES = 65_536
"""What is gathered before it is written."""

READ_BYTES = 262_144

BLOCK_BYTES = 4_096
"""The least that a file takes: otherwise many small ones would be free."""

_SUFFIX = ".jsonl"
_CONTEXT = {"moorage:spool": "capture"}
"""Encryption context of the data keys of files."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a file goes."""

    account: str
    """Who must own the bucket."""
    bucket: str
    key: str
    region: str = ""
    """Of the endpoint: keys and their aliases are looked up there."""
    kms_key: str | None = None
    """Key that it is encrypted with, by its id, alias or ARN, that of a file by its ARN; None: it is not."""
    sealed: str = ""
    """The data key of the file in the spool, in base64."""

    @property
    def encryption(self) -> Encryption | None:
        """How the object is to be encrypted."""
        return Encryption(self.kms_key) if self.kms_key is not None else None


class UnusableTarget(Exception):
    """The key that a file is to be encrypted with cannot be used; the text is for people."""


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

    def __init__(self, path: Path, target: Target, opened_at: float, data_key: bytes | None = None) -> None:
        """Make it; ``opened_at`` is ``clock.monotonic()``. With a data key the records are encrypted."""
        self._sealer: JournalSealer | None = None
        self._head = b""
        """What must stand before the first record and is not written yet."""
        self.path = path
        self.target = target
        self.opened_at = opened_at
        self.records = 0
        self.size = 0
        """Bytes of the records."""
        self.flushed_records = 0
        """Those that the system has, for certain."""
        self._pending: list[bytes] = [_first_line(target)]
        self.header_bytes = len(self._pending[0])
        self._pending_bytes = 0
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self.flush()
        except BaseException:
            self.close()
            path.unlink(missing_ok=True)
            raise
        if data_key is not None:
            self._sealer = JournalSealer(data_key)
            self._head = self._sealer.head

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
        content = self._pending[0] if len(self._pending) == 1 else b"".join(self._pending)
        self._pending, self._pending_bytes = [], 0
        if self._sealer is not None:
            content, self._head = self._head + self._sealer.seal(content), b""
        rest = memoryview(content)
        while rest:
            written = os.write(self._descriptor, rest)
            rest = rest[written:]


class Spool:
    """The folder of all gateways of a data folder, and this one's part of it."""

    def __init__(self, folder: Path, ids: Ids, limit_bytes: int, ring: KeyRing) -> None:
        self._folder = folder
        self._ids = ids
        self._ring = ring
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
        """Begin a file. Raises OSError, UnusableTarget."""
        path = self._own_folder() / (self._ids.request_id() + _SUFFIX)
        data_key = None
        if target.kms_key is not None:
            try:
                made = self._ring.data_key(target.kms_key, _CONTEXT, Home(target.account, target.region))
            except KeyUnusable as fault:
                raise UnusableTarget(str(fault)) from fault
            data_key = made.plaintext
            target = replace(target, kms_key=made.key.arn, sealed=b64encode(made.sealed).decode())
        file = SpoolFile(path, target, opened_at, data_key)
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

    def content(self, finished: Finished, file: BinaryIO) -> Iterator[bytes]:
        """Give what is to be delivered of a file, in pieces; raises OSError, KeyUnusable."""
        file.seek(finished.start)
        if finished.target.kms_key is None:
            yield from _span(file, finished.end - finished.start)
        else:
            data_key = self._ring.open(b64decode(finished.target.sealed), _CONTEXT)
            yield from _whole_lines(read_journal(data_key, file))

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


def _first_line(target: Target) -> bytes:
    return orjson.dumps({name: value for name, value in asdict(target).items() if value}) + b"\n"


def read_finished(path: Path) -> Finished | None:
    """Look what is to be delivered of a file; None when there is no whole record in it."""
    with path.open("rb") as file:
        first = file.readline()
        try:
            target = Target(**orjson.loads(first))
        except (ValueError, TypeError):  # torn
            return None
        end = os.fstat(file.fileno()).st_size
        if target.kms_key is None:
            end = _last_newline(file.fileno(), end)
        written_at = os.fstat(file.fileno()).st_mtime
    return Finished(path, target, len(first), end, written_at) if end > len(first) else None


def _span(file: BinaryIO, size: int) -> Iterator[bytes]:
    while size:
        piece = file.read(min(READ_BYTES, size))
        if not piece:
            raise OSError("the file has become shorter")
        size -= len(piece)
        yield piece


def _whole_lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Leave out what is behind the last newline."""
    kept: list[bytes] = []
    for piece in pieces:
        whole, newline, rest = piece.rpartition(b"\n")
        if newline:
            yield b"".join([*kept, whole, newline])
            kept = []
        kept.append(rest)


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
