"""Python environments of built-in images: made on first use, cached, shared by all processes of a user.

An environment is a virtual environment with exactly the pinned packages. A model's ``requirements.txt`` gets another
one on top, which sees the packages of the first through a ``.pth`` file. They are built under a temporary name and
renamed (``built_folder``), so scripts in ``bin`` have a wrong first line: always run ``python -m``. What a customer's
requirements bring may run code when it is installed and whenever the overlay's Python starts; that is why pip runs by
the ``runner`` there, and the overlay's Python never runs here.
"""

import asyncio
import hashlib
import os
import re
import sys
import sysconfig
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from moorage.base.clock import Clock
from moorage.engine.built_folder import build_once
from moorage.engine.commands import Command, Runner, run_plainly
from moorage.engine.images import BuiltinImage, pins

Progress = Callable[[str], None]

BUILD_SECONDS = 900.0
"""For one environment; a first build takes under a minute on an ordinary network."""

_LAYOUT = "1"
"""Goes up when environments are built differently, so that old ones are not taken for new."""

_PRELOAD = (
    "numpy",
    "scipy.special",
    "joblib",
    "sklearn.compose",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "sklearn.naive_bayes",
    "sklearn.neighbors",
    "sklearn.neural_network",
    "sklearn.pipeline",
    "sklearn.preprocessing",
    "sklearn.svm",
    "sklearn.tree",
)

_PIP = ("-Im", "pip", "--disable-pip-version-check", "--no-input")
_INSTALL = ("install", "--progress-bar", "off", "--no-warn-script-location", "--root-user-action", "ignore")
_NAMES_FILES = re.compile(r"(?m)^\s*(-[rce]|--requirement|--constraint|--editable|--find-links|\.|/|file:)|@\s*file:")
_DOWNLOADING = re.compile(r"\s*Downloading ([^-\s/]+)-([^-\s]+)-?\S* \(([\d.]+) (kB|MB|GB)\)")
_UNITS = {"kB": 0.001, "MB": 1.0, "GB": 1000.0}
_LAST_LINES = 12


class EnvironmentFailure(Exception):
    """An environment could not be made; the text says what pip said and what to do."""


@dataclass(frozen=True, slots=True)
class Environment:
    """A Python with packages."""

    key: str
    python: Path
    folders: tuple[Path, ...]
    """What an instance must be able to read, beside the system's own folders."""
    preload: tuple[str, ...]
    """Modules that a zygote imports: the framework, never the customer's."""
    packages: tuple[Path, ...]
    """The folders of its packages, its own first."""
    toolkit: str = "sklearn"
    """Which of AWS's containers the built-in server behaves like here: a module of ``serving.toolkits``."""


class Environments:
    """The environments in a folder."""

    def __init__(
        self, folder: Path, clock: Clock, *, runner: Runner = run_plainly, build_seconds: float = BUILD_SECONDS
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._runner = runner
        self._build_seconds = build_seconds

    async def ensure(self, image: BuiltinImage, progress: Progress) -> Environment:
        """Give the environment of an image; made now if it is not there. Raises EnvironmentFailure."""
        contents = pins(image.version)
        if contents.warning:
            progress(contents.warning)
        environment = self._describe(_key_of(image, contents.requirements))
        folder = self._folder / environment.key

        async def build(unfinished: Path) -> None:
            await _Build(unfinished, folder, progress).run(contents.requirements)

        await self._once(folder, build, progress)
        return environment

    async def overlay(self, environment: Environment, requirements: Path, progress: Progress) -> Environment:
        """Give an environment that has what a ``requirements.txt`` asks for on top of another one.

        ``progress`` is told pip's lines. Raises EnvironmentFailure.
        """
        requirements = await asyncio.to_thread(requirements.absolute)
        key = await asyncio.to_thread(_key_of_overlay, environment, requirements)
        above = self._describe(key)
        folder = self._folder / key
        full = Environment(
            key,
            above.python,
            (*above.folders, *environment.folders),
            environment.preload,
            (*above.packages, *environment.packages),
            environment.toolkit,
        )

        async def build(unfinished: Path) -> None:
            await self._build_overlay(unfinished, folder, environment, requirements, progress)

        await self._once(folder, build, progress)
        return full

    async def _once(self, folder: Path, build: Callable[[Path], Awaitable[None]], progress: Progress) -> None:
        try:
            async with asyncio.timeout(self._build_seconds):
                await build_once(
                    folder, build, clock=self._clock, waits=lambda: progress("waiting: another process builds it")
                )
        except TimeoutError as fault:
            raise EnvironmentFailure(
                f"Building the environment in {folder} took longer than {self._build_seconds:g} s. Look whether the "
                "package index answers (pip config list), then start again: nothing half-built is left."
            ) from fault
        except OSError as fault:
            raise EnvironmentFailure(f"The environment in {folder} could not be stored: {fault.strerror}.") from fault

    def _describe(self, key: str) -> Environment:
        folder = self._folder / key
        return Environment(
            key, folder / "bin" / "python", (folder, *_base_folders()), _PRELOAD, (_packages_of(folder),)
        )

    async def _build_overlay(
        self, unfinished: Path, folder: Path, below: Environment, requirements: Path, progress: Progress
    ) -> None:
        build = _Build(unfinished, folder, progress)
        await build.make(with_pip=False)
        lines = "".join(f"{packages}\n" for packages in below.packages)
        await asyncio.to_thread((_packages_of(unfinished) / "moorage_below.pth").write_text, lines)
        command = Command(
            (*build.pip(), *_INSTALL, "--prefer-binary", "--no-compile", "-r", str(requirements)),
            requirements.parent,
            writable=(unfinished,),
            readable=(requirements.parent, *below.folders),
        )
        last: deque[str] = deque(maxlen=_LAST_LINES)

        def say(line: str) -> None:
            last.append(line)
            progress(line)

        if await self._runner(command, say) != 0:
            raise EnvironmentFailure(
                "failed to install required packages: pip could not do what requirements.txt "
                "asks for. It said:\n" + "\n".join(last)
            )
        await build.compile()


class _Build:
    """The steps of making one virtual environment under its temporary name."""

    def __init__(self, unfinished: Path, folder: Path, progress: Progress) -> None:
        self._unfinished = unfinished
        self._final = folder
        self._progress = progress

    async def run(self, requirements: tuple[str, ...]) -> None:
        """Make an environment of exactly the given packages, and look whether it works."""
        await self.make(with_pip=True)
        self._progress(f"installing {requirements[0].replace('==', ' ')}")
        arguments = (*self.pip(), *_INSTALL, "--no-compile", "--no-deps", "--only-binary", ":all:", *requirements)
        advice = "Look at pip's own settings (pip config list): the package index must be reachable from here."
        await self._run(arguments, f"pip could not install {requirements[0]}", advice)
        await self.compile()
        self._progress("trying it")
        await self._run(
            (str(self._unfinished / "bin" / "python"), "-I", "-c", f"import {', '.join(_PRELOAD)}"),
            "the installed packages cannot be imported",
            "A system library may be missing on this machine; the last line names it.",
        )
        await asyncio.to_thread(os.sync)  # what is renamed to its final name is whole, also after a power cut

    def pip(self) -> tuple[str, ...]:
        return (str(self._unfinished / "bin" / "python"), *_PIP)

    async def make(self, *, with_pip: bool) -> None:
        self._progress("creating an environment")
        wish = () if with_pip else ("--without-pip",)
        await self._run(
            (sys.executable, "-Im", "venv", *wish, str(self._unfinished)),
            "Python could not make a virtual environment",
            "On Debian and Ubuntu the package python3-venv must be installed.",
        )

    async def compile(self) -> None:
        """Compile the packages with the paths that they will have, on all cores, which pip does on one."""
        self._progress("compiling")
        places = ("-s", str(self._unfinished), "-p", str(self._final))
        shares = await asyncio.to_thread(_shares_of, _packages_of(self._unfinished))
        # A package may hold files for other Python versions, which do not compile: that is no failure.
        commands = [(sys.executable, "-Im", "compileall", "-qq", *places, *share) for share in shares]
        await asyncio.gather(*(run_plainly(Command(line, self._unfinished), _ignore) for line in commands))

    async def _run(self, arguments: tuple[str, ...], what: str, advice: str) -> None:
        last: deque[str] = deque(maxlen=_LAST_LINES)

        def say(line: str) -> None:
            last.append(line)
            if told := _as_progress(line):
                self._progress(told)

        if await run_plainly(Command(arguments, self._unfinished), say) != 0:
            said = "\n".join(line for line in last if line.strip())
            raise EnvironmentFailure(f"{what[0].upper()}{what[1:]}. {advice} The last lines were:\n{said}")


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


def _key_of(image: BuiltinImage, requirements: tuple[str, ...]) -> str:
    contents = hashlib.sha256("\n".join((_LAYOUT, _base_python(), *requirements)).encode()).hexdigest()
    return f"{image.framework}-{image.version}-{sys.implementation.cache_tag}-{contents[:12]}"


def _key_of_overlay(environment: Environment, requirements: Path) -> str:
    """Name an overlay by what is asked for; files that the requirements name count too."""
    text = requirements.read_bytes()
    contents = hashlib.sha256(text)
    if _NAMES_FILES.search(text.decode("utf-8", "replace")):
        contents.update(os.fsencode(requirements))
        for path in sorted(requirements.parent.rglob("*")):
            if path.is_file() and not path.is_symlink():
                contents.update(os.fsencode(path) + b"\0" + path.read_bytes())
    return f"{environment.key}+{contents.hexdigest()[:16]}"


def _base_python() -> str:
    return f"{sys.base_prefix} {sys.version} {sysconfig.get_platform()}"


def _base_folders() -> tuple[Path, ...]:
    """Give the folders of the Python that environments are made from: theirs is only a link to it."""
    prefix = Path(sys.base_prefix)
    executable = Path(os.path.realpath(sys.executable)).parent
    return tuple(dict.fromkeys((prefix, prefix.resolve(), executable)))


def _packages_of(folder: Path) -> Path:
    return folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
