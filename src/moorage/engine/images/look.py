"""Looks at a Python of this machine: whether it runs, what it has, and what an instance must see of it.

It is asked by ``facts.py``, and again only when its folders have changed: an answer takes a tenth of a second.
"""

import asyncio
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moorage.engine.commands import Command, run_plainly
from moorage.engine.images.added import AddedPython
from moorage.engine.images.builtin import FRAMEWORKS, SERVING_VERSION, Framework, of_repository, of_toolkit
from moorage.engine.images.names import parse
from moorage.engine.references import parse_reference

OLDEST_PYTHON = (3, 10)
"""What the built-in server (``serving``) runs on."""

LOOK_SECONDS = 60.0
"""For an answer, also from a cold disk."""

_SCRIPT = Path(__file__).with_name("facts.py")
_ALSO = ("pip",)
_TRIED_LINES = 8

_SUPERSEDES = {
    "huggingface": ("pytorch", "sklearn"),
    "pytorch": ("sklearn",),
    "xgboost": ("sklearn",),
    "onnx": ("sklearn",),
}
"""By toolkit: those whose packages are often beside its own."""


class PythonUnusable(Exception):
    """A Python cannot stand for an image; the text is for people."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a Python is and has."""

    python: Path
    """As it calls itself: not a script that starts it, and in a virtual environment not what that links to."""
    version: str
    library: str
    """Name of the folder of its packages, below ``lib``: ``python3.11``."""
    folders: tuple[Path, ...]
    """All that must be seen of it."""
    packages: tuple[Path, ...]
    """The folders of its packages."""
    modules: frozenset[str]
    """Of those that toolkits need, what there is."""
    versions: Mapping[str, str]
    """By package."""

    def version_of(self, module: str) -> str:
        """Give package and version of a module, in words: ``torch 2.3.0``."""
        name = next((name for name in _packages_of(module) if name in self.versions), None)
        return f"{name} {self.versions[name]}" if name else module

    @property
    def digest(self) -> str:
        """Give ``sha256:...`` of what it is and has: another one after an upgrade of any package."""
        parts = [SERVING_VERSION, str(self.python), self.version, sorted(self.versions.items()), sorted(self.modules)]
        return f"sha256:{hashlib.sha256(json.dumps(parts).encode()).hexdigest()}"


@dataclass(frozen=True, slots=True)
class PythonImage:
    """A Python of this machine that stands for an image, as it is now."""

    added: AddedPython
    repository: str
    """The URI up to the tag, as the user gave it."""
    facts: Facts

    @property
    def toolkit(self) -> str:
        """Give which container the built-in server behaves like."""
        return self.added.toolkit

    @property
    def resolved(self) -> str:
        """What reports name: ``repository@sha256:...``."""
        return f"{self.repository}@{self.facts.digest}"

    @property
    def preload(self) -> tuple[str, ...]:
        """Give the modules to import before instances are forked: of the toolkit's, those that there are."""
        return preload_of(of_toolkit(self.toolkit), self.facts)


class Looks:
    """Looks at Pythons, and remembers what it has seen."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[tuple[object, ...], Facts]] = {}

    async def image(self, added: AddedPython, image_uri: str) -> PythonImage:
        """Give what stands for an image; raises PythonUnusable, with what to do."""
        written = parse_reference(image_uri).written
        try:
            facts = await self.facts(Path(added.python))
            check_toolkit(added.toolkit, facts)
        except PythonUnusable as fault:
            raise PythonUnusable(
                f"A Python of this machine stands for the image {added.name}. {fault} When it was added, it was Python "
                f"{added.version}{f' with {added.framework}' if added.framework else ''}. Mend it, or name another: "
                f"moorage images add {added.name} --python PATH"
            ) from fault
        return PythonImage(added, written, facts)

    async def facts(self, python: Path) -> Facts:
        """Look at a Python, unless nothing of it has changed since the last time; raises PythonUnusable."""
        seen = self._seen.get(python)
        if seen is not None and seen[0] == await asyncio.to_thread(_signature, python, seen[1].packages):
            return seen[1]
        facts = await _ask(python)
        self._seen[python] = await asyncio.to_thread(_signature, python, facts.packages), facts
        return facts


def check_toolkit(toolkit: str, facts: Facts) -> None:
    """Raise PythonUnusable when a Python lacks what a toolkit needs."""
    module = of_toolkit(toolkit).module
    if module and module not in facts.modules:
        raise PythonUnusable(f"{facts.python} has no {module}, which the toolkit {toolkit} needs.")


def choose_toolkit(name: str, facts: Facts) -> str:
    """Say which container an added Python is to behave like when nobody has said it; raises PythonUnusable.

    The repository tells for AWS's images and Moorage's own, otherwise the packages do.
    """
    aws = parse(name)
    framework = of_repository(aws.repository if aws else parse_reference(name).written)
    if framework is not None:
        return framework.toolkit
    there = {row.toolkit for row in FRAMEWORKS if row.module and row.module in facts.modules}
    if "pytorch" not in there:
        there.discard("huggingface")  # transformers alone computes nothing
    found = there - {below for toolkit in there for below in _SUPERSEDES.get(toolkit, ())}
    if len(found) > 1:
        raise PythonUnusable(
            f"{facts.python} has packages for more than one toolkit: say which one is meant with --toolkit "
            f"{'|'.join(sorted(found))}."
        )
    return found.pop() if found else "python"


def preload_of(framework: Framework, facts: Facts) -> tuple[str, ...]:
    """Give the modules of a framework that a Python has."""
    return tuple(module for module in framework.preload if module.partition(".")[0] in facts.modules)


async def try_imports(facts: Facts, modules: Sequence[str]) -> None:
    """Import modules once; raises PythonUnusable with the last lines when that fails."""
    if modules:
        code, lines = await _run((str(facts.python), "-I", "-c", f"import {', '.join(modules)}"))
        if code != 0:
            raise PythonUnusable(
                f"{facts.python} cannot import {', '.join(modules)}. It says:\n{_last(lines) or 'nothing'}"
            )


async def _ask(python: Path) -> Facts:
    if not await asyncio.to_thread(os.access, python, os.X_OK):
        raise PythonUnusable(f"{python} is not there, or is no program that may be run.")
    modules = dict.fromkeys(name.partition(".")[0] for row in FRAMEWORKS for name in (row.module, *row.preload) if name)
    code, lines = await _run((str(python), "-I", str(_SCRIPT), *modules, *_ALSO))
    try:
        said: dict[str, Any] = json.loads(lines[-1])
        version, implementation = tuple(said["version"]), said["implementation"]
    except (ValueError, LookupError, TypeError) as fault:
        raise PythonUnusable(
            f"{python} is no working Python: it ended with {code}. It says:\n{_last(lines) or 'nothing'}"
        ) from fault
    text = ".".join(map(str, version))
    if version < OLDEST_PYTHON or implementation != "cpython":
        oldest = ".".join(map(str, OLDEST_PYTHON))
        raise PythonUnusable(f"{python} is {implementation} {text}; the model server needs CPython {oldest} or newer.")
    facts = await asyncio.to_thread(_make_facts, text, said)
    if os.geteuid() == 0:
        await asyncio.to_thread(_check_others_may_read, facts)
    return facts


def _make_facts(version: str, said: Mapping[str, Any]) -> Facts:
    path = [Path(folder) for folder in said["path"]]
    own = {Path(folder) for folder in said["own"]}
    packages = tuple(folder for folder in path if folder not in own and folder.name != "lib-dynload")
    links = [link for name in said["executables"] for link in _links(Path(name))]
    places = [*map(Path, said["prefixes"]), *path, *(link.parent for link in links)]
    return Facts(
        Path(said["executables"][0]),
        version,
        said["library"],
        tuple(_outermost([*places, *(Path(os.path.realpath(place)) for place in places)])),
        packages,
        frozenset(said["modules"]),
        said["packages"],
    )


def _links(path: Path) -> Iterator[Path]:
    """Give a path and all that it leads to, link by link."""
    for _ in range(40):
        yield path
        if not path.is_symlink():
            return
        path = Path(os.path.normpath(path.parent / path.readlink()))


def _outermost(folders: Iterable[Path]) -> list[Path]:
    """Leave out the folders that lie in others, and the root, in which all would lie."""
    kept: list[Path] = []
    for folder in sorted(dict.fromkeys(folders), key=lambda folder: len(folder.parts)):
        if folder != Path("/") and not any(folder.is_relative_to(outer) for outer in kept):
            kept.append(folder)
    return kept


def _check_others_may_read(facts: Facts) -> None:
    """Raise PythonUnusable when instances could not read it, which root starts as users of their own."""
    for folder in (*facts.folders, *facts.packages):
        if folder.is_dir() and folder.stat().st_mode & 0o005 != 0o005:
            raise PythonUnusable(
                f"{folder} may not be read by others: instances are users of their own (chmod -R o+rX {folder})."
            )


def _signature(python: Path, packages: Iterable[Path]) -> tuple[object, ...]:
    places = (python, python.parent.parent / "pyvenv.cfg", *packages)
    return tuple(_stamp(place) for place in places)


def _stamp(place: Path) -> tuple[int, int] | None:
    try:
        found = place.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


async def _run(arguments: Sequence[str]) -> tuple[int, list[str]]:
    lines: list[str] = []
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            code = await run_plainly(Command(arguments, Path("/")), lines.append)
    except TimeoutError:
        raise PythonUnusable(f"{arguments[0]} gave no answer in {LOOK_SECONDS:g} seconds.") from None
    return code, lines


def _last(lines: Sequence[str]) -> str:
    return "\n".join([line for line in lines if line.strip()][-_TRIED_LINES:])


def _packages_of(module: str) -> tuple[str, ...]:
    names = {
        "sklearn": ("scikit-learn",),
        "xgboost": ("xgboost", "xgboost-cpu"),
        "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    }
    return names.get(module, (module,))
