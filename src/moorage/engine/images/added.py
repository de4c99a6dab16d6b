"""Which Pythons a user has added as images: ``pythons.json`` of the data folder, which several processes may use.

A name stands for every image whose repository, or repository and tag, begin with it: ``pytorch-inference`` for all of
AWS's images of that repository in any region, ``pytorch-inference:2.3`` for those of 2.3, a whole URI for one image,
and ``my/env`` for what a user calls so. Of several names the longest counts.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from moorage.base.files import write_whole
from moorage.engine.images.names import parse
from moorage.engine.references import Reference, UnusableReference, parse_reference

_ENDS_OF_VERSIONS = ".-_+"


@dataclass(frozen=True, slots=True)
class AddedPython:
    """A Python of this machine that stands for images."""

    name: str
    python: str
    """Its absolute path, as the user gave it."""
    toolkit: str
    version: str
    """Of the Python, when it was added: ``3.11.2``."""
    framework: str
    """Package and version of what its toolkit needs, when it was added: ``torch 2.3.0``; empty: it needs nothing."""
    added: float
    """When, in seconds since the epoch."""


class AddedPythons:
    """Those of an installation."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "pythons.json"

    def all(self) -> list[AddedPython]:
        """Give all, the newest first. Reads one small file."""
        try:
            content = self._path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [AddedPython(**entry) for entry in json.loads(content)]

    def find(self, image_uri: str) -> AddedPython | None:
        """Give the one that stands for an image."""
        fitting = [entry for entry in self.all() if stands_for(entry.name, image_uri)]
        return max(fitting, key=lambda entry: len(entry.name), default=None)

    def put(self, added: AddedPython) -> None:
        """Add one, in place of another of the same name. Blocks."""
        with self._alone():
            others = [entry for entry in self.all() if entry.name != added.name]
            self._write([added, *others])

    def remove(self, name: str) -> bool:
        """Remove the one of this very name; says whether there was one. Blocks."""
        if not any(entry.name == name for entry in self.all()):
            return False
        with self._alone():
            self._write(entry for entry in self.all() if entry.name != name)
        return True

    def _write(self, entries: Iterable[AddedPython]) -> None:
        write_whole(self._path, json.dumps([asdict(entry) for entry in entries], indent=1).encode(), mode=0o644)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        path = self._path.with_name(f".{self._path.name}.lock")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def stands_for(name: str, image_uri: str) -> bool:
    """Say whether an added name stands for an image. Pure."""
    if name == image_uri:
        return True
    try:
        added, image = parse_reference(name), parse_reference(image_uri)
    except UnusableReference:
        return False
    aws = parse(image_uri)
    repositories = {image.written} if aws is None else {image.written, aws.repository}
    if added.written not in repositories or added.digest:
        return False
    return not _names_a_tag(name, added) or _begins(image.tag, added.tag)


def _names_a_tag(name: str, reference: Reference) -> bool:
    return name != reference.written


def _begins(tag: str, beginning: str) -> bool:
    rest = tag.removeprefix(beginning)
    return tag.startswith(beginning) and (not rest or rest[0] in _ENDS_OF_VERSIONS)
