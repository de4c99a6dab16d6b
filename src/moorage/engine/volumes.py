"""The disks of instances: a file each with a file system in it, encrypted where a key is named.

    data_dir/volumes/INSTANCE/note       what whoever made it wants to know after a restart
                              image      the file system, as large as the promise; takes room as it is filled
                              key        the sealed key of an encrypted one: of no use without the key ring
                              disk/      where it is mounted
                              disk/data/ what is handed to the instance; ``Volume`` says what is in it

A file system of its own is root's to make. Without a size a volume is just the folder ``disk``, which an ordinary user
can have too; then nothing bounds it but the machine's disk. The file is sparse: volumes together may promise more than
the machine has. Removing an encrypted volume removes the sealed key first: what is left on the machine's disk of
the image cannot be read by anybody.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from moorage.base.files import write_whole
from moorage.base.removal import remove_tree
from moorage.engine import fscrypt, mounts
from moorage.kms.faults import KeyUnusable

GIB = 2**30

OVERLAY = "upper"
"""Where the engine of unpacked images (``rootfs``) lays what a container writes over its image."""

_MAKE = ("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,nodiscard")
_MAKE_SECONDS = 60
_FEATURES = "^has_journal,^resize_inode"
"""What it holds is of no use after a crash of the machine: no journal. It never grows: no room for that."""

_FLAGS = mounts.MS_NOSUID | mounts.MS_NODEV | mounts.MS_NOATIME
_OPTIONS = "noinit_itable,discard"
"""Or a thread of the kernel would fill the sparse file with empty tables; what is deleted gives its room back."""

_SHUT_DOWN, _WITHOUT_FLUSH = 0x8004587D, 2
_ASIDE = "~"
"""Behind the name of an instance of an earlier run."""
_PROBE_BYTES = 16 * 2**20


class SealedKey(Protocol):
    """A key that was made for one use (``kms.ring.DataKey``)."""

    @property
    def plaintext(self) -> bytes:
        """32 bytes."""

    @property
    def sealed(self) -> bytes:
        """The same, which only the key ring can open."""


class Keys(Protocol):
    """What is needed of a key ring (``kms.ring.KeyRing``)."""

    def data_key(self, key: str, context: Mapping[str, str]) -> SealedKey:
        """Make a key under the key of an id, alias or ARN; raises KeyUnusable."""

    def open(self, sealed: bytes, context: Mapping[str, str]) -> bytes:
        """Give the key that was sealed; raises KeyUnusable."""


class VolumeRefused(Exception):
    """This machine cannot keep what is promised of a volume; the text is for people."""


class VolumeLocked(VolumeRefused):
    """The key of a volume cannot be used now: it may be enabled again, so another try is worth it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a volume is to be."""

    size_bytes: int | None
    """None: not bounded."""
    key: str | None = None
    """Id, alias or ARN of the key that it is encrypted with."""
    note: bytes = b""
    """Kept with it."""


@dataclass(frozen=True, slots=True)
class Volume:
    """An instance's disk."""

    folder: Path
    """For the engine: all that the instance may write is below."""

    @property
    def temporary(self) -> Path:
        """The instance's ``/tmp``, where it works."""
        return self.folder / "tmp"

    @property
    def model(self) -> Path:
        """Its model folder when it has no model data."""
        return self.folder / "model"

    @property
    def artifacts(self) -> Path:
        """Where its model data is extracted to, when it must not be elsewhere."""
        return self.folder / "artifacts"

    @property
    def cores(self) -> Path:
        """Core files that were found and are out of the instance's reach."""
        return self.folder / "cores"

    def part(self, name: str) -> "Volume":
        """Give one of several containers its own part of the disk, made on first need; blocks."""
        self._parts.mkdir(mode=0o755, exist_ok=True)
        part = Volume(self._parts / name)
        return part if part.folder.is_dir() else _lay_out(part.folder)

    @property
    def _parts(self) -> Path:
        return self.folder / "parts"

    def writable(self, *, still: bool = False) -> list[Path]:
        """Give the folders that the instance can write to: those above, and what its engine has added.

        ``still``: it lives, and out of an overlay's folder nothing may be moved while that is mounted.
        """
        own = {self.artifacts, self.cores, self._parts} | ({self.folder / OVERLAY} if still else set())
        found = [path for path in self.folder.iterdir() if path not in own and path.is_dir() and not path.is_symlink()]
        parts = [Volume(path) for path in self._parts.iterdir()] if self._parts.is_dir() else []
        return [*found, *(path for part in parts for path in part.writable(still=still))]


class Volumes:
    """The volumes of one installation on this machine. Its methods block."""

    def __init__(self, folder: Path, keys: Keys) -> None:
        self._folder = folder
        self._keys = keys
        self._identifiers: dict[str, bytes] = {}
        """Of the keys that are in the kernel."""

    def prepare(self) -> None:
        """Make the folder; unmount what a killed node agent has left, and put it aside. Raises OSError.

        Its instances are started anew under the same names, and are not to wait until what was left is gone.
        """
        mounts.unmount_below(self._folder)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in self.names():
            if _ASIDE not in name:
                (self._folder / name).rename(self._folder / f"{name}{_ASIDE}{secrets.token_hex(4)}")

    def close(self) -> None:
        """Unmount everything."""
        mounts.unmount_below(self._folder)

    def names(self) -> list[str]:
        """Name the volumes that are here: by their instances; what was put aside by a name of its own."""
        return sorted(path.name for path in self._folder.iterdir()) if self._folder.is_dir() else []

    def has(self, name: str) -> bool:
        """Say whether an instance has a volume here."""
        return (self._folder / name).is_dir()

    def note(self, name: str) -> bytes:
        """Give what was kept with a volume; empty when it was never finished."""
        try:
            return (self._folder / name / "note").read_bytes()
        except OSError:
            return b""

    def make(self, name: str, wanted: Wanted) -> Volume:
        """Make an instance's volume; raises VolumeRefused, OSError (the machine's disk is full), leaving nothing."""
        place = self._folder / name
        place.mkdir(mode=0o700)
        try:
            (place / "disk").mkdir(mode=0o755)
            if wanted.size_bytes is not None:
                self._make_disk(name, wanted.size_bytes, wanted.key)
            volume = _lay_out(place / "disk" / "data")
            write_whole(place / "note", wanted.note, durable=False)
        except BaseException:
            self.remove(name)
            raise
        return volume

    def _make_disk(self, name: str, size_bytes: int, key: str | None) -> None:
        place = self._folder / name
        disk = place / "disk"
        sealed = self._make_key(name, key) if key else None
        _make_image(place / "image", size_bytes, encrypted=sealed is not None)
        mounts.mount_image(place / "image", disk, "ext4", _FLAGS, _OPTIONS)
        (disk / "data").mkdir(mode=0o755)
        if sealed:
            (place / "key").write_bytes(sealed.sealed)
            self._identifiers[name] = _encrypt(disk, sealed.plaintext)

    def open(self, name: str) -> Volume:
        """Mount the volume of an earlier run again; raises VolumeRefused, OSError."""
        place = self._folder / name
        if (place / "image").exists() and not os.path.ismount(place / "disk"):
            mounts.mount_image(place / "image", place / "disk", "ext4", _FLAGS, _OPTIONS)
        if (place / "key").exists() and name not in self._identifiers:
            self._identifiers[name] = fscrypt.add_key(place / "disk", self._open_key(name))
        return Volume(place / "disk" / "data")

    def remove(self, name: str) -> None:
        """Remove a volume and all that is on it; nothing happens when there is none."""
        place = self._folder / name
        (place / "key").unlink(missing_ok=True)
        identifier = self._identifiers.pop(name, None)
        if os.path.ismount(place / "disk"):
            with contextlib.suppress(OSError):
                _stop_writing(place / "disk")
            if identifier:
                with contextlib.suppress(OSError):
                    fscrypt.remove_key(place / "disk", identifier)
            mounts.unmount(place / "disk")
        remove_tree(place)

    def _make_key(self, name: str, key: str) -> SealedKey:
        try:
            return self._keys.data_key(key, _context(name))
        except KeyUnusable as fault:
            raise VolumeLocked(f"The volume cannot be encrypted with the key {key}: {fault}") from fault

    def _open_key(self, name: str) -> bytes:
        try:
            return self._keys.open((self._folder / name / "key").read_bytes(), _context(name))
        except KeyUnusable as fault:
            raise VolumeLocked(f"The volume of {name} cannot be read: {fault}") from fault


def unmount_volumes(data_dir: Path) -> None:
    """Unmount what an installation that was killed has left mounted, so that its folder can go."""
    mounts.unmount_below(volumes_folder(data_dir))


def volumes_folder(data_dir: Path) -> Path:
    """Say where the volumes of an installation are."""
    return data_dir / "volumes"


def why_not_bounded() -> str:
    """Say why an instance's disk cannot be bounded on this machine; empty when it can. Tries it; blocks."""
    return _try(encrypted=False)


def why_not_encrypted() -> str:
    """Say why an instance's disk cannot be encrypted on this machine; empty when it can. Tries it; blocks."""
    return _try(encrypted=True)


def _try(*, encrypted: bool) -> str:
    if os.geteuid() != 0:
        return "only root can mount a file system that lies in a file"
    with tempfile.TemporaryDirectory(prefix="moorage-probe-") as folder:
        image, disk = Path(folder, "image"), Path(folder, "disk")
        disk.mkdir()
        try:
            _make_image(image, _PROBE_BYTES, encrypted=encrypted)
            mounts.mount_image(image, disk, "ext4", _FLAGS, _OPTIONS)
            (disk / "data").mkdir()
            if encrypted:
                _encrypt(disk, os.urandom(fscrypt.KEY_BYTES))
            (disk / "data" / "written").write_bytes(b"x")
        except VolumeRefused as fault:
            return str(fault)
        except OSError as fault:
            return f"a file system in a file cannot be had here ({fault.strerror or fault})"
        finally:
            mounts.unmount_below(disk)
    return ""


def _make_image(image: Path, size_bytes: int, *, encrypted: bool) -> None:
    with image.open("xb") as file:
        file.truncate(size_bytes)
    program = shutil.which(_MAKE[0], path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        raise VolumeRefused("mkfs.ext4 is not installed (package e2fsprogs)")
    features = _FEATURES + (",encrypt" if encrypted else "")
    command = [program, *_MAKE[1:], "-O", features, str(image)]
    made = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_MAKE_SECONDS, text=True
    )
    if made.returncode != 0:
        said = made.stderr.strip().splitlines()
        full = "No space left" in made.stderr
        raise OSError(errno.ENOSPC if full else errno.EIO, said[-1] if said else "mkfs.ext4 failed")


def _encrypt(disk: Path, key: bytes) -> bytes:
    try:
        identifier = fscrypt.add_key(disk, key)
        fscrypt.encrypt(disk / "data", identifier)
    except OSError as fault:
        if fault.errno not in {errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOPKG}:
            raise
        raise VolumeRefused("ext4 of this kernel has no encryption (CONFIG_FS_ENCRYPTION)") from fault
    return identifier


def _lay_out(folder: Path) -> Volume:
    volume = Volume(folder)
    folder.mkdir(mode=0o755, exist_ok=True)
    for path, mode in ((volume.temporary, 0o1777), (volume.model, 0o1777), (volume.cores, 0o700)):
        path.mkdir()
        path.chmod(mode)  # whatever the umask is
    return volume


def _stop_writing(disk: Path) -> None:
    """Forget what has not been written yet: it would be written to a file that is about to go."""
    descriptor = os.open(disk, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, _SHUT_DOWN, _WITHOUT_FLUSH.to_bytes(4, "little"))
    finally:
        os.close(descriptor)


def _context(name: str) -> dict[str, str]:
    return {"moorage:instance": name.partition(_ASIDE)[0]}
