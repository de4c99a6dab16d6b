"""The model server is loaded by the Pythons of environments that are already there: 3.9 and newer."""

import ast
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import moorage.serving

FOLDER = Path(moorage.serving.__path__[0])
LOWEST = (3, 9)
OTHERS = ("3.9", "3.10", "3.12", "3.13", "3.14")

IMPORT_ALL = """
import importlib, pathlib, runpy, sys
folder = pathlib.Path(sys.argv[1])
runpy.run_path(str(folder / "__main__.py"), run_name="loaded")["load_package"](folder)
for path in sorted(folder.rglob("*.py")):
    name = ".".join(path.relative_to(folder).with_suffix("").parts)
    if not name.endswith("__main__"):
        importlib.import_module("moorage_serving." + name)
print("%d.%d" % sys.version_info[:2], "numpy" in sys.modules)
"""


def _modules() -> list[Path]:
    return sorted(FOLDER.rglob("*.py"))


@pytest.mark.parametrize("path", _modules(), ids=lambda path: path.relative_to(FOLDER).as_posix())
def test_module_is_in_the_words_of_the_lowest_python(path: Path) -> None:
    ast.parse(path.read_text(encoding="utf-8"), feature_version=LOWEST)


def _pythons() -> Iterator[tuple[str, str]]:
    for version in OTHERS:
        found = [*map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))]
        found += filter(None, [shutil.which(f"python{version}")])
        working = (
            path for path in found if not subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode
        )
        if path := next(working, None):
            yield version, path


def test_every_python_of_this_machine_imports_all_of_it_without_a_framework() -> None:
    pythons = dict(_pythons())
    if not pythons:
        pytest.skip(f"this machine has no other Python of {', '.join(OTHERS)}")
    for version, python in pythons.items():
        said = subprocess.run(
            [python, "-I", "-B", "-c", IMPORT_ALL, FOLDER], capture_output=True, text=True, timeout=60, check=False
        )
        assert said.stdout.split() == [version, "False"], f"{python}: {said.stderr}"
