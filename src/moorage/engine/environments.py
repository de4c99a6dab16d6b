"""Python environments of built-in images: made on first use, cached, shared by all processes of a user.

An environment is a virtual environment with exactly the pinned packages; or a Python that is there already and stands
for an image (``images.added``), to which nothing is ever done. A model's ``requirements.txt`` gets another one on top,
which sees the packages of the first through a ``.pth`` file. They are built under a temporary name and renamed
(``built_folder``), so scripts in ``bin`` have a wrong first line: always run ``python -m``. What a customer's
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
from dataclasses import dataclass, replace
from pathlib import Path

from moorage.base.clock import Clock
from moorage.engine.built_environments import KEY_OF_REQUIREMENTS, Label, write_label
from moorage.engine.built_folder import build_once
from moorage.engine.commands import Runner, run_plainly
from moorage.engine.environment_build import (
    LAST_LINES,
    Build,
    EnvironmentFailure,
    Interpreter,
    Progress,
    Recipe,
    requirements_command,
)
from moorage.engine.images import builtin
from moorage.engine.images.added import AddedPythons
from moorage.engine.images.builtin import BuiltinImage
from moorage.engine.images.look import Looks, PythonImage, PythonUnusable

__all__ = ["Environment", "EnvironmentFailure", "Environments", "Image", "key_of"]

Image = BuiltinImage | PythonImage
"""What stands for an image's URI."""

BUILD_SECONDS = 900.0
"""For one environment; a first build takes under a minute on an ordinary network."""

_LAYOUT = "2"
"""Goes up when environments are built differently, so that old ones are not taken for new."""

OWN = Interpreter(
    Path(sys.executable),
    f"python{sys.version_info.major}.{sys.version_info.minor}{'t' if 't' in sys.abiflags else ''}",
)
"""The Python that runs Moorage."""

_NAMES_FILES = re.compile(r"(?m)^\s*(-[rce]|--requirement|--constraint|--editable|--find-links|\.|/|file:)|@\s*file:")


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
    made_by: Interpreter = OWN
    """What another one on top of it is made from."""


class Environments:
    """The environments in a folder, and the Pythons that are there already."""

    def __init__(  # noqa: PLR0913 - what may be built, from what, and for how long
        self,
        folder: Path,
        clock: Clock,
        *,
        pythons: AddedPythons | None = None,
        runner: Runner = run_plainly,
        build_seconds: float = BUILD_SECONDS,
        with_gpu_libraries: bool = False,
    ) -> None:
        """``pythons`` are those that a user has added; None: none."""
        self._folder = folder
        self._clock = clock
        self._pythons = pythons
        self._looks = Looks()
        self._runner = runner
        self._build_seconds = build_seconds
        self._with_gpu_libraries = with_gpu_libraries

    async def resolve(self, image_uri: str) -> Image | None:
        """Give what stands for an image's URI here: what the user has added comes first; None when nothing does.

        Raises EnvironmentFailure when that is a Python that cannot be used any more.
        """
        added = None if self._pythons is None else await asyncio.to_thread(self._pythons.find, image_uri)
        if added is None:
            return builtin.resolve(image_uri)
        try:
            return await self._looks.image(added, image_uri)
        except PythonUnusable as fault:
            raise EnvironmentFailure(str(fault)) from fault

    async def ensure(self, image: Image, progress: Progress, *, wheels: Path | None = None) -> Environment:
        """Give the environment of an image; made now if it is not there. Raises EnvironmentFailure.

        ``wheels`` is a folder to install from, in place of pip's index.
        """
        if isinstance(image, PythonImage):
            return _environment_of(image)
        contents = image.contents
        if contents.warning:
            progress(contents.warning)
        environment = self._describe(key_of(image), OWN, image.toolkit, image.preload)
        folder = self._folder / environment.key
        recipe = Recipe(
            image.name, contents.requirements, contents.open_ended, image.preload, wheels, self._with_gpu_libraries
        )

        async def build(unfinished: Path) -> None:
            await Build(unfinished, folder, OWN, progress).run(recipe)
            label = Label(image.name, sys.version.split()[0], contents.requirements, self._clock.now())
            await asyncio.to_thread(write_label, unfinished, label)

        await self._once(folder, build, progress)
        return environment

    async def overlay(self, environment: Environment, requirements: Path, progress: Progress) -> Environment:
        """Give an environment that has what a ``requirements.txt`` asks for on top of another one.

        ``progress`` is told pip's lines. Raises EnvironmentFailure.
        """
        requirements = await asyncio.to_thread(requirements.absolute)
        key = await asyncio.to_thread(_key_of_overlay, environment, requirements)
        folder = self._folder / key
        full = replace(
            environment,
            key=key,
            python=folder / "bin" / "python",
            folders=(folder, *environment.folders),
            packages=(environment.made_by.packages_of(folder), *environment.packages),
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

    def _describe(self, key: str, made_by: Interpreter, toolkit: str, preload: tuple[str, ...]) -> Environment:
        folder = self._folder / key
        packages = (made_by.packages_of(folder),)
        return Environment(
            key, folder / "bin" / "python", (folder, *_base_folders()), preload, packages, toolkit, made_by
        )

    async def _build_overlay(
        self, unfinished: Path, folder: Path, below: Environment, requirements: Path, progress: Progress
    ) -> None:
        build = Build(unfinished, folder, below.made_by, progress)
        await build.make(with_pip=not await asyncio.to_thread(_has_pip, below))
        lines = "".join(f"{packages}\n" for packages in below.packages)
        own = below.made_by.packages_of(unfinished)
        await asyncio.to_thread((own / "moorage_below.pth").write_text, lines)
        command = requirements_command(build, requirements, unfinished, below.folders)
        last: deque[str] = deque(maxlen=LAST_LINES)

        def say(line: str) -> None:
            last.append(line)
            progress(line)

        if await self._runner(command, say) != 0:
            raise EnvironmentFailure(
                "failed to install required packages: pip could not do what requirements.txt "
                "asks for. It said:\n" + "\n".join(last)
            )
        await build.compile()


def key_of(image: BuiltinImage) -> str:
    """Name the environment of an image by what is in it: images of the same packages share it."""
    requirements = image.contents.requirements
    contents = hashlib.sha256("\n".join((_LAYOUT, _base_python(), *requirements)).encode()).hexdigest()
    version = requirements[0].partition("==")[2] if requirements else sys.version.split()[0]
    return f"{image.framework}-{version}-{sys.implementation.cache_tag}-{contents[:12]}"


def _environment_of(image: PythonImage) -> Environment:
    facts = image.facts
    return Environment(
        f"python-{facts.digest.removeprefix('sha256:')[:16]}",
        facts.python,
        facts.folders,
        image.preload,
        facts.packages,
        image.toolkit,
        Interpreter(facts.python, facts.library),
    )


def _has_pip(environment: Environment) -> bool:
    return any(folder.joinpath("pip", "__main__.py").is_file() for folder in environment.packages)


def _key_of_overlay(environment: Environment, requirements: Path) -> str:
    """Name an overlay by what is asked for; files that the requirements name count too."""
    text = requirements.read_bytes()
    contents = hashlib.sha256(text)
    if _NAMES_FILES.search(text.decode("utf-8", "replace")):
        contents.update(os.fsencode(requirements))
        for path in sorted(requirements.parent.rglob("*")):
            if path.is_file() and not path.is_symlink():
                contents.update(os.fsencode(path) + b"\0" + path.read_bytes())
    return f"{environment.key}{KEY_OF_REQUIREMENTS}{contents.hexdigest()[:16]}"


def _base_python() -> str:
    return f"{sys.base_prefix} {sys.version} {sysconfig.get_platform()}"


def _base_folders() -> tuple[Path, ...]:
    """Give the folders of the Python that environments are made from: theirs is only a link to it."""
    prefix = Path(sys.base_prefix)
    executable = Path(os.path.realpath(sys.executable)).parent
    return tuple(dict.fromkeys((prefix, prefix.resolve(), executable)))
