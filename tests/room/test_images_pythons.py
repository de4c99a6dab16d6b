"""Pythons of this machine that stand for images: what is seen of them, what is laid over them, and when they change."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.pythons import DEBIANS, make_venv, needs_debians_torch, other_python, packages_of, put_package
from tests.support.wheels import write_wheel

import moorage.serving
from moorage.base.clock import SystemClock
from moorage.engine.environments import EnvironmentFailure, Environments
from moorage.engine.images.added import AddedPython, AddedPythons
from moorage.engine.images.look import (
    OLDEST_PYTHON,
    Facts,
    Looks,
    PythonImage,
    PythonUnusable,
    choose_toolkit,
    try_imports,
)

SERVING = Path(moorage.serving.__file__).parent
DLC = "763104351884.dkr.ecr.us-west-2.amazonaws.com"


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """Make an environment with torch."""
    return make_venv(tmp_path / "venv", {"torch": "2.3.0", "numpy": "1.26.4"})


def added(python: Path, name: str = "my/env", toolkit: str = "pytorch") -> AddedPython:
    return AddedPython(name, str(python), toolkit, "3.11.2", "torch 2.3.0", 1.0)


@pytest.fixture
def pythons(tmp_path: Path) -> AddedPythons:
    return AddedPythons(tmp_path / "data")


def environments(tmp_path: Path, pythons: AddedPythons) -> Environments:
    return Environments(tmp_path / "environments", SystemClock(), pythons=pythons)


async def test_looks_find_versions_packages_and_folders(venv: Path) -> None:
    facts = await Looks().facts(venv)
    assert facts.python == venv
    assert facts.version == ".".join(map(str, sys.version_info[:3]))
    assert facts.version_of("torch") == "torch 2.3.0"
    assert facts.modules == {"torch", "numpy"}
    assert facts.packages == (packages_of(venv.parents[1]),)
    real = Path(os.path.realpath(venv))
    for place in (venv, real, *facts.packages, Path(sys.base_prefix)):
        assert any(place.is_relative_to(folder) for folder in facts.folders)
    assert Path("/") not in facts.folders


async def test_a_script_that_starts_a_python_is_not_taken_for_it(tmp_path: Path, venv: Path) -> None:
    script = tmp_path / "shim"
    script.write_text(f'#!/bin/sh\nexec {venv} "$@"\n')
    script.chmod(0o755)
    assert (await Looks().facts(script)).python == venv


async def test_what_was_seen_is_not_asked_again_until_it_changes(tmp_path: Path, venv: Path) -> None:
    counted = tmp_path / "counted"
    (packages_of(tmp_path / "venv") / "count.pth").write_text(f"import os; open({str(counted)!r}, 'a').write('.')\n")
    looks = Looks()
    first = await looks.facts(venv)
    once = counted.read_text()
    assert (await looks.facts(venv), counted.read_text()) == (first, once)
    put_package(tmp_path / "venv", "torch", "2.4.0")
    third = await looks.facts(venv)
    assert (third.version_of("torch"), counted.read_text()) == ("torch 2.4.0", once * 2)
    assert third.digest != first.digest


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "is not there, or is no program that may be run"),
        (
            "#!/bin/sh\necho broken loader >&2; exit 3\n",
            r"is no working Python: it ended with 3. It says:\nbroken loader",
        ),
        ("#!/bin/sh\necho 42\n", "is no working Python"),
        (
            '#!/bin/sh\necho \'{"version": [3, 8, 1], "implementation": "cpython"}\'\n',
            r"cpython 3\.8\.1; the model server",
        ),
        ('#!/bin/sh\necho \'{"version": [3, 11, 1], "implementation": "pypy"}\'\n', r"needs CPython 3\.10 or newer"),
    ],
)
async def test_what_is_no_python_that_can_serve_says_why(tmp_path: Path, text: str | None, said: str) -> None:
    python = tmp_path / "python"
    if text is not None:
        python.write_text(text)
        python.chmod(0o755)
    with pytest.raises(PythonUnusable, match=said):
        await Looks().facts(python)


@pytest.mark.skipif(os.getuid() != 0, reason="only root starts instances as other users")
async def test_a_folder_that_instances_could_not_read_is_refused(tmp_path: Path, venv: Path) -> None:
    packages_of(tmp_path / "venv").chmod(0o700)
    with pytest.raises(PythonUnusable, match="may not be read by others"):
        await Looks().facts(venv)


async def test_an_import_that_fails_is_told_with_its_last_lines(venv: Path) -> None:
    facts = await Looks().facts(venv)
    await try_imports(facts, ("torch",))
    put_package(venv.parents[1], "torch", "2.3.0", "raise OSError('libgomp.so.1 is missing')")
    with pytest.raises(PythonUnusable, match=r"(?s)cannot import numpy, torch.*libgomp\.so\.1 is missing"):
        await try_imports(facts, ("numpy", "torch"))


def _facts(*modules: str) -> Facts:
    return Facts(Path("/p/bin/python"), "3.11.2", "python3.11", (), (), frozenset(modules), {})


@pytest.mark.parametrize(
    ("name", "modules", "toolkit"),
    [
        ("my/env", ["sklearn", "numpy"], "sklearn"),
        ("my/env", ["sklearn", "xgboost"], "xgboost"),
        ("my/env", ["torch", "sklearn"], "pytorch"),
        ("my/env", ["torch", "transformers", "sklearn"], "huggingface"),
        ("my/env", ["transformers"], "python"),
        ("my/env", ["onnxruntime"], "onnx"),
        ("my/env", [], "python"),
        ("pytorch-inference", ["torch", "transformers", "xgboost"], "pytorch"),
        (f"{DLC}/huggingface-pytorch-inference:2.1.0-transformers4.37.0-cpu-py310", ["torch"], "huggingface"),
        ("xgboost", [], "xgboost"),
        ("moorage/python", ["torch"], "python"),
    ],
)
def test_the_name_or_the_packages_say_the_toolkit(name: str, modules: list[str], toolkit: str) -> None:
    assert choose_toolkit(name, _facts(*modules)) == toolkit


def test_packages_of_several_frameworks_leave_the_choice_to_the_user() -> None:
    with pytest.raises(PythonUnusable, match=r"--toolkit pytorch\|xgboost"):
        choose_toolkit("my/env", _facts("torch", "xgboost", "sklearn"))


async def test_an_added_python_stands_for_its_images_as_it_is(
    tmp_path: Path, venv: Path, pythons: AddedPythons
) -> None:
    pythons.put(added(venv, "pytorch-inference"))
    here = environments(tmp_path, pythons)
    image = await here.resolve(f"{DLC}/pytorch-inference:2.3.0-cpu-py311")
    assert image is not None
    assert image.resolved.startswith(f"{DLC}/pytorch-inference@sha256:")
    made = await here.ensure(image, print)
    assert (made.python, made.toolkit, made.preload) == (venv, "pytorch", ("numpy", "torch"))
    assert not (tmp_path / "environments").exists()


async def test_of_several_names_the_longest_counts_and_none_leaves_the_built_in(
    tmp_path: Path, venv: Path, pythons: AddedPythons
) -> None:
    for name in ("pytorch-inference", "pytorch-inference:2.3", "other"):
        pythons.put(added(venv, name))
    found = pythons.find(f"{DLC}/pytorch-inference:2.3.0-cpu-py311")
    assert found is not None
    assert found.name == "pytorch-inference:2.3"
    image = await environments(tmp_path, pythons).resolve("moorage/onnx")
    assert image is not None
    assert image.resolved.startswith("moorage/onnx@sha256:")
    assert await environments(tmp_path, pythons).resolve("nobody/knows") is None


async def test_a_python_that_is_gone_says_so_and_what_to_do(tmp_path: Path, venv: Path, pythons: AddedPythons) -> None:
    pythons.put(added(venv))
    shutil.rmtree(tmp_path / "venv")
    with pytest.raises(EnvironmentFailure) as fault:
        await environments(tmp_path, pythons).resolve("my/env")
    for words in (
        "stands for the image my/env.",
        f"{venv} is not there",
        "it was Python 3.11.2 with torch 2.3.0.",
        "moorage images add my/env --python PATH",
    ):
        assert words in str(fault.value)


async def test_a_python_that_has_lost_its_framework_says_so(tmp_path: Path, venv: Path, pythons: AddedPythons) -> None:
    pythons.put(added(venv))
    here = environments(tmp_path, pythons)
    before = await here.resolve("my/env")
    (packages_of(tmp_path / "venv") / "torch.py").unlink()
    with pytest.raises(EnvironmentFailure, match="has no torch, which the toolkit pytorch needs"):
        await here.resolve("my/env")
    put_package(tmp_path / "venv", "torch", "2.4.0")
    after = await here.resolve("my/env")
    assert before is not None
    assert after is not None
    assert before.resolved != after.resolved


def test_added_pythons_are_remembered_replaced_and_removed(pythons: AddedPythons) -> None:
    assert pythons.all() == []
    assert not pythons.remove("my/env")
    first, second = added(Path("/a/python")), added(Path("/b/python"))
    pythons.put(first)
    pythons.put(added(Path("/c/python"), "other"))
    pythons.put(second)
    assert [entry.python for entry in pythons.all()] == ["/b/python", "/c/python"]
    assert pythons.remove("my/env")
    assert [entry.name for entry in pythons.all()] == ["other"]


@pytest.mark.slow  # makes environments
@pytest.mark.parametrize("with_pip", [True, False])
async def test_requirements_are_laid_over_a_python_and_nothing_is_done_to_it(
    tmp_path: Path, pythons: AddedPythons, *, with_pip: bool
) -> None:
    folder, code = tmp_path / "venv", tmp_path / "code"
    python = make_venv(folder, {"torch": "2.3.0"}, other_python() or sys.executable)
    if with_pip:
        subprocess.run([python, "-Im", "ensurepip"], check=True, capture_output=True, timeout=60)
    code.mkdir()
    write_wheel(code, "tiny", files={"tiny.py": "import torch\nANSWER = 42"}, requires=["torch>=2"])
    code.joinpath("requirements.txt").write_text("--no-index\n--find-links .\ntiny\n")
    pythons.put(added(python))
    here, before = environments(tmp_path, pythons), sorted(folder.rglob("*"))
    image = await here.resolve("my/env")
    assert isinstance(image, PythonImage)
    below = await here.ensure(image, print)
    above = await here.overlay(below, code / "requirements.txt", print)
    asked = "import sys, tiny; print(tiny.ANSWER, sys.version_info[:2], tiny.torch.__file__)"
    said = subprocess.run([above.python, "-Ic", asked], check=True, capture_output=True, text=True, timeout=60).stdout
    version = tuple(map(int, image.facts.version.split(".")[:2]))
    assert said.split(" ", 1) == ["42", f"{version} {packages_of(folder) / 'torch.py'}\n"]
    assert (above.toolkit, above.preload, above.packages[1:]) == ("pytorch", ("torch",), below.packages)
    assert set(below.folders) < set(above.folders)
    assert [path for path in sorted(folder.rglob("*")) if "__pycache__" not in path.parts] == [
        path for path in before if "__pycache__" not in path.parts
    ]


def test_the_model_server_has_no_newer_syntax_than_it_promises() -> None:
    for path in SERVING.rglob("*.py"):
        ast.parse(path.read_text(encoding="utf-8"), path.name, feature_version=OLDEST_PYTHON)


IMPORT_ALL = """
import importlib, importlib.util, pathlib, sys
folder = pathlib.Path(sys.argv[1])
found = importlib.util.spec_from_file_location("main", folder / "__main__.py")
main = importlib.util.module_from_spec(found)
found.loader.exec_module(main)
main.load_package(folder)
for path in sorted(folder.rglob("*.py")):
    if path.stem != "__main__":
        name = ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix("__init__")
        importlib.import_module(f"moorage_serving.{name}".rstrip("."))
"""


def test_the_model_server_runs_on_the_oldest_python_that_it_promises() -> None:
    oldest = other_python()
    if oldest is None or not oldest.endswith(".".join(map(str, OLDEST_PYTHON))):
        pytest.skip("there is no such Python here")
    subprocess.run([oldest, "-I", "-c", IMPORT_ALL, SERVING], check=True, timeout=60)


@needs_debians_torch
async def test_debians_python_stands_for_pytorchs_images(tmp_path: Path, pythons: AddedPythons) -> None:
    facts = await Looks().facts(DEBIANS)
    assert choose_toolkit("my/torch", facts) == "pytorch"
    assert Path("/usr/lib/python3/dist-packages") in facts.packages
    await try_imports(facts, ("torch",))
