"""Unpacks a layer of an image, which may be hostile, into a folder that overlayfs takes as a layer.

A layer is a tar with two kinds of marks (image-spec, "Whiteouts"): ``.wh.NAME`` hides NAME of the layers below,
``.wh..wh..opq`` hides all that they have in this folder. On disk these are overlayfs's own: a character device 0/0, and
an extended attribute of the folder.

Every name is resolved below the folder as if it were the root (``openat2``), so that no link leads out of it. Devices
are left out, containers get their own; setuid bits are not taken over, as no container can gain anything by them.
Owners are kept when root unpacks; an ordinary user's unpacked files are that user's.
"""

import contextlib
import gzip
import hashlib
import os
import posixpath
import shutil
import stat
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from moorage.engine.interrupts import Interrupt
from moorage.engine.registry.manifests import UnusableImage
from moorage.engine.rootfs import kernel
from moorage.engine.rootfs.room import IDS

_PIECE_BYTES = 2**20
_HEADERS_BYTES = 16 * 2**20
"""Most bytes between two members' contents."""

_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_NOBODY = 65_534
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_DAMAGE = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError, OverflowError)


@dataclass(frozen=True, slots=True)
class LayerLimits:
    """Where the unpacking of one layer ends."""

    unpacked_bytes: int
    files: int


class _Stream(Protocol):
    def read(self, count: int, /) -> bytes:
        """Give at most so many bytes."""


def unpack(  # noqa: PLR0913, PLR0917 - what, where to, and how far
    packed: IO[bytes],
    folder: Path,
    diff_id: str,
    limits: LayerLimits,
    interrupt: Interrupt,
    told: Callable[[int], None],
) -> None:
    """Unpack a layer into an empty folder; ``told`` hears the bytes of each file.

    Raises UnusableImage, Interrupted; OSError when the disk fails or is full.
    """
    root = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with _unpacked(packed) as stream:
            plain = _Plain(stream)
            _Unpacking(root, limits, interrupt, told).run(plain)
        if plain.digest != diff_id:
            raise UnusableImage(f"has a layer that is not {diff_id}, as it should be")
    finally:
        os.close(root)


@contextmanager
def _unpacked(packed: IO[bytes]) -> Iterator[_Stream]:
    """Look at how a layer is packed, and undo it."""
    start = packed.read(4)
    packed.seek(0)
    if start.startswith(_GZIP):
        with gzip.GzipFile(fileobj=packed, mode="rb") as plain:
            yield plain
    elif start == _ZSTD:
        with (
            tempfile.TemporaryFile() as copy
        ):  # a program wants a file of the system's, which a part of an archive is not
            shutil.copyfileobj(packed, copy)
            copy.seek(0)
            with _unpacked_by_zstd(copy) as plain_output:
                yield plain_output
    else:
        yield packed


@contextmanager
def _unpacked_by_zstd(packed: IO[bytes]) -> Iterator[_Stream]:
    program = shutil.which("zstd")
    if program is None:
        raise UnusableImage("is packed by zstd, which this machine cannot undo: install the package zstd")
    process = subprocess.Popen([program, "-dc"], stdin=packed, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        if process.stdout is None:
            raise AssertionError
        yield process.stdout
        if process.wait() != 0:
            raise UnusableImage("has a damaged layer (zstd)")
    finally:
        process.kill()
        process.communicate()


class _Plain:
    """The bytes of a tar: counted against what a header may take, and hashed."""

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream
        self._hashed = hashlib.sha256()
        self._left = _HEADERS_BYTES

    def allow(self, count: int) -> None:
        self._left = count

    def read(self, count: int) -> bytes:
        data = self._stream.read(count)
        self._hashed.update(data)
        self._left -= len(data)
        if self._left < 0:
            raise UnusableImage("has a layer with more header data than an archive can need")
        return data

    @property
    def digest(self) -> str:
        return f"sha256:{self._hashed.hexdigest()}"


class _Unpacking:
    """One run over a layer."""

    def __init__(self, root: int, limits: LayerLimits, interrupt: Interrupt, told: Callable[[int], None]) -> None:
        self._root = root
        self._limits = limits
        self._interrupt = interrupt
        self._told = told
        self._as_root = os.geteuid() == 0
        self._bytes = 0
        self._members = 0
        self._modes: dict[str, int] = {}
        """Of folders, set at the end: until then they must be writable."""
        self._opaque: set[str] = set()
        self._parent = ("", os.dup(root))

    def run(self, stream: _Plain) -> None:
        """Read the layer to its end, so that its checksum can be looked at."""
        try:
            with tarfile.open(fileobj=stream, mode="r|", bufsize=2**18, errorlevel=2) as tar:  # type: ignore[call-overload]
                for member in tar:
                    self._take(tar, member, stream)
                    tar.members = []  # or the list of all stays in memory
                    stream.allow(_HEADERS_BYTES)
            while stream.read(_PIECE_BYTES):
                stream.allow(_HEADERS_BYTES)
            self._finish()
        except OSError as fault:
            if fault.errno is None:  # gzip says so of damage
                raise UnusableImage("has a damaged layer") from fault
            raise
        except _DAMAGE as fault:
            raise UnusableImage("has a damaged layer") from fault
        finally:
            os.close(self._parent[1])

    def _take(self, tar: tarfile.TarFile, member: tarfile.TarInfo, stream: _Plain) -> None:
        self._interrupt.check()
        self._members += 1
        if self._members > self._limits.files:
            raise UnusableImage(f"has a layer of more than {self._limits.files} files")
        name = _safe_name(member.name)
        if name == "":
            self._modes[""] = member.mode
            self._own("", self._root, member)
            return
        folder, _, base = name.rpartition("/")
        try:
            parent = self._open_parent(folder)
            if base == _OPAQUE:
                self._opaque.add(folder)
            elif base.startswith(_WHITEOUT):
                self._hide(folder, parent, base.removeprefix(_WHITEOUT))
            else:
                self._make(tar, member, stream, name, parent, base)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as fault:
            raise UnusableImage(f"has {_shown(name)} in a layer as two different things") from fault

    def _open_parent(self, folder: str) -> int:
        """Give a descriptor of a folder, which is made when the layer does not say what it is like."""
        if self._parent[0] != folder or folder == "":
            opened = os.dup(self._root) if folder == "" else self._open_folder(folder)
            os.close(self._parent[1])
            self._parent = (folder, opened)
        return self._parent[1]

    def _open_folder(self, folder: str) -> int:
        try:
            return kernel.open_in_root(self._root, folder, os.O_PATH | os.O_DIRECTORY)
        except FileNotFoundError:
            above, _, base = folder.rpartition("/")
            parent = os.dup(self._root) if above == "" else self._open_folder(above)
            try:
                os.mkdir(base, 0o755, dir_fd=parent)
            finally:
                os.close(parent)
            return kernel.open_in_root(self._root, folder, os.O_PATH | os.O_DIRECTORY)

    def _hide(self, folder: str, parent: int, base: str) -> None:
        if base in {"", ".", ".."}:
            raise UnusableImage("has a mark in a layer that hides nothing that can be")
        path = f"{folder}/{base}" if folder else base
        try:
            os.mknod(base, stat.S_IFCHR, 0, dir_fd=parent)
        except FileExistsError:  # it is there anew: what is below it stays hidden
            self._opaque.add(path)

    def _make(  # noqa: PLR0913, PLR0917 - where and what
        self, tar: tarfile.TarFile, member: tarfile.TarInfo, stream: _Plain, name: str, parent: int, base: str
    ) -> None:
        if member.isdir():
            self._make_folder(member, name, parent, base)
            return
        if not (member.isreg() or member.issym() or member.islnk() or member.isfifo()):
            return  # a device: see above
        self._make_room(parent, base)
        if member.islnk():
            self._link(member, parent, base)
            return
        if member.isreg():
            self._write(tar, member, stream, parent, base)
        elif member.issym():
            os.symlink(member.linkname, base, dir_fd=parent)
        else:
            os.mkfifo(base, stat.S_IMODE(member.mode) & 0o777, dir_fd=parent)
        self._own(base, parent, member)

    def _make_folder(self, member: tarfile.TarInfo, name: str, parent: int, base: str) -> None:
        try:
            os.mkdir(base, 0o755, dir_fd=parent)
        except FileExistsError:
            if not _is_folder(parent, base):
                hid = _is_whiteout(parent, base)
                os.unlink(base, dir_fd=parent)
                os.mkdir(base, 0o755, dir_fd=parent)
                if hid:
                    self._opaque.add(name)
        self._modes[name] = member.mode
        self._own(base, parent, member)

    def _make_room(self, parent: int, base: str) -> None:
        """Take away an earlier entry of the same name."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(base, dir_fd=parent)

    def _write(self, tar: tarfile.TarFile, member: tarfile.TarInfo, stream: _Plain, parent: int, base: str) -> None:
        self._bytes += member.size
        if self._bytes > self._limits.unpacked_bytes:
            raise UnusableImage(f"is larger than {self._limits.unpacked_bytes} bytes when unpacked")
        content = tar.extractfile(member)
        if content is None:
            raise UnusableImage(f"has no content for {_shown(member.name)}")
        stream.allow(member.size + _HEADERS_BYTES)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with content, os.fdopen(os.open(base, flags, 0o600, dir_fd=parent), "wb") as file:
            left = member.size
            while left:
                piece = content.read(min(left, _PIECE_BYTES))
                if not piece:
                    raise EOFError
                file.write(piece)
                left -= len(piece)
                self._interrupt.check()
            file.flush()
            if self._as_root:
                os.fchown(file.fileno(), *_owner(member))
            os.fchmod(file.fileno(), self._mode(member))
            os.utime(file.fileno(), (member.mtime, member.mtime))  # compiled Python looks at its source's time
        self._told(member.size)

    def _mode(self, member: tarfile.TarInfo) -> int:
        mode = stat.S_IMODE(member.mode) & 0o777
        return mode if self._as_root else mode | stat.S_IRUSR

    def _link(self, member: tarfile.TarInfo, parent: int, base: str) -> None:
        """Make a hard link to an entry of this layer that came before."""
        target = _safe_name(member.linkname)
        folder, _, name = target.rpartition("/")
        source = os.dup(self._root) if folder == "" else self._open_folder(folder)
        try:
            os.link(name, base, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError as fault:
            raise UnusableImage(f"links {_shown(member.name)} to {_shown(target)}, which is not there") from fault
        finally:
            os.close(source)

    def _own(self, base: str, parent: int, member: tarfile.TarInfo) -> None:
        if not self._as_root or member.isreg():
            return
        if base == "":
            os.chown(f"/proc/self/fd/{parent}", *_owner(member))
        else:
            os.chown(base, *_owner(member), dir_fd=parent, follow_symlinks=False)

    def _finish(self) -> None:
        """Mark what hides all that is below it, and set the folders' modes."""
        attribute = "trusted.overlay.opaque" if self._as_root else "user.overlay.opaque"
        for folder in self._opaque:
            with self._folder_path(folder) as path:
                if path is not None:
                    os.setxattr(path, attribute, b"y")
        for folder, mode in self._modes.items():
            with self._folder_path(folder) as path:
                if path is not None:
                    wanted = stat.S_IMODE(mode) & 0o1777
                    Path(path).chmod(wanted if self._as_root else wanted | stat.S_IRWXU)

    @contextmanager
    def _folder_path(self, folder: str) -> Iterator[str | None]:
        """Give a path of a folder for calls that take no descriptor of one; None when it is none any more."""
        try:
            flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
            opened = os.dup(self._root) if folder == "" else kernel.open_in_root(self._root, folder, flags)
        except (FileNotFoundError, NotADirectoryError):
            yield None
            return
        try:
            yield f"/proc/self/fd/{opened}"
        finally:
            os.close(opened)


def _owner(member: tarfile.TarInfo) -> tuple[int, int]:
    """Give a member's owner and group; those that no container has become nobody."""
    uid, gid = (number if 0 <= number < IDS else _NOBODY for number in (member.uid, member.gid))
    return uid, gid


def _is_folder(parent: int, base: str) -> bool:
    return stat.S_ISDIR(os.stat(base, dir_fd=parent, follow_symlinks=False).st_mode)


def _is_whiteout(parent: int, base: str) -> bool:
    found = os.stat(base, dir_fd=parent, follow_symlinks=False)
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def _safe_name(name: str) -> str:
    """Give a member's name without what is before the first folder; refuses what does not stay below the root."""
    parts = [part for part in name.split("/") if part not in {"", "."}]
    if "\0" in name or ".." in parts:
        raise UnusableImage(f"has a name in a layer that leads out of it: {_shown(name)}")
    return posixpath.join(*parts) if parts else ""


def _shown(name: str) -> str:
    """Make a name of any bytes fit for one line of text."""
    return ascii(name if len(name) <= 200 else name[:200] + "...")[1:-1]
