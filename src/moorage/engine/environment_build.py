"""The steps of making one virtual environment under its temporary name (``environments``)."""

import asyncio
import json
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from moorage.engine.commands import Command, run_plainly

Progress = Callable[[str], None]

_PIP = ("-Im", "pip", "--disable-pip-version-check", "--no-input")
_INSTALL = ("install", "--progress-bar", "off", "--no-warn-script-location")
_INSTALLS: Mapping[str, str] = {"PIP_ROOT_USER_ACTION": "ignore"}
"""As a variable, which an old pip does not mind."""

_DOWNLOADING = re.compile(r"\s*Downloading ([^-\s/]+)-([^-\s]+)-?\S* \(([\d.]+) (kB|MB|GB)\)")
_UNITS = {"kB": 0.001, "MB": 1.0, "GB": 1000.0}
_FOR_GPUS = ("nvidia-", "cuda-", "triton", "pytorch-triton")
"""Beginnings of the names of packages that wheels for GPUs ask for."""

LAST_LINES = 12

_NETWORK_ADVICE = (
    "Look at pip's own settings (pip config list): the package index must be reachable from here. On a machine without "
    "a network, give the wheels as a folder: moorage images build --offline WHEELS {image}"
)
_OFFLINE_ADVICE = "moorage images build --list {image} names all that must be there: pip download gets it elsewhere."


class EnvironmentFailure(Exception):
    """An environment could not be made; the text says what pip said and what to do."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python that environments are made from."""

    python: Path
    library: str
    """Name of the folder of packages, below ``lib``: ``python3.11``."""

    def packages_of(self, folder: Path) -> Path:
        """Say where the packages of an environment in a folder are."""
        return folder / "lib" / self.library / "site-packages"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an environment of exactly these packages is made of."""

    image: str
    """What people call it, for advice."""
    requirements: tuple[str, ...]
    """The framework first; empty: nothing but Python and pip."""
    open_ended: bool
    """Its wheels may bring further packages, for GPUs."""
    tried: tuple[str, ...]
    """Modules that must be importable in the end."""
    wheels: Path | None = None
    """Folder of wheels to install from; None: from pip's index."""
    with_gpu_libraries: bool = False
    """Install what wheels for GPUs bring."""


class Build:
    """The making of one virtual environment."""

    def __init__(self, unfinished: Path, folder: Path, made_by: Interpreter, progress: Progress) -> None:
        self._unfinished = unfinished
        self._final = folder
        self._made_by = made_by
        self._progress = progress

    async def run(self, recipe: Recipe) -> None:
        """Make an environment of exactly the given packages, and look whether it works; raises EnvironmentFailure."""
        await self.make(with_pip=True)
        if recipe.requirements:
            await self._install(recipe)
        await asyncio.to_thread(os.sync)  # what is renamed to its final name is whole, also after a power cut

    async def _install(self, recipe: Recipe) -> None:
        if recipe.open_ended and not recipe.with_gpu_libraries:
            await self._refuse_gpu_libraries(recipe)
        name = recipe.requirements[0].replace("==", " ")
        self._progress(f"installing {name}")
        wish = ("--no-compile",) if recipe.open_ended else ("--no-compile", "--no-deps")
        await self._pip((*_INSTALL, *wish, *_sources(recipe), *recipe.requirements), recipe)
        await self.compile()
        self._progress("trying it")
        await self._run(
            (str(self._unfinished / "bin" / "python"), "-I", "-c", f"import {', '.join(recipe.tried)}"),
            "the installed packages cannot be imported",
            "A system library may be missing on this machine; the last line names it.",
        )

    async def _refuse_gpu_libraries(self, recipe: Recipe) -> None:
        """Ask pip what it would install; raises EnvironmentFailure when that is gigabytes that nothing here uses."""
        self._progress("asking the package index")
        report = self._unfinished / "report.json"
        wish = ("--dry-run", "--ignore-installed", "--report", str(report), "--quiet")
        await self._pip((*_INSTALL, *wish, *_sources(recipe), *recipe.requirements), recipe)
        found = json.loads(await asyncio.to_thread(report.read_bytes))["install"]
        await asyncio.to_thread(report.unlink)
        names = sorted(entry["metadata"]["name"].lower().replace("_", "-") for entry in found)
        if brought := [name for name in names if name.startswith(_FOR_GPUS)]:
            raise EnvironmentFailure(_about_gpu_libraries(recipe, brought))

    async def _pip(self, words: Sequence[str], recipe: Recipe) -> None:
        advice = (_NETWORK_ADVICE if recipe.wheels is None else _OFFLINE_ADVICE).format(image=recipe.image)
        name = recipe.requirements[0]
        where = "" if recipe.wheels is None else f" from the wheels in {recipe.wheels}"
        await self._run((*self.pip(), *words), f"pip could not install {name}{where}", advice)

    def pip(self) -> tuple[str, ...]:
        """Give the beginning of a command of pip that installs here."""
        return (str(self._unfinished / "bin" / "python"), *_PIP)

    async def make(self, *, with_pip: bool) -> None:
        """Make an empty environment; raises EnvironmentFailure."""
        self._progress("creating an environment")
        wish = () if with_pip else ("--without-pip",)
        await self._run(
            (str(self._made_by.python), "-Im", "venv", *wish, str(self._unfinished)),
            "Python could not make a virtual environment",
            "On Debian and Ubuntu the package python3-venv must be installed.",
        )

    async def compile(self) -> None:
        """Compile the packages with the paths that they will have, on all cores, which pip does on one."""
        self._progress("compiling")
        places = ("-s", str(self._unfinished), "-p", str(self._final))
        shares = await asyncio.to_thread(_shares_of, self._made_by.packages_of(self._unfinished))
        # A package may hold files for other Python versions, which do not compile: that is no failure.
        python = str(self._made_by.python)
        commands = [(python, "-Im", "compileall", "-qq", *places, *share) for share in shares]
        await asyncio.gather(*(run_plainly(Command(line, self._unfinished), _ignore) for line in commands))

    async def _run(self, arguments: tuple[str, ...], what: str, advice: str) -> None:
        last: deque[str] = deque(maxlen=LAST_LINES)

        def say(line: str) -> None:
            last.append(line)
            if told := _as_progress(line):
                self._progress(told)

        if await run_plainly(Command(arguments, self._unfinished, environment=_INSTALLS), say) != 0:
            said = "\n".join(line for line in last if line.strip())
            raise EnvironmentFailure(f"{what[0].upper()}{what[1:]}. {advice} The last lines were:\n{said}")


def requirements_command(build: Build, requirements: Path, unfinished: Path, readable: Iterable[Path]) -> Command:
    """Make the command that installs what a model's ``requirements.txt`` asks for."""
    return Command(
        (*build.pip(), *_INSTALL, "--prefer-binary", "--no-compile", "-r", str(requirements)),
        requirements.parent,
        writable=(unfinished,),
        readable=(requirements.parent, *readable),
        environment=_INSTALLS,
    )


def _sources(recipe: Recipe) -> tuple[str, ...]:
    only = ("--only-binary", ":all:")
    return only if recipe.wheels is None else (*only, "--no-index", "--find-links", str(recipe.wheels))


def _about_gpu_libraries(recipe: Recipe, brought: Sequence[str]) -> str:
    others = f" and {len(brought) - 1} more" if len(brought) > 1 else ""
    return (
        f"The wheels that pip finds for {recipe.image} bring libraries for GPUs ({brought[0]}{others}): gigabytes that "
        "built-in images do not use. Let a Python that has the packages stand for the image: moorage images add "
        f"{recipe.image.partition(':')[0]} --python PATH. Or have pip find wheels for processors only, by its settings "
        f"or as a folder (moorage images build --offline WHEELS {recipe.image}). Or install them all the same: "
        "MOORAGE_GPU_LIBRARIES=install"
    )


def _as_progress(line: str) -> str | None:
    """Make a progress line of what pip says, if it is worth one."""
    match = _DOWNLOADING.match(line)
    if match is None:
        return "unpacking" if line.startswith("Installing collected packages") else None
    megabytes = float(match[3]) * _UNITS[match[4]]
    return f"downloading {match[1].replace('_', '-')} {match[2]}, {megabytes:.0f} MB" if megabytes >= 1 else None


def _shares_of(packages: Path) -> list[list[str]]:
    """Divide the packages of a folder among the cores."""
    entries = sorted(str(path) for path in packages.iterdir() if not path.name.endswith(".dist-info"))
    count = os.cpu_count() or 1
    return [share for start in range(count) if (share := entries[start::count])]


def _ignore(_line: str) -> None:
    pass
