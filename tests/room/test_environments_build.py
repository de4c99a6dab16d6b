"""Environments of built-in images: the real one, and failures with a pip that has no index to ask."""

import asyncio
import os
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.wheels import write_wheel

from moorage.base.clock import SystemClock
from moorage.engine.built_environments import BuiltEnvironments, EnvironmentInUse
from moorage.engine.commands import Command
from moorage.engine.environments import Environment, EnvironmentFailure, Environments
from moorage.engine.images.builtin import BuiltinImage, resolve
from moorage.engine.images.pins import Pins

# Building virtual environments, and the framework's for the first test of a machine, takes seconds.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Make a small environment that has nothing but pip."""
    folder = tmp_path_factory.mktemp("base")
    venv.create(folder, with_pip=True)
    packages = next(folder.glob("lib/python*/site-packages"))
    return Environment("base", folder / "bin" / "python", (folder,), (), (packages,))


@pytest.fixture
def no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave pip without anything to install from."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)


def _package(folder: Path, name: str = "tiny") -> Path:
    """Write the sources of a package into a folder."""
    folder.mkdir(parents=True)
    folder.joinpath(f"{name}.py").write_text("ANSWER = 42\n")
    folder.joinpath("setup.py").write_text(
        f"from setuptools import setup\nsetup(name={name!r}, py_modules=[{name!r}])\n"
    )
    return folder


def _wheel(folder: Path, name: str, text: str) -> Path:
    return write_wheel(folder, name, files={f"{name}.py": text})


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """Make the folder of a model's code."""
    folder = tmp_path / "code"
    folder.mkdir()
    return folder


def _left(folder: Path) -> list[str]:
    """Tell what a build has left, beside its lock."""
    return [path.name for path in folder.iterdir() if path.suffix != ".lock"]


def _says(python: Path, code: str) -> str:
    done = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    return done.stdout.strip()


def test_the_environment_has_the_pinned_framework_and_its_folders(sklearn_environment: Environment) -> None:
    assert _says(sklearn_environment.python, "import sklearn; print(sklearn.__version__)")
    real = Path(_says(sklearn_environment.python, "import os, sys; print(os.path.realpath(sys.executable))"))
    seen = [folder.resolve() for folder in sklearn_environment.folders]
    assert all(any(path.is_relative_to(folder) for folder in seen) for path in (real, sklearn_environment.packages[0]))


def test_tracebacks_name_the_environments_final_place(sklearn_environment: Environment) -> None:
    code = "import sklearn.base; print(sklearn.base.clone.__code__.co_filename)"
    assert _says(sklearn_environment.python, code).startswith(str(sklearn_environment.packages[0]))


async def test_one_that_is_there_is_given_at_once(
    sklearn_environment: Environment, sklearn_image: BuiltinImage
) -> None:
    said: list[str] = []
    folder = sklearn_environment.folders[0].parent
    async with asyncio.timeout(1):
        again = await Environments(folder, SystemClock()).ensure(sklearn_image, said.append)
    assert (again, [line for line in said if "wheels" not in line]) == (sklearn_environment, [])


async def test_a_failed_build_says_what_pip_said_and_leaves_nothing(
    tmp_path: Path, no_index: None, sklearn_image: BuiltinImage
) -> None:
    said: list[str] = []
    with pytest.raises(EnvironmentFailure, match=r"(?s)could not install scikit-learn.*pip config.*No matching distr"):
        await Environments(tmp_path, SystemClock()).ensure(sklearn_image, said.append)
    assert not _left(tmp_path)
    assert "creating an environment" in said


async def test_a_cancelled_build_stops_its_programs_and_leaves_nothing(
    tmp_path: Path, sklearn_image: BuiltinImage
) -> None:
    begun = asyncio.Event()
    building = asyncio.ensure_future(
        Environments(tmp_path, SystemClock()).ensure(sklearn_image, lambda _line: begun.set())
    )
    await asyncio.wait_for(begun.wait(), 10)
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building
    assert not _left(tmp_path)
    assert not _programs_that_name(tmp_path)


async def test_a_build_that_takes_too_long_is_given_up(tmp_path: Path, sklearn_image: BuiltinImage) -> None:
    environments = Environments(tmp_path, SystemClock(), build_seconds=0.3)
    with pytest.raises(EnvironmentFailure, match=r"took longer than 0\.3 s"):
        await environments.ensure(sklearn_image, print)
    assert not _programs_that_name(tmp_path)


async def test_a_builder_that_is_killed_leaves_nothing_half_used_and_the_next_one_builds(
    tmp_path: Path, code: Path, base: Environment, no_index: None
) -> None:
    requirements = code / "requirements.txt"
    requirements.write_text(f"{_wheel(code, 'tiny', 'ANSWER = 42')}\n")
    folder = tmp_path / "environments"
    program = (
        "import asyncio, os, sys\nfrom pathlib import Path\nfrom moorage.base.clock import SystemClock\n"
        "from moorage.engine.environments import Environment, Environments\n"
        "base = Environment('base', Path(sys.argv[1]), (), (), (Path(sys.argv[2]),))\n"
        "say = lambda line: 'Installing' in line and os.kill(os.getpid(), 9)\n"
        "asyncio.run(Environments(Path(sys.argv[3]), SystemClock()).overlay(base, Path(sys.argv[4]), say))\n"
    )
    arguments = [str(base.python), str(base.packages[0]), str(folder), str(requirements)]
    killed = await asyncio.create_subprocess_exec(sys.executable, "-c", program, *arguments)
    assert await killed.wait() == -9
    assert not [path for path in folder.iterdir() if not path.name.startswith(".")]
    overlay = await Environments(folder, SystemClock()).overlay(base, requirements, print)
    assert _says(overlay.python, "import tiny; print(tiny.ANSWER)") == "42"
    assert not list(folder.glob(".*unfinished*"))


async def test_an_overlay_adds_packages_and_sees_those_below(
    tmp_path: Path, code: Path, base: Environment, no_index: None
) -> None:
    lower = code / "lower.txt"
    lower.write_text(f"{_wheel(code, 'below', 'NAME = 1')}\n")
    upper = code / "requirements.txt"
    upper.write_text(f"below\n{_wheel(code, 'above', 'import below')}\n")
    environments, said = Environments(tmp_path / "environments", SystemClock()), list[str]()
    first = await environments.overlay(base, lower, print)
    second = await environments.overlay(first, upper, said.append)
    assert _says(second.python, "import above; print(above.below.__file__)") == str(first.packages[0] / "below.py")
    assert any("already satisfied: below" in line for line in said)
    assert second.packages == (second.packages[0], *first.packages)
    assert await environments.overlay(first, upper, print) == second


async def test_two_who_want_the_same_build_it_once(
    tmp_path: Path, code: Path, base: Environment, no_index: None
) -> None:
    requirements = code / "requirements.txt"
    requirements.write_text(f"{_wheel(code, 'tiny', '')}\n")
    said: list[str] = []
    both = [Environments(tmp_path / "environments", SystemClock()) for _ in range(2)]
    one, two = await asyncio.gather(*(each.overlay(base, requirements, said.append) for each in both))
    assert (one, said.count("creating an environment")) == (two, 1)
    assert "waiting: another process builds it" in said


async def test_requirements_that_cannot_be_had_fail_in_awss_words(
    tmp_path: Path, base: Environment, no_index: None
) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("no-such-package-of-moorage==1\n")
    with pytest.raises(EnvironmentFailure, match=r"(?s)^failed to install required packages.*no-such-package"):
        await Environments(tmp_path / "environments", SystemClock()).overlay(base, requirements, print)


async def test_what_requirements_name_beside_themselves_makes_another_overlay(
    tmp_path: Path, base: Environment
) -> None:
    built: list[Command] = []

    async def runner(command: Command, _say: Callable[[str], None]) -> int:
        built.append(command)
        return 0

    source = _package(tmp_path / "code" / "tiny")
    requirements = tmp_path / "code" / "requirements.txt"
    requirements.write_text("./tiny\n")
    environments = Environments(tmp_path / "environments", SystemClock(), runner=runner)
    first = await environments.overlay(base, requirements, print)
    source.joinpath("tiny.py").write_text("ANSWER = 43\n")
    second = await environments.overlay(base, requirements, print)
    assert (first.key != second.key, len(built)) == (True, 2)
    assert built[0].folder == requirements.parent
    assert all(path in (*built[0].readable, *built[0].writable) for path in (requirements.parent, *base.folders))


def _tiny(
    framework: str = "tiny", requirements: tuple[str, ...] = ("tiny==1.0",), *, open_ended: bool = False
) -> BuiltinImage:
    """Give a built-in image of tiny packages."""
    modules = tuple(line.partition("==")[0] for line in requirements)
    contents = Pins(requirements, open_ended=open_ended)
    return BuiltinImage(framework, "1", "python", f"moorage/{framework}", "1", "sha256:0", contents, modules)


async def test_an_environment_is_built_from_a_folder_of_wheels_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/nobody")
    write_wheel(tmp_path, "tiny", files={"tiny.py": "ANSWER = 42"})
    said: list[str] = []
    environments = Environments(tmp_path / "environments", SystemClock())
    made = await environments.ensure(_tiny(), said.append, wheels=tmp_path)
    assert _says(made.python, "import tiny; print(tiny.ANSWER)") == "42"
    assert (made.toolkit, made.preload) == ("python", ("tiny",))
    assert [line for line in said if "tiny" in line] == ["installing tiny 1.0"]


async def test_wheels_that_are_missing_are_named_and_where_to_get_them(tmp_path: Path) -> None:
    environments = Environments(tmp_path / "environments", SystemClock())
    (tmp_path / "wheels").mkdir()
    with pytest.raises(EnvironmentFailure) as fault:
        await environments.ensure(_tiny(), print, wheels=tmp_path / "wheels")
    assert f"could not install tiny==1.0 from the wheels in {tmp_path / 'wheels'}" in str(fault.value)
    assert "moorage images build --list moorage/tiny:1 names all" in str(fault.value)


async def test_without_an_index_the_failure_names_the_way_without_a_network(tmp_path: Path, no_index: None) -> None:
    with pytest.raises(EnvironmentFailure, match=r"moorage images build --offline WHEELS moorage/tiny:1"):
        await Environments(tmp_path, SystemClock()).ensure(_tiny(), print)


def _gpu_wheels(folder: Path) -> Path:
    """Write what the public index has of torch."""
    folder.mkdir()
    write_wheel(folder, "torch", requires=["nvidia-cublas-cu12==1.0", "triton==1.0"])
    for name in ("nvidia-cublas-cu12", "triton"):
        write_wheel(folder, name)
    return folder


async def test_libraries_for_gpus_are_refused_before_they_are_installed(tmp_path: Path) -> None:
    said: list[str] = []
    environments = Environments(tmp_path / "environments", SystemClock())
    image = _tiny("torch", ("torch==1.0",), open_ended=True)
    with pytest.raises(EnvironmentFailure) as fault:
        await environments.ensure(image, said.append, wheels=_gpu_wheels(tmp_path / "wheels"))
    assert "bring libraries for GPUs (nvidia-cublas-cu12 and 1 more)" in str(fault.value)
    for way in ("images add moorage/torch --python", "--offline WHEELS moorage/torch:1", "MOORAGE_GPU_LIBRARIES="):
        assert way in str(fault.value)
    assert said[-1] == "asking the package index"
    assert not _left(tmp_path / "environments")


async def test_libraries_for_gpus_are_installed_where_that_is_wanted(tmp_path: Path) -> None:
    environments = Environments(tmp_path / "environments", SystemClock(), with_gpu_libraries=True)
    image = _tiny("torch", ("torch==1.0",), open_ended=True)
    made = await environments.ensure(image, print, wheels=_gpu_wheels(tmp_path / "wheels"))
    assert _says(made.python, "import torch, triton, nvidia_cublas_cu12; print(1)") == "1"


async def test_wheels_for_processors_count_as_the_version_that_they_are_of(tmp_path: Path) -> None:
    write_wheel(tmp_path, "torch", "1.0+cpu")
    environments = Environments(tmp_path / "environments", SystemClock())
    made = await environments.ensure(_tiny("torch", ("torch==1.0",), open_ended=True), print, wheels=tmp_path)
    assert _says(made.python, "import importlib.metadata as m; print(m.version('torch'))") == "1.0+cpu"


async def test_plain_python_needs_no_index_and_is_listed_and_removed(tmp_path: Path, no_index: None) -> None:
    image = resolve("moorage/python")
    assert image is not None
    made = await Environments(tmp_path, SystemClock()).ensure(image, print)
    built = BuiltEnvironments(tmp_path)
    (only,) = built.all()
    assert only.label is not None
    assert (only.key, only.label.image, only.below) == (made.key, "moorage/python", None)
    assert only.size() > 100_000
    program = [str(made.python), "-c", "print(flush=True); input()"]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        running.stdout.readline()
        with pytest.raises(EnvironmentInUse, match="is in use: delete the endpoints"):
            built.remove([made.key])
        running.communicate(b"\n")
    assert built.remove([made.key]) == 1
    assert built.all() == []


async def test_an_environment_goes_with_what_is_on_top_of_it(tmp_path: Path, code: Path, no_index: None) -> None:
    image = resolve("moorage/python")
    assert image is not None
    requirements = code / "requirements.txt"
    requirements.write_text(f"{_wheel(code, 'tiny', 'ANSWER = 42')}\n")
    environments = Environments(tmp_path / "environments", SystemClock())
    below = await environments.ensure(image, print)
    above = await environments.overlay(below, requirements, print)
    built = BuiltEnvironments(tmp_path / "environments")
    assert {each.key: each.below for each in built.all()} == {below.key: None, above.key: below.key}
    assert built.remove([below.key]) == 2
    assert not _left(tmp_path / "environments")


def _programs_that_name(folder: Path) -> list[str]:
    """Give the command lines of running processes in which a folder is named."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = process.joinpath("cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in line:
            found.append(line.decode(errors="replace"))
    return found
