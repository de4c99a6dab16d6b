"""Extracts a model artefact (``.tar.gz``) that may be hostile (data-plane.md section 7.3).

Nothing is written outside the given folder, and never through a link: files and folders come first, symbolic links are
made at the end and must lead to somewhere inside the folder. Devices, pipes, absolute names and names with ``..`` are
refused; owners, setuid bits and write permissions are not taken over. Sizes are counted on the decompressed bytes,
so that a bomb ends at the limit and not with the disk.
"""

import os
import posixpath
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from moorage.engine.interrupts import Interrupt
from moorage.engine.sources.conveyor import ahead
from moorage.engine.sources.faults import MOST_DEPTH, SourceRefused, shown
from moorage.engine.sources.gunzip import GzipDamaged, gunzip

_PIECE_BYTES = 2**20
_HEADERS_BYTES = 16 * 2**20
"""Most bytes between two members' contents: headers and their extensions, and the padding at the end."""

_GZIP = b"\x1f\x8b"
_DAMAGE = (tarfile.TarError, EOFError, ValueError, OverflowError)


class ArchiveRefused(SourceRefused):
    """The archive is not what it should be."""


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """Where an extraction ends."""

    extracted_bytes: int
    files: int


def extract(
    pieces: Iterator[bytes], folder: Path, limits: ArchiveLimits, interrupt: Interrupt, progress: Callable[[int], None]
) -> None:
    """Extract an archive, which is still coming, into an empty folder, and make all of it read-only.

    ``progress`` is told the extracted bytes so far. Raises ArchiveRefused, what ``pieces`` raises, and Interrupted
    once ``interrupt`` is set; OSError when the disk fails or is full. Blocks.
    """
    extraction = _Extraction(folder, limits, interrupt, progress)
    whole = _beginning_like_gzip(pieces)
    with ahead(lambda: gunzip(whole)) as plain:
        extraction.run(_Plain(plain, interrupt))
    extraction.finish()


def _beginning_like_gzip(pieces: Iterator[bytes]) -> Iterator[bytes]:
    first = b""
    while len(first) < len(_GZIP) and (piece := next(pieces, b"")):
        first += piece
    if not first.startswith(_GZIP):
        raise ArchiveRefused("The model artefact is not a gzip archive (.tar.gz).")
    return chain([first], pieces)


class _Plain:
    """The tar stream as a file that is only read forward, and gives no more bytes than were allowed."""

    def __init__(self, pieces: Iterator[bytes], interrupt: Interrupt) -> None:
        self._pieces = pieces
        self._interrupt = interrupt
        self._piece = memoryview(b"")
        self._at = 0
        self._left = 0
        self.last_read = b""

    def allow(self, count: int) -> None:
        self._left = count

    def take(self, most: int) -> memoryview:
        """Give what comes next, as much as there is at hand and no more than asked for; nothing at the end."""
        if not self._piece:
            self._interrupt.check()
            self._piece = memoryview(self._next())
        taken, self._piece = self._piece[:most], self._piece[most:]
        self._at += len(taken)
        self._left -= len(taken)
        if self._left < 0:
            raise ArchiveRefused("The model artefact has more header data than an archive can need.")
        return taken

    def _next(self) -> bytes:
        try:
            return next(self._pieces, b"")
        except GzipDamaged as fault:  # said here: tarfile would make its own fault of it
            raise ArchiveRefused(f"The model artefact is damaged: {_said(fault)}.") from fault

    def read(self, count: int) -> bytes:
        """(tarfile) Read so many bytes, fewer at the end."""
        parts = []
        while count > 0 and (taken := self.take(count)):
            parts.append(taken)
            count -= len(taken)
        self.last_read = b"".join(parts)
        return self.last_read

    def tell(self) -> int:
        """(tarfile) Say how far it is."""
        return self._at

    def seek(self, position: int) -> None:
        """(tarfile) Pass over bytes."""
        if position < self._at:
            raise tarfile.StreamError("seeking backwards is not allowed")
        while self._at < position and self.take(position - self._at):
            pass


class _Extraction:
    """One run over an archive."""

    def __init__(
        self, folder: Path, limits: ArchiveLimits, interrupt: Interrupt, progress: Callable[[int], None]
    ) -> None:
        self._folder = os.path.realpath(folder)
        self._limits = limits
        self._interrupt = interrupt
        self._progress = progress
        self._bytes = 0
        self._members = 0
        self._links: dict[str, str] = {}
        """Symbolic links to be made: their name and where they point."""
        self._made: set[str] = {self._folder}
        """Folders that are there."""

    def run(self, stream: _Plain) -> None:
        """Read the archive to its end, so that the checksum behind it is looked at too."""
        stream.allow(_HEADERS_BYTES)
        try:
            with tarfile.TarFile(fileobj=stream, errorlevel=2) as tar:  # type: ignore[arg-type]
                while (member := tar.next()) is not None:
                    self._take(tar, member, stream)
                    tar.members = []  # type: ignore[attr-defined]  # or the list of 200,000 stays in memory
                    stream.allow(_HEADERS_BYTES)
            if stream.last_read.strip(b"\0"):  # tarfile takes anything that is no header for the end
                raise tarfile.ReadError("what follows its last whole entry is no entry")
            while stream.take(_PIECE_BYTES):
                pass
        except _DAMAGE as fault:
            if self._members == 0 and isinstance(fault, tarfile.ReadError):
                raise ArchiveRefused("The model artefact is not a tar archive inside its gzip.") from fault
            raise ArchiveRefused(f"The model artefact is damaged: {_said(fault)}.") from fault

    def _take(self, tar: tarfile.TarFile, member: tarfile.TarInfo, stream: _Plain) -> None:
        self._members += 1
        self._interrupt.check()
        if self._members > self._limits.files:
            raise ArchiveRefused(f"The model artefact has more than {self._limits.files} files.")
        name = _safe_name(member.name)
        if name == ".":
            return
        path = posixpath.join(self._folder, name)
        if member.isdir():
            self._make_folder(path, name)
        elif member.isreg():
            self._write(tar, member, path, stream)
        elif member.issym():
            self._links[name] = _safe_target(name, member.linkname)
        elif member.islnk():
            self._link(member, path)
        else:
            raise ArchiveRefused(f"The model artefact has a device or a pipe in it: {shown(name)}.")

    def _make_folder(self, path: str, name: str) -> None:
        if path in self._made:
            return
        try:
            os.makedirs(path, mode=0o755, exist_ok=True)  # noqa: PTH103 - text is fast, and names may be any bytes
        except (FileExistsError, NotADirectoryError) as fault:
            raise ArchiveRefused(f"The model artefact has {shown(name)} both as a file and as a folder.") from fault
        except OSError as fault:
            raise _bad_name(name, fault) from fault
        self._made.add(path)

    def _write(self, tar: tarfile.TarFile, member: tarfile.TarInfo, path: str, stream: _Plain) -> None:
        self._bytes += member.size
        if self._bytes > self._limits.extracted_bytes:
            raise ArchiveRefused(
                f"The model artefact is larger than {self._limits.extracted_bytes} bytes when extracted."
            )
        stream.allow(member.size + _HEADERS_BYTES)
        descriptor = self._create(path, member)
        try:
            for piece in _sparse_pieces(tar, member) if member.issparse() else _pieces(stream, member.size):
                _write_all(descriptor, piece)
                self._interrupt.check()
        finally:
            os.close(descriptor)
        self._progress(self._bytes)

    def _create(self, path: str, member: tarfile.TarInfo) -> int:
        """Make the file of a member, in place of an earlier one of the same name."""
        name = member.name
        self._make_folder(posixpath.dirname(path), posixpath.dirname(name))
        mode = 0o555 if member.mode & 0o100 else 0o444
        try:
            if os.path.lexists(path):
                os.unlink(path)  # noqa: PTH108
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        except (IsADirectoryError, PermissionError) as fault:
            raise ArchiveRefused(f"The model artefact has {shown(name)} both as a file and as a folder.") from fault
        except OSError as fault:
            raise _bad_name(name, fault) from fault
        os.fchmod(descriptor, mode)  # whatever the umask is
        return descriptor

    def _link(self, member: tarfile.TarInfo, path: str) -> None:
        """Make a hard link to a file of the archive that was there before. No symbolic link exists yet."""
        original = posixpath.join(self._folder, _safe_name(member.linkname))
        if not os.path.isfile(original):  # noqa: PTH113
            wanted = shown(member.linkname)
            raise ArchiveRefused(f"The model artefact links {shown(member.name)} to {wanted}, which is not in it.")
        self._make_folder(posixpath.dirname(path), posixpath.dirname(member.name))
        if original != path:
            try:
                os.link(original, path)
            except OSError as fault:
                raise _bad_name(member.name, fault) from fault

    def finish(self) -> None:
        """Make the symbolic links, look where they really lead, and take all write permissions away."""
        for name, target in self._links.items():
            path = posixpath.join(self._folder, name)
            parent = posixpath.dirname(path)
            if os.path.realpath(parent) != parent:  # another link is above it, and may lead anywhere
                raise ArchiveRefused(f"The model artefact has a link below a link: {shown(name)}.")
            self._make_folder(parent, posixpath.dirname(name))
            try:
                os.symlink(target, path)  # noqa: PTH211
            except OSError as fault:
                raise _bad_name(name, fault) from fault
        for name in self._links:
            try:
                led = os.path.realpath(posixpath.join(self._folder, name))
            except RecursionError as fault:  # hundreds; the kernel follows 40
                raise ArchiveRefused(
                    f"The model artefact has too many links that lead to links: {shown(name)}."
                ) from fault
            if led != self._folder and not led.startswith(self._folder + "/"):
                raise ArchiveRefused(f"The model artefact has a link that leads out of it: {shown(name)}.")
        for parent, _folders, _files in os.walk(self._folder, topdown=False):
            os.chmod(parent, 0o555)  # noqa: PTH101, S103 - shared with instances, which run as other users


def _pieces(stream: _Plain, size: int) -> Iterator[memoryview]:
    """Give a member's content as it comes."""
    while size:
        piece = stream.take(size)
        if not piece:
            raise EOFError("the archive ends in the middle of a file")
        size -= len(piece)
        yield piece


def _sparse_pieces(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[memoryview]:
    """Give the content of a member of which the archive has only what is not zero."""
    content = tar.extractfile(member)
    if content is None:
        raise ArchiveRefused(f"The model artefact has no content for {shown(member.name)}.")
    with content:
        while piece := content.read(_PIECE_BYTES):
            yield memoryview(piece)


def _write_all(descriptor: int, piece: memoryview) -> None:
    while piece:
        piece = piece[os.write(descriptor, piece) :]


def _safe_name(name: str) -> str:
    """Give a member's name without ``./``; refuses what does not stay below the folder."""
    if name.startswith("/"):
        raise ArchiveRefused(f"The model artefact has an absolute name in it: {shown(name)}.")
    if "\0" in name or ".." in name.split("/"):
        raise ArchiveRefused(f"The model artefact has a name that leads out of it: {shown(name)}.")
    normal = posixpath.normpath(name)
    if normal.count("/") > MOST_DEPTH:
        raise ArchiveRefused(f"The model artefact has more than {MOST_DEPTH} folders in each other: {shown(name)}.")
    return normal


def _safe_target(name: str, target: str) -> str:
    led = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
    if not target or target.startswith("/") or "\0" in target or led.split("/")[0] == "..":
        raise ArchiveRefused(f"The model artefact has a link that leads out of it: {shown(name)} -> {shown(target)}.")
    return target


def _bad_name(name: str, fault: OSError) -> Exception:
    """Tell a name that cannot be from a disk that fails."""
    reasons = {"FileExistsError": "is there twice", "NotADirectoryError": "is both a file and a folder"}
    reason = reasons.get(type(fault).__name__)
    if reason is None and fault.errno == 36:  # ENAMETOOLONG
        reason = "has too long a name"
    return ArchiveRefused(f"The model artefact's entry {shown(name)} {reason}.") if reason else fault


def _said(fault: BaseException) -> str:
    return " ".join(str(fault).split()).rstrip(".") or type(fault).__name__
