"""Where images come from: a registry, or an archive that ``docker save`` or another tool has written. Blocks."""

import hashlib
import io
import json
import posixpath
import tarfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from moorage.engine.interrupts import Interrupt
from moorage.engine.references import Reference
from moorage.engine.registry.client import Document, RegistryClient
from moorage.engine.registry.manifests import Blob, UnusableImage, choose_manifest, read_manifest

MOST_CONFIG_BYTES = 8 * 2**20
"""Of an image's configuration; real ones have a few thousand."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A layer as it is at its source."""

    place: str
    """Digest, or name in the archive."""
    size: int


@dataclass(frozen=True, slots=True)
class Parts:
    """Of what an image consists."""

    digest: str
    """What it is known by."""
    config: bytes
    layers: tuple[Packed, ...]
    """The lowest first."""


class Source(Protocol):
    """Where one image comes from."""

    def parts(self, architecture: str, interrupt: Interrupt) -> Parts:
        """Find out of what it consists; raises RegistryFault, UnusableImage, OSError."""

    def open(
        self, layer: Packed, scratch: Path, interrupt: Interrupt, told: Callable[[int], None]
    ) -> AbstractContextManager[IO[bytes]]:
        """Give a layer's packed bytes; ``scratch`` is a file that may be made for them. Raises the same."""


class FromRegistry:
    """An image of a registry."""

    def __init__(self, client: RegistryClient, reference: Reference, top: Document) -> None:
        """``top``: what the registry has under the reference."""
        self._client = client
        self._reference = reference
        self._top = top

    def parts(self, architecture: str, interrupt: Interrupt) -> Parts:
        """Fetch manifest and configuration."""
        content = self._top.content
        if self._top.is_index:
            chosen = choose_manifest(content, architecture)
            content = self._client.manifest(self._reference, chosen.digest, interrupt).content
        manifest = read_manifest(content)
        if manifest.config.size > MOST_CONFIG_BYTES:
            raise UnusableImage("has a configuration of a size that no image needs")
        config = io.BytesIO()
        self._client.blob(self._reference, manifest.config, config, interrupt, lambda _: None)
        layers = tuple(Packed(layer.digest, layer.size) for layer in manifest.layers)
        return Parts(self._top.digest, config.getvalue(), layers)

    @contextmanager
    def open(
        self, layer: Packed, scratch: Path, interrupt: Interrupt, told: Callable[[int], None]
    ) -> Iterator[IO[bytes]]:
        """Fetch a layer."""
        with scratch.open("x+b") as file:
            self._client.blob(self._reference, Blob(layer.place, layer.size), file, interrupt, told)
            file.seek(0)
            scratch.unlink()
            yield file


class FromArchive:
    """An image of an archive."""

    def __init__(self, path: Path, name: str) -> None:
        """``name``: which image, where the archive has several."""
        self._path = path
        self._name = name

    def parts(self, architecture: str, interrupt: Interrupt) -> Parts:
        """Read what the archive says of itself: as an OCI layout, or as older container engines write it."""
        with self._opened() as archive:
            interrupt.check()
            if (index := self._read(archive, "index.json")) is not None:
                return self._parts_of_layout(archive, index, architecture)
            if (manifest := self._read(archive, "manifest.json")) is not None:
                return self._parts_of_save(archive, manifest)
        raise UnusableImage("is not in the archive: it has neither index.json nor manifest.json")

    def _parts_of_layout(self, archive: tarfile.TarFile, index: bytes, architecture: str) -> Parts:
        entry = _only("index.json", _entries(index, "manifests"), self._name, _names_of_layout)
        top = Document(self._blob(archive, str(entry.get("digest"))), str(entry.get("mediaType")))
        content = top.content
        if top.is_index:
            content = self._blob(archive, choose_manifest(content, architecture).digest)
        manifest = read_manifest(content)
        layers = tuple(Packed(_blob_name(layer.digest), layer.size) for layer in manifest.layers)
        return Parts(top.digest, self._blob(archive, manifest.config.digest), layers)

    def _parts_of_save(self, archive: tarfile.TarFile, manifest: bytes) -> Parts:
        entry = _only("manifest.json", _entries(manifest, None), self._name, lambda e: e.get("RepoTags") or [])
        config = self._read(archive, str(entry.get("Config")))
        if config is None:
            raise UnusableImage("has no configuration in the archive")
        names = entry.get("Layers")
        if not isinstance(names, list):
            raise UnusableImage("has no layers in the archive")
        layers = tuple(Packed(str(name), _member(archive, str(name)).size) for name in names)
        return Parts(_digest(config), config, layers)

    @contextmanager
    def open(
        self, layer: Packed, scratch: Path, interrupt: Interrupt, told: Callable[[int], None]
    ) -> Iterator[IO[bytes]]:
        """Read a layer where it is."""
        del scratch
        interrupt.check()
        with self._opened() as archive:
            file = archive.extractfile(_member(archive, layer.place))
            if file is None:
                raise UnusableImage("has a layer in the archive that is not a file")
            told(layer.size)
            with file:
                yield file

    @contextmanager
    def _opened(self) -> Iterator[tarfile.TarFile]:
        try:
            archive = tarfile.open(self._path, "r:*")  # noqa: SIM115 - closed below
        except tarfile.TarError as fault:
            raise UnusableImage(f"is not in {self._path}, which is not a tar archive") from fault
        with archive:
            yield archive

    def _blob(self, archive: tarfile.TarFile, digest: str) -> bytes:
        content = self._read(archive, _blob_name(digest))
        if content is None or _digest(content) != digest:
            raise UnusableImage(f"has not got {digest} in the archive, or it is damaged there")
        return content

    @staticmethod
    def _read(archive: tarfile.TarFile, name: str) -> bytes | None:
        try:
            file = archive.extractfile(name)
        except KeyError:
            return None
        if file is None:
            return None
        with file:
            content = file.read(MOST_CONFIG_BYTES + 1)
        if len(content) > MOST_CONFIG_BYTES:
            raise UnusableImage(f"has a {name} in the archive of a size that no image needs")
        return content


def _only(
    where: str, entries: list[dict[str, Any]], name: str, names_of: Callable[[dict[str, Any]], list[str]]
) -> dict[str, Any]:
    """Give the only entry, or the one of a name."""
    if len(entries) == 1:
        return entries[0]
    for entry in entries:
        if name in names_of(entry):
            return entry
    known = ", ".join(known for entry in entries for known in names_of(entry)) or "no names"
    raise UnusableImage(f"is not in the archive, whose {where} has {len(entries)} images: {known}")


def _names_of_layout(entry: dict[str, Any]) -> list[str]:
    notes = entry.get("annotations") or {}
    keys = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
    return [str(notes[key]) for key in keys if key in notes]


def _entries(content: bytes, key: str | None) -> list[dict[str, Any]]:
    try:
        found = json.loads(content)
    except ValueError as fault:
        raise UnusableImage("is described in the archive by something that is not JSON") from fault
    entries = found.get(key) if key and isinstance(found, dict) else found
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UnusableImage("has a damaged description in the archive")
    return entries


def _member(archive: tarfile.TarFile, name: str) -> tarfile.TarInfo:
    """Give a member, or the one that it is a link to: older archives have each layer once."""
    try:
        member = archive.getmember(name)
        if member.issym() or member.islnk():
            folder = "" if member.islnk() else posixpath.dirname(name)
            member = archive.getmember(posixpath.normpath(posixpath.join(folder, member.linkname)))
    except KeyError as fault:
        raise UnusableImage(f"has no {name!r} in the archive") from fault
    return member


def _blob_name(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
