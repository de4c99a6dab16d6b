"""Core files: found in the folders where an instance works, read as far as is needed to name them, taken out of reach.

The kernel writes one into the working folder of the process that crashes, under a name that ``core_pattern`` gives
(core(5)). Where that names a program or a folder of the machine, cores go there, and nobody can hand them to a model's
owner: ``why_not_found`` says so. The content is the model's word: nothing in it is believed but as text for people.
"""

import contextlib
import errno
import fcntl
import os
import re
import signal
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_ELF_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_NOTE_HEADER = struct.Struct("<III")
_CORE, _NOTE = 4, 4
"""ET_CORE, PT_NOTE of elf.h."""
_STATUS, _PROCESS = 1, 3
"""NT_PRSTATUS, NT_PRPSINFO."""
_SIGNAL_AT, _PID_AT, _NAME_AT, _NAME_BYTES = 12, 24, 40, 16
"""Where they say which signal, which process and what name; the same on all 64-bit machines."""
_NOTES_BYTES = 2**20
_HEADERS = 65535
_MOST_ENTRIES = 100_000
"""Of folders that are looked through for core files."""
_KERNEL_FOLDER = Path("/proc/sys/kernel")


@dataclass(frozen=True, slots=True)
class Core:
    """A core file."""

    path: Path
    pid: int
    """As the instance knew the process."""
    program: str
    """Name of the process, fit for an object's key."""
    signal: str
    """``SIGSEGV`` and the like."""
    written_at: int
    """Seconds since the epoch."""

    @property
    def name(self) -> str:
        """Name of the object (data-plane.md section 7.8)."""
        return f"core.{self.program}.{self.pid}.{self.written_at}"

    def __str__(self) -> str:
        return f"core dump of process {self.pid} ({self.signal})"


def why_not_found(folder: Path = _KERNEL_FOLDER) -> str:
    """Say why core files do not come to the working folder on this machine; empty when they do."""
    pattern = _pattern(folder)
    if pattern.startswith("|"):
        return f"the kernel hands core files to a program (core_pattern {pattern})"
    return f"the kernel writes core files elsewhere (core_pattern {pattern})" if "/" in pattern else ""


def file_names(folder: Path = _KERNEL_FOLDER) -> "re.Pattern[str]":
    """Give what the names of core files look like on this machine."""
    parts = [re.escape(part) for part in re.split(r"%.", _pattern(folder))]
    return re.compile(".*".join(parts) + r"(\.\d+)?", re.DOTALL)


def _pattern(folder: Path) -> str:
    return (folder / "core_pattern").read_text(encoding="utf-8", errors="surrogateescape").strip()


def take(working: Path, into: Path, names: "re.Pattern[str]", *, below: bool = False) -> list[Core]:
    """Move the finished core files of a working folder to where the instance cannot reach them.

    Both are of one file system: nothing is copied. One that the kernel still writes is left for the next time. Folders
    ``below`` are looked into as well, up to a bound. Blocks.
    """
    found = []
    looked, folders = 0, [working]
    while folders and looked < _MOST_ENTRIES:
        with contextlib.suppress(OSError), os.scandir(folders.pop(0)) as entries:
            for entry in entries:
                looked += 1
                if below and entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))
                elif names.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    with contextlib.suppress(OSError):
                        found.append(_take_one(Path(entry.path), into))
    return [core for core in found if core is not None]


def taken(folder: Path) -> list[Core]:
    """Give the core files that ``take`` has moved there, also those of an earlier run. Blocks."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for path in sorted(folder.iterdir()):
            with contextlib.suppress(OSError), _opened(path) as descriptor:
                found.append(_read(descriptor, path))
    return [core for core in found if core is not None]


def _take_one(path: Path, into: Path) -> Core | None:
    with _opened(path) as descriptor:
        if not _is_finished(descriptor) or (core := _read(descriptor, path)) is None:
            return None
    number, target = 0, into / core.name
    while target.exists():
        number += 1
        target = into / f"{core.name}-{number}"
    path.rename(target)
    return Core(target, core.pid, core.program, core.signal, core.written_at)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _is_finished(descriptor: int) -> bool:
    """Say whether nobody has the file open for writing: then, and only then, a lease to read it can be had."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as fault:
        if fault.errno == errno.EAGAIN:
            return False
        raise
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return True


def _read(descriptor: int, path: Path) -> Core | None:
    """Read whose core file it is; None when it is none."""
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode):
        return None
    notes = _read_notes(descriptor)
    if _STATUS not in notes or _PROCESS not in notes:
        return None
    try:
        (number,) = struct.unpack_from("<h", notes[_STATUS], _SIGNAL_AT)
        (pid,) = struct.unpack_from("<i", notes[_PROCESS], _PID_AT)
    except struct.error:
        return None
    name = notes[_PROCESS][_NAME_AT : _NAME_AT + _NAME_BYTES].partition(b"\0")[0].decode(errors="replace")
    program = re.sub(r"[^A-Za-z0-9._-]", "_", name) or "unknown"
    return Core(path, pid, program, _signal_name(number), int(about.st_mtime))


def _read_notes(descriptor: int) -> dict[int, bytes]:
    """Give the first note of each kind; none when the file is no core file of a 64-bit machine."""
    header = os.pread(descriptor, _ELF_HEADER.size, 0)
    if len(header) < _ELF_HEADER.size:
        return {}
    identity, kind, _machine, _, _, headers_at, _, _, _, size, count, _, _, _ = _ELF_HEADER.unpack(header)
    if identity[:6] != b"\x7fELF\x02\x01" or kind != _CORE or size != _PROGRAM_HEADER.size:
        return {}
    for number in range(min(count, _HEADERS)):
        raw = os.pread(descriptor, _PROGRAM_HEADER.size, min(headers_at + number * size, 2**62))
        if len(raw) < _PROGRAM_HEADER.size:
            return {}
        kind, _, offset, _, _, length, _, _ = _PROGRAM_HEADER.unpack(raw)
        if kind == _NOTE:
            return _parse_notes(os.pread(descriptor, min(length, _NOTES_BYTES), min(offset, 2**62)))
    return {}


def _parse_notes(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    position = 0
    while position + _NOTE_HEADER.size <= len(data):
        name_bytes, content_bytes, kind = _NOTE_HEADER.unpack_from(data, position)
        start = position + _NOTE_HEADER.size + _aligned(name_bytes)
        if data[position + _NOTE_HEADER.size :][:4] == b"CORE":
            found.setdefault(kind, data[start : start + content_bytes])
        position = start + _aligned(content_bytes)
    return found


def _aligned(count: int) -> int:
    return (count + 3) // 4 * 4


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
