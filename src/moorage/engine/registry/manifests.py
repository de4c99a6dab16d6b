"""What a registry says of an image, read purely: index, manifest, configuration (OCI image-spec v1, Docker schema 2).

All of it comes from strangers: what is not as it should be raises UnusableImage.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

INDEX_KINDS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFEST_KINDS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MOST_LAYERS = 500
"""Of overlayfs; container engines stop at 127."""

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le", "s390x": "s390x", "riscv64": "riscv64"}
"""What the kernel calls them, and what images do."""


class UnusableImage(Exception):
    """An image is not as it should be, or not for this machine; the text is for people."""


@dataclass(frozen=True, slots=True)
class Blob:
    """One thing that an image consists of."""

    digest: str
    """``sha256:...`` of its bytes."""
    size: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """Of what an image consists."""

    config: Blob
    layers: tuple[Blob, ...]
    """The lowest first."""


@dataclass(frozen=True, slots=True)
class Config:
    """How an image wants to be run, and what its layers are when they are unpacked."""

    diff_ids: tuple[str, ...]
    """``sha256:...`` of each layer's tar, the lowest first."""
    entrypoint: tuple[str, ...]
    environment: Mapping[str, str]
    folder: str
    """WORKDIR."""
    user: str
    """USER: ``name``, ``uid``, ``name:group``, ``uid:gid``; empty: root."""
    labels: Mapping[str, str] = field(default_factory=dict)


def architecture_of(machine: str) -> str:
    """Give what images call an architecture that ``uname`` calls so."""
    return _ARCHITECTURES.get(machine, machine)


def choose_manifest(index: bytes, architecture: str) -> Blob:
    """Give the manifest of an index that is for Linux on this architecture."""
    entries = [entry for entry in _list(_object(index).get("manifests")) if isinstance(entry, dict)]
    platforms = []
    for entry in entries:
        platform = entry.get("platform") or {}
        if platform.get("os") == "linux" and platform.get("architecture") == architecture:
            return _blob(entry)
        platforms.append(f"{platform.get('os')}/{platform.get('architecture')}")
    if len(entries) == 1 and "platform" not in entries[0]:  # of an archive: the configuration says what it is for
        return _blob(entries[0])
    real = [platform for platform in platforms if "unknown" not in platform and "None" not in platform]
    raise UnusableImage(f"is not for linux/{architecture}, only for {', '.join(real) or 'nothing that is known'}")


def read_manifest(content: bytes) -> Manifest:
    """Read the manifest of an image."""
    document = _object(content)
    if document.get("schemaVersion") != 2:
        raise UnusableImage("has a manifest of a schema that is long out of use; push it anew")
    layers = _list(document.get("layers"))
    if any(_is_foreign(layer) for layer in layers):
        raise UnusableImage("has layers that are somewhere else than its registry")
    if len(layers) > _MOST_LAYERS:
        raise UnusableImage(f"has more than {_MOST_LAYERS} layers")
    return Manifest(_blob(document.get("config")), tuple(_blob(layer) for layer in layers))


def read_config(content: bytes, architecture: str) -> Config:
    """Read the configuration of an image, which must be for Linux on this architecture."""
    document = _object(content)
    found = f"{document.get('os', 'linux')}/{document.get('architecture', architecture)}"
    if found != f"linux/{architecture}":
        raise UnusableImage(f"is for {found}, and this machine is linux/{architecture}")
    config = document.get("config") or {}
    diff_ids = tuple(_digest(entry) for entry in _list((document.get("rootfs") or {}).get("diff_ids")))
    return Config(
        diff_ids=diff_ids,
        entrypoint=_words(config.get("Entrypoint")),
        environment=_variables(_words(config.get("Env"))),
        folder=str(config.get("WorkingDir") or "/"),
        user=str(config.get("User") or ""),
        labels={str(name): str(value) for name, value in (config.get("Labels") or {}).items()},
    )


def _variables(lines: tuple[str, ...]) -> dict[str, str]:
    return {name: value for name, _, value in (line.partition("=") for line in lines) if name}


def _words(found: Any) -> tuple[str, ...]:
    words = _list(found or [])
    if not all(isinstance(word, str) and "\0" not in word for word in words):
        raise UnusableImage("has a damaged configuration")
    return tuple(words)


def _is_foreign(layer: Any) -> bool:
    return isinstance(layer, dict) and bool(layer.get("urls")) and "foreign" in str(layer.get("mediaType"))


def _blob(found: Any) -> Blob:
    if not isinstance(found, dict) or type(found.get("size")) is not int or found["size"] < 0:
        raise UnusableImage("has a damaged manifest")
    return Blob(_digest(found.get("digest")), found["size"])


def _digest(found: Any) -> str:
    if not isinstance(found, str) or not _DIGEST.fullmatch(found):
        raise UnusableImage("names a part by something else than its sha256")
    return found


def _object(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError as fault:
        raise UnusableImage("is described by something that is not JSON") from fault
    if not isinstance(found, dict):
        raise UnusableImage("is described by something that is not an object of JSON")
    return found


def _list(found: Any) -> list[Any]:
    if not isinstance(found, list):
        raise UnusableImage("has a damaged description")
    return found
