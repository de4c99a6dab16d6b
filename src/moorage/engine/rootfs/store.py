"""The unpacked images of an installation, in ``data_dir/images``. Several processes may use it at once.

    layers/HEX/fs       a layer, unpacked once for all images and instances that have it, never changed
    known/HEX.json      an image: its configuration and its layers
    names/HEX.json      what a name stands for

``build_once`` makes layers whole or not at all. A lock for the whole store keeps what an image is put together from
from being removed meanwhile; a lock for each image keeps it while containers of it run. Locks are the kernel's
(``flock``) and end with their process.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from moorage.engine.built_folder import clear_unfinished, remove_built
from moorage.engine.references import Reference


class ImageInUse(Exception):
    """An image cannot be removed now; the text is for people."""


@dataclass(frozen=True, slots=True)
class KnownImage:
    """An image that is here."""

    digest: str
    """``sha256:...`` that it is known by: of its manifest or index; of its configuration when it has none."""
    layers: tuple[str, ...]
    """``sha256:...`` of their tars, the lowest first."""
    entrypoint: tuple[str, ...]
    environment: dict[str, str]
    folder: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    unpacked_bytes: int = 0
    labels: dict[str, str] | None = None
    """None: not known, since an older version has noted the image."""

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> "KnownImage":
        """Read the JSON form."""
        sequences = {name: tuple(message[name]) for name in ("layers", "entrypoint", "groups")}
        return cls(**{**message, **sequences})


@dataclass(frozen=True, slots=True)
class NamedImage:
    """A name and what it stands for."""

    name: str
    """As it was written: ``repository:tag``."""
    digest: str
    added: float
    """When, in seconds since the epoch."""
    pinned: bool
    """Given as an archive: no registry is asked what the name stands for."""


class ImageStore:
    """The images in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def clear_unfinished(self) -> None:
        """Remove what was being unpacked when somebody was killed. Blocks."""
        clear_unfinished(self.folder / "layers")

    def layer(self, diff_id: str) -> Path:
        """Say where a layer is, or would be; its files are in ``fs`` below."""
        return self.folder / "layers" / _hex(diff_id)

    def layers(self, image: KnownImage) -> list[Path]:
        """Give the folders of an image's files, the topmost first."""
        return [self.layer(diff_id) / "fs" for diff_id in reversed(image.layers)]

    def find(self, digest: str) -> KnownImage | None:
        """Give an image that is here, with all its layers."""
        message = _read(self.folder / "known" / f"{_hex(digest)}.json")
        image = KnownImage.from_message(message) if message else None
        return image if image is not None and all(folder.is_dir() for folder in self.layers(image)) else None

    def find_name(self, reference: Reference) -> NamedImage | None:
        """Give what a name stands for here."""
        message = _read(self._name(reference))
        return NamedImage(**message) if message else None

    def put(self, image: KnownImage, reference: Reference | None, *, now: float, pinned: bool) -> None:
        """Note an image whose layers are here, and its name if it has one."""
        _write(self.folder / "known" / f"{_hex(image.digest)}.json", asdict(image))
        if reference is not None:
            name = NamedImage(f"{reference.written}:{reference.tag}", image.digest, now, pinned)
            _write(self._name(reference), asdict(name))

    def names(self) -> list[NamedImage]:
        """Give all names, the newest first."""
        found = [NamedImage(**message) for path in self.folder.glob("names/*.json") if (message := _read(path))]
        return sorted(found, key=lambda name: (-name.added, name.name))

    def remove(self, reference: Reference) -> bool:
        """Remove a name, and what no other name and no container needs. Says whether there was one.

        Raises ImageInUse when containers of it run, or an image is being added.
        """
        named = self.find_name(reference)
        if named is None:
            return False
        with self._locked(fcntl.LOCK_EX, "An image is just being added: try again when it is there."):
            others = [name for name in self.names() if name.name != named.name]
            if all(name.digest != named.digest for name in others):
                in_use = f"{named.name} is in use: delete the endpoints that run it first."
                with self._holding(named.digest, fcntl.LOCK_EX, in_use):
                    (self.folder / "known" / f"{_hex(named.digest)}.json").unlink(missing_ok=True)
                self._hold_path(named.digest).unlink(missing_ok=True)
            self._name(reference).unlink()
            self._sweep()
        return True

    def _sweep(self) -> None:
        """Remove images without a name that nobody runs, and layers that are no image's."""
        named = {_hex(name.digest) for name in self.names()}
        needed: set[str] = set()
        for path in self.folder.glob("known/*.json"):
            if path.stem not in named and self._is_idle(path.stem):
                path.unlink()
            elif message := _read(path):
                needed.update(_hex(layer) for layer in message["layers"])
        for folder in self.folder.glob("layers/*"):
            if not folder.name.startswith(".") and folder.name not in needed:
                remove_built(folder)

    def _is_idle(self, name: str) -> bool:
        try:
            with self._holding(f"sha256:{name}", fcntl.LOCK_EX, ""):
                return True
        except ImageInUse:
            return False

    def hold_all(self) -> int:
        """Keep what is here from being removed, while an image is added; gives a descriptor to be closed at the end.

        Waits for a removal that is under way.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return _lock(self.folder / ".lock", fcntl.LOCK_SH)

    def hold(self, digest: str) -> int:
        """Keep an image from being removed; gives a descriptor to be closed when it may be."""
        return _lock(self._hold_path(digest), fcntl.LOCK_SH)

    def _hold_path(self, digest: str) -> Path:
        return self.folder / "known" / f".{_hex(digest)}.lock"

    @contextmanager
    def _holding(self, digest: str, kind: int, refusal: str) -> Iterator[None]:
        with _lock_of(self._hold_path(digest), kind | fcntl.LOCK_NB, refusal):
            yield

    @contextmanager
    def _locked(self, kind: int, refusal: str) -> Iterator[None]:
        with _lock_of(self.folder / ".lock", kind | (fcntl.LOCK_NB if refusal else 0), refusal):
            yield

    def _name(self, reference: Reference) -> Path:
        key = f"{reference.name}:{reference.tag}"
        return self.folder / "names" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


@contextmanager
def _lock_of(path: Path, kind: int, refusal: str) -> Iterator[None]:
    try:
        descriptor = _lock(path, kind)
    except BlockingIOError as fault:
        raise ImageInUse(refusal) from fault
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(path: Path, kind: int) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, kind)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def size_of(folder: Path) -> int:
    """Count the bytes that a folder's files take on the disk. Blocks."""
    return sum(
        os.lstat(os.path.join(parent, name)).st_blocks * 512  # noqa: PTH118 - os.walk gives text
        for parent, _folders, files in os.walk(folder)
        for name in files
    )


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return found


def _write(path: Path, message: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(json.dumps(message), encoding="utf-8")
    unfinished.rename(path)
