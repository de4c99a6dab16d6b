"""Extracts a model artefact (``.tar.gz``) that may be hostile (data-plane.md section 7.3).

Nothing is written outside the given folder, and never through a link: files and folders come first, symbolic links are
made at the end and must lead to somewhere inside the folder. Devices, pipes, absolute names and names with ``..`` are
refused; owners, setuid bits and write permissions are not taken over. Sizes are counted on the decompressed bytes,
so that a bomb ends at the limit and not with the disk.
"""

import gzip
import os
import posixpath
import tarfile
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_PIECE_BYTES = 2**20
_HEADERS_BYTES = 16 * 2**20
"""Most bytes between two members' contents: headers and their extensions, and the padding at the end."""

_GZIP = b"\x1f\x8b"
_DAMAGE = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError, OverflowError)


class ArchiveRefused(Exception):
    """The archive is not what it should be; the text is one sentence for people."""


class Interrupted(Exception):
    """The extraction was told to end."""


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """Where an extraction ends."""

    extracted_bytes: int
    files: int


def extract(
    source: Path, folder: Path, limits: ArchiveLimits, interrupt: threading.Event, progress: Callable[[int], None]
) -> None:
    """Extract an archive into an empty folder and make all of it read-only. Blocks; run it in a thread.

    ``progress`` is told the extracted bytes so far. Raises ArchiveRefused; Interrupted once ``interrupt`` is set;
    OSError when the disk fails or is full.
    """
    with source.open("rb") as file:
        if file.read(2) != _GZIP:
            raise ArchiveRefused("The model artefact is not a gzip archive (.tar.gz).")
        file.seek(0)
        extraction = _Extraction(folder, limits, interrupt, progress)
        with gzip.GzipFile(fileobj=file) as plain:
            extraction.run(_Metered(plain))
    extraction.finish()


class _Metered:
    """A stream that gives no more bytes than were allowed, whatever a header claims."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream = stream
        self._left = 0

    def allow(self, count: int) -> None:
        self._left = count

    def read(self, count: int) -> bytes:
        try:
            data = self._stream.read(count)
        except OSError as fault:  # gzip says so of damage; the disk's own faults have a number
            if fault.errno is not None:
                raise
            raise ArchiveRefused(f"The model artefact is damaged: {_said(fault)}.") from fault
        self._left -= len(data)
        if self._left < 0:
            raise ArchiveRefused("The model artefact has more header data than an archive can need.")
        return data


class _Extraction:
    """One run over an archive."""

    def __init__(
        self, folder: Path, limits: ArchiveLimits, interrupt: threading.Event, progress: Callable[[int], None]
    ) -> None:
        self._folder = os.path.realpath(folder)
        self._limits = limits
        self._interrupt = interrupt
        self._progress = progress
        self._bytes = 0
        self._members = 0
        self._links: dict[str, str] = {}
        """Symbolic links to be made: their name and where they point."""

    def run(self, stream: _Metered) -> None:
        """Read the archive to its end, so that the checksum behind it is looked at too."""
        stream.allow(_HEADERS_BYTES)
        try:
            with tarfile.open(fileobj=stream, mode="r|", errorlevel=2) as tar:  # type: ignore[call-overload]
                for member in tar:
                    self._take(tar, member, stream)
                    tar.members = []  # or the list of 200,000 stays in memory
                    stream.allow(_HEADERS_BYTES)
            while stream.read(_PIECE_BYTES):
                pass
        except _DAMAGE as fault:
            if self._members == 0 and isinstance(fault, tarfile.ReadError):
                raise ArchiveRefused("The model artefact is not a tar archive inside its gzip.") from fault
            raise ArchiveRefused(f"The model artefact is damaged: {_said(fault)}.") from fault

    def _take(self, tar: tarfile.TarFile, member: tarfile.TarInfo, stream: _Metered) -> None:
        self._members += 1
        if self._interrupt.is_set():
            raise Interrupted
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
            raise ArchiveRefused(f"The model artefact has a device or a pipe in it: {_shown(name)}.")

    def _make_folder(self, path: str, name: str) -> None:
        try:
            os.makedirs(path, mode=0o755, exist_ok=True)  # noqa: PTH103 - text is fast, and names may be any bytes
        except (FileExistsError, NotADirectoryError) as fault:
            raise ArchiveRefused(f"The model artefact has {_shown(name)} both as a file and as a folder.") from fault

    def _write(self, tar: tarfile.TarFile, member: tarfile.TarInfo, path: str, stream: _Metered) -> None:
        self._bytes += member.size
        if self._bytes > self._limits.extracted_bytes:
            raise ArchiveRefused(
                f"The model artefact is larger than {self._limits.extracted_bytes} bytes when extracted."
            )
        content = tar.extractfile(member)
        if content is None:
            raise ArchiveRefused(f"The model artefact has no content for {_shown(member.name)}.")
        stream.allow(member.size + _HEADERS_BYTES)
        descriptor = self._create(path, member)
        with content, os.fdopen(descriptor, "wb") as file:
            left = member.size
            while left:
                piece = content.read(min(left, _PIECE_BYTES))
                if not piece:
                    raise EOFError("the archive ends in the middle of a file")
                file.write(piece)
                left -= len(piece)
                if self._interrupt.is_set():
                    raise Interrupted
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
            raise ArchiveRefused(f"The model artefact has {_shown(name)} both as a file and as a folder.") from fault
        except OSError as fault:
            raise _bad_name(name, fault) from fault
        os.fchmod(descriptor, mode)  # whatever the umask is
        return descriptor

    def _link(self, member: tarfile.TarInfo, path: str) -> None:
        """Make a hard link to a file of the archive that was there before. No symbolic link exists yet."""
        original = posixpath.join(self._folder, _safe_name(member.linkname))
        if not os.path.isfile(original):  # noqa: PTH113
            wanted = _shown(member.linkname)
            raise ArchiveRefused(f"The model artefact links {_shown(member.name)} to {wanted}, which is not in it.")
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
                raise ArchiveRefused(f"The model artefact has a link below a link: {_shown(name)}.")
            self._make_folder(parent, posixpath.dirname(name))
            try:
                os.symlink(target, path)  # noqa: PTH211
            except OSError as fault:
                raise _bad_name(name, fault) from fault
        for name in self._links:
            led = os.path.realpath(posixpath.join(self._folder, name))
            if led != self._folder and not led.startswith(self._folder + "/"):
                raise ArchiveRefused(f"The model artefact has a link that leads out of it: {_shown(name)}.")
        for parent, _folders, _files in os.walk(self._folder, topdown=False):
            os.chmod(parent, 0o555)  # noqa: PTH101, S103 - shared with instances, which run as other users


def _safe_name(name: str) -> str:
    """Give a member's name without ``./``; refuses what does not stay below the folder."""
    if name.startswith("/"):
        raise ArchiveRefused(f"The model artefact has an absolute name in it: {_shown(name)}.")
    if "\0" in name or ".." in name.split("/"):
        raise ArchiveRefused(f"The model artefact has a name that leads out of it: {_shown(name)}.")
    return posixpath.normpath(name)


def _safe_target(name: str, target: str) -> str:
    led = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
    if not target or target.startswith("/") or "\0" in target or led.split("/")[0] == "..":
        raise ArchiveRefused(f"The model artefact has a link that leads out of it: {_shown(name)} -> {_shown(target)}.")
    return target


def _bad_name(name: str, fault: OSError) -> Exception:
    """Tell a name that cannot be from a disk that fails."""
    reasons = {"FileExistsError": "is there twice", "NotADirectoryError": "is both a file and a folder"}
    reason = reasons.get(type(fault).__name__)
    if reason is None and fault.errno == 36:  # ENAMETOOLONG
        reason = "has too long a name"
    return ArchiveRefused(f"The model artefact's entry {_shown(name)} {reason}.") if reason else fault


def _shown(name: str) -> str:
    """Make a name of any bytes fit for one line of text."""
    return ascii(name if len(name) <= 200 else name[:200] + "...")[1:-1]


def _said(fault: BaseException) -> str:
    return " ".join(str(fault).split()).rstrip(".") or type(fault).__name__
