"""The scripts that everybody guesses say what they do, and the package holds what it must."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ["scripts/demo", "scripts/test", "scripts/lint", "scripts/bench", "scripts/lock", "scripts/package"]
SCRIPTS += ["scripts/lowest-check", "scripts/models", ".ci/run"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_explains_itself(script: str) -> None:
    # A script in Python is run by the environment's own, as its user would.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    said = subprocess.run(
        [str(ROOT / script), "--help"],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert said.stdout.startswith("usage: ")


def test_the_package_check_complains_of_what_is_missing_and_of_what_is_too_much(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "moorage-0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("moorage/py.typed", "")
        wheel.writestr("tests/pure/test_x.py", "")
    with tarfile.open(tmp_path / "moorage-0.tar.gz", "w:gz"):
        pass
    said = subprocess.run(
        [sys.executable, "scripts/check_package.py", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 1
    assert "the wheel lacks moorage/cli/main.py" in said.stderr
    assert "the sdist lacks README.md" in said.stderr
    assert "tests/pure/test_x.py has no business there" in said.stderr
    assert "py.typed" not in said.stderr
