"""The bytes of a folder store: one file a blob, written once, named at random, never changed.

A blob belongs to the store when a row of the index names it. Whoever writes one holds a shared lock on its file from
the first byte until that row is committed, so that ``sweep`` can tell what a crash has left (no row, no lock) from
what somebody is writing (no row yet, locked); the kernel drops the lock when the writer dies.

Everything here blocks and is called in threads.
"""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Callable, Collection, Iterable
from functools import partial
from pathlib import Path

from moorage.base.files import sync_folder
from moorage.kms.frames import FrameSealer
from moorage.objects.digests import make_digest
from moorage.objects.store import FileSpan

_SWEEP_BATCH = 500
_PIECE_BYTES = 2**20


class BlobFolder:
    """The folder of blobs: finished ones in ``blobs/``, the others in ``unfinished/``."""

    def __init__(self, folder: Path) -> None:
        self._finished = folder / "blobs"
        self._unfinished = folder / "unfinished"

    def prepare(self) -> None:
        """Make the folders."""
        self._finished.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._unfinished.mkdir(mode=0o700, exist_ok=True)

    def write(self, digests: Collection[str], data_key: bytes | None = None) -> "BlobWriter":
        """Begin a blob, which is encrypted when there is a key."""
        return BlobWriter(self._unfinished, self._finished, digests, data_key)

    def link(self, blob: str) -> "BlobLink":
        """Begin a second name for a blob's bytes; raises FileNotFoundError when it is gone."""
        return BlobLink(self._finished, blob)

    def open(self, blob: str) -> int:
        """Open a blob for reading; raises FileNotFoundError when it is gone."""
        return os.open(self._finished / blob, os.O_RDONLY)

    def remove(self, blobs: Iterable[str]) -> None:
        """Remove blobs that no row names any more; who has one open reads on."""
        for blob in blobs:
            (self._finished / blob).unlink(missing_ok=True)

    def sweep(self, named: Callable[[Collection[str]], Collection[str]]) -> int:
        """Remove what crashes have left, and tell how many files; ``named`` gives those that the index has."""
        swept = sum(_remove_unless(path, lambda: False) for path in list(self._unfinished.iterdir()))
        names = [path.name for path in self._finished.iterdir()]
        for start in range(0, len(names), _SWEEP_BATCH):
            batch = names[start : start + _SWEEP_BATCH]
            for name in set(batch).difference(named(batch)):
                # The row may have been committed since: ask again under the lock.
                swept += _remove_unless(self._finished / name, partial(_is_among, name, named))
        return swept


def _is_among(name: str, named: Callable[[Collection[str]], Collection[str]]) -> bool:
    return bool(named([name]))


def _remove_unless(path: Path, wanted: Callable[[], bool]) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if wanted():
            return False
        path.unlink(missing_ok=True)
        return True
    except BlockingIOError:
        return False  # somebody is writing it
    finally:
        os.close(descriptor)


class BlobWriter:
    """A blob that is being written. ``close`` discards it unless ``kept`` was set after the row's commit."""

    def __init__(self, unfinished: Path, finished: Path, digests: Collection[str], data_key: bytes | None) -> None:
        self._finished = finished
        self._sealer = None if data_key is None else FrameSealer(data_key)
        self._digests = {name: make_digest(name) for name in digests}
        self.size = 0
        """Of the content: encrypted, it takes a little more."""
        self.kept = False
        while True:
            self.name = secrets.token_hex(16)
            self._path = unfinished / self.name
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_SH)
            if os.fstat(self._descriptor).st_nlink:
                return
            os.close(self._descriptor)  # swept between its creation and the lock

    def write(self, pieces: Iterable[bytes]) -> None:
        """Append bytes."""
        for piece in pieces:
            for digest in self._digests.values():
                digest.update(piece)
            self._append(piece if self._sealer is None else self._sealer.feed(piece))
            self.size += len(piece)

    def _append(self, content: bytes) -> None:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def write_span(self, span: FileSpan) -> None:
        """Append a part of a file; raises OSError, also when the file has become shorter.

        What nobody has to look at is copied by the kernel, where it can: within one file system, and on Linux.
        """
        start = span.start
        if not self._digests and self._sealer is None:
            start += _copy_in_kernel(span, self._descriptor)
            self.size += start - span.start
        while start < span.end:
            piece = os.pread(span.descriptor, min(_PIECE_BYTES, span.end - start), start)
            if not piece:
                raise OSError("the file has become shorter")
            self.write((piece,))
            start += len(piece)

    def digests(self) -> dict[str, bytes]:
        """Give the digests of all that was written."""
        return {name: digest.digest() for name, digest in self._digests.items()}

    def finish(self) -> None:
        """Bring it to the disk under its final name."""
        if self._sealer is not None:
            self._append(self._sealer.finish())
        os.fsync(self._descriptor)
        self._path = self._path.rename(self._finished / self.name)
        sync_folder(self._finished)

    def close(self) -> None:
        """Let it go: to the row that names it, or discard it."""
        if not self.kept:
            self._path.unlink(missing_ok=True)
        os.close(self._descriptor)


def _copy_in_kernel(span: FileSpan, descriptor: int) -> int:
    """Append a part of a file to another one, as far as the kernel can do it alone; gives how many bytes."""
    copied, size = 0, span.end - span.start
    if not hasattr(os, "copy_file_range"):
        return 0
    with contextlib.suppress(OSError):  # two file systems, or one that cannot: the rest is left to the caller
        while copied < size:
            more = os.copy_file_range(span.descriptor, descriptor, size - copied, span.start + copied)
            if not more:
                break
            copied += more
    return copied


class BlobLink:
    """A second name for a blob that is being made. ``close`` discards it unless ``kept`` was set."""

    def __init__(self, finished: Path, blob: str) -> None:
        self.name = secrets.token_hex(16)
        self.kept = False
        self._path = finished / self.name
        self._descriptor = os.open(finished / blob, os.O_RDONLY)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH)
            os.link(finished / blob, self._path)
            sync_folder(finished)
        except BaseException:
            os.close(self._descriptor)
            raise

    def close(self) -> None:
        """Let it go: to the row that names it, or discard it."""
        if not self.kept:
            self._path.unlink(missing_ok=True)
        os.close(self._descriptor)
