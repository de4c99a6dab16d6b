"""Blobs into files outside of the store, by the kernel: shared where the file system can, else copied. Blocks."""

import errno
import fcntl
import os
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

_FICLONE = 0x40049409
"""ioctl_ficlone(2): both files have the same blocks until one of them changes."""

_STEP_BYTES = 128 * 2**20
_CANNOT = frozenset({errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY, errno.EPERM})


class CopyOut:
    """Writes blobs into new files that everybody may read and nobody write, a bounded step at a time."""

    def __init__(self, open_blob: Callable[[str], int], wanted: Iterable[tuple[str, Path]]) -> None:
        """``wanted``: blobs, and the files that they become."""
        self._open_blob = open_blob
        self._waiting = deque(wanted)
        self._copy: _Copy | None = None
        self.gone: list[Path] = []
        """The files that were not made because their blobs are not there any more."""

    def step(self) -> bool:
        """Do some of it; says whether there is more to do. Raises OSError."""
        left = _STEP_BYTES
        while left > 0 and (self._copy or self._waiting):
            copy = self._copy or self._begin(*self._waiting.popleft())
            self._copy = copy
            if copy is None:
                continue
            left -= copy.proceed(left)
            if copy.is_done:
                self.close()
        return bool(self._copy or self._waiting)

    def _begin(self, blob: str, path: Path) -> "_Copy | None":
        try:
            source = self._open_blob(blob)
        except FileNotFoundError:
            self.gone.append(path)
            return None
        return _Copy(source, path)

    def close(self) -> None:
        """Let go of what is being copied."""
        if self._copy is not None:
            self._copy.close()
            self._copy = None


class _Copy:
    """One file on its way."""

    def __init__(self, source: int, path: Path) -> None:
        """Take the source over."""
        self._source = source
        self._done = 0
        self._within_kernel = hasattr(os, "copy_file_range")  # some systems' libraries lack it
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._target = os.open(path, flags, 0o444)
        except BaseException:
            os.close(source)
            raise
        os.fchmod(self._target, 0o444)  # whatever the umask is
        self._size = os.fstat(source).st_size
        if self._size and self._share():
            self._done = self._size

    @property
    def is_done(self) -> bool:
        return self._done == self._size

    def proceed(self, most: int) -> int:
        """Copy up to so many bytes, and tell how many."""
        begun, end = self._done, min(self._size, self._done + most)
        while self._done < end:
            try:
                copied = self._move(end - self._done)
            except OSError as fault:
                if not self._within_kernel or fault.errno not in _CANNOT:
                    raise
                self._within_kernel = False
                continue
            if not copied:
                raise OSError(errno.EIO, f"the file ended after {self._done} of {self._size} bytes")
            self._done += copied
        return self._done - begun

    def _move(self, count: int) -> int:
        if self._within_kernel:
            return os.copy_file_range(self._source, self._target, count, self._done, self._done)
        os.lseek(self._target, self._done, os.SEEK_SET)
        return os.sendfile(self._target, self._source, self._done, count)

    def _share(self) -> bool:
        try:
            fcntl.ioctl(self._target, _FICLONE, self._source)
        except OSError as fault:
            if fault.errno not in _CANNOT:
                raise
            return False
        return True

    def close(self) -> None:
        os.close(self._target)
        os.close(self._source)
