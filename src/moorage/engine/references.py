"""Names of container images, purely: ``registry/repository:tag@sha256:digest``, and where they are fetched from.

The rules are Docker's: what has no registry is at Docker Hub, in ``library`` when it has no owner either; no tag means
``latest``. Users keep the URIs that they have on AWS; ``mirrored`` says where this installation fetches them from.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

HUB = "docker.io"

_PART = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    r"(?:(?P<registry>[a-zA-Z0-9.-]+(?::[0-9]+)?|\[[0-9a-f:]+\](?::[0-9]+)?)/)?"
    rf"(?P<path>{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)


class UnusableReference(ValueError):
    """A text that names no image; its text is for people."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The name of an image."""

    registry: str
    """Host, with a port where it has one."""
    path: str
    """``library/nginx``."""
    tag: str
    """Empty where there is a digest only."""
    digest: str = ""
    """``sha256:...`` or empty."""
    written: str = ""
    """The text up to tag and digest, as the user wrote it."""

    @property
    def name(self) -> str:
        """Give the registry and the path."""
        return f"{self.registry}/{self.path}"

    @property
    def version(self) -> str:
        """Give what a registry or a daemon is asked for: the digest, or else the tag."""
        return self.digest or self.tag

    def pinned(self, digest: str) -> str:
        """Give ``repository@sha256:digest``, with the repository as the user wrote it."""
        return f"{self.written}@{digest}"

    def __str__(self) -> str:
        return f"{self.name}@{self.digest}" if self.digest else f"{self.name}:{self.tag}"


def parse_reference(text: str) -> Reference:
    """Read the name of an image; raises UnusableReference."""
    match = _REFERENCE.fullmatch(text)
    if match is None:
        raise UnusableReference(f"{text!r} is not the name of an image: registry/repository:tag or ...@sha256:digest.")
    registry, path, digest = match["registry"] or "", match["path"], match["digest"] or ""
    if registry and not _is_host(registry):
        registry, path = "", f"{registry}/{path}"
    written = f"{registry}/{path}" if registry else path
    if not registry:
        path = path if "/" in path else f"library/{path}"
    tag = match["tag"] or ("" if digest else "latest")
    return Reference(registry or HUB, path, tag, digest, written)


def mirrored(reference: Reference, mirrors: Mapping[str, str]) -> Reference:
    """Say where an image is fetched from: the first mirror whose pattern its registry's host matches, or its own.

    A mirror is a host and may have a folder behind it: ``localhost:5000/team``.
    """
    for pattern, mirror in mirrors.items():
        if fnmatchcase(reference.registry, pattern):
            registry, _, folder = mirror.partition("/")
            path = f"{folder}/{reference.path}" if folder else reference.path
            return replace(reference, registry=registry, path=path)
    return reference


def _is_host(text: str) -> bool:
    """Tell a registry from the owner of a repository at Docker Hub, as Docker does."""
    return "." in text or ":" in text or text == "localhost"
