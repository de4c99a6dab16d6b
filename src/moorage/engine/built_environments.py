"""The environments that have been built, for people to see and to remove. All of it blocks.

Each has a label, ``moorage.json``, that says what it is of. One on top of another, for a model's ``requirements.txt``,
has none: its name begins with the other's and ``+``.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from moorage.engine.built_folder import remove_built

KEY_OF_REQUIREMENTS = "+"
_LABEL = "moorage.json"


class EnvironmentInUse(Exception):
    """An environment cannot be removed now; the text is for people."""


@dataclass(frozen=True, slots=True)
class Label:
    """What an environment is of."""

    image: str
    """Of which it was built first: ``sagemaker-scikit-learn:1.2-1-cpu-py3``."""
    python: str
    """``3.11.7``."""
    requirements: tuple[str, ...]
    built: float
    """When, in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class BuiltEnvironment:
    """An environment in its folder."""

    folder: Path
    label: Label | None
    """None: it was built before there were labels, or is on top of another one."""

    @property
    def key(self) -> str:
        """Its name."""
        return self.folder.name

    @property
    def below(self) -> str | None:
        """Name of the one that it is on top of."""
        below, plus, _own = self.key.rpartition(KEY_OF_REQUIREMENTS)
        return below if plus else None

    @property
    def built(self) -> float:
        """When it was built, in seconds since the epoch."""
        return self.label.built if self.label else self.folder.stat().st_mtime

    def size(self) -> int:
        """Count the bytes of its files."""
        return sum(
            os.lstat(os.path.join(parent, name)).st_size  # noqa: PTH118 - ten thousands of files
            for parent, _folders, names in os.walk(self.folder)
            for name in names
        )


class BuiltEnvironments:
    """The environments in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def all(self) -> list[BuiltEnvironment]:
        """Give all, the newest first."""
        folders = (path for path in self._folder.glob("[!.]*") if path.joinpath("pyvenv.cfg").is_file())
        found = [BuiltEnvironment(path, read_label(path)) for path in folders]
        return sorted(found, key=lambda environment: (-environment.built, environment.key))

    def remove(self, keys: Iterable[str]) -> int:
        """Remove environments and all that are on top of them; says how many. Raises EnvironmentInUse."""
        wanted = set(keys)
        doomed = [
            environment
            for environment in self.all()
            if environment.key in wanted or any(environment.key.startswith(key + KEY_OF_REQUIREMENTS) for key in wanted)
        ]
        programs = _running_programs()
        for environment in doomed:
            if any(program.is_relative_to(environment.folder) for program in programs):
                raise EnvironmentInUse(
                    f"{environment.key} is in use: delete the endpoints that run it first, and wait a minute."
                )
        # The topmost first: a removal that is broken off leaves none without what it is on top of.
        return sum(remove_built(each.folder) for each in sorted(doomed, key=lambda each: -len(each.key)))


def write_label(folder: Path, label: Label) -> None:
    """Say what an environment is of."""
    folder.joinpath(_LABEL).write_text(json.dumps(asdict(label), indent=1), encoding="utf-8")


def read_label(folder: Path) -> Label | None:
    """Give what an environment is of; None when it does not say."""
    try:
        message = json.loads(folder.joinpath(_LABEL).read_bytes())
    except FileNotFoundError:
        return None
    return Label(**{**message, "requirements": tuple(message["requirements"])})


def _running_programs() -> set[Path]:
    """Give the programs of this machine's processes, as they were called: an instance has its zygote's."""
    found: set[Path] = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = process.joinpath("cmdline").read_bytes()
        except OSError:  # it has ended
            continue
        found.update(Path(os.fsdecode(word)) for word in line.split(b"\0") if word.startswith(b"/"))
    return found
