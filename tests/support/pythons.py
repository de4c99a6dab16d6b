"""Pythons that stand for images: virtual environments with packages that are written down."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

DEBIANS = Path("/usr/bin/python3")
"""Debian's own Python, for which ``python3-torch`` is."""

_PYENV = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"


def make_venv(folder: Path, packages: Mapping[str, str], python: str = sys.executable) -> Path:
    """Make an environment without pip, with one empty module for each package and version; gives its Python."""
    subprocess.run([python, "-Im", "venv", "--without-pip", str(folder)], check=True, timeout=60)
    for name, version in packages.items():
        put_package(folder, name, version)
    return folder / "bin" / "python"


def packages_of(folder: Path) -> Path:
    """Give the folder of an environment's packages."""
    return next(folder.glob("lib/python*/site-packages"))


def put_package(folder: Path, name: str, version: str, text: str = "") -> None:
    """Install a package, in place of another version."""
    packages = packages_of(folder)
    for old in packages.glob(f"{name}-*.dist-info"):
        shutil.rmtree(old)
    packages.joinpath(f"{name}.py").write_text(text, encoding="utf-8")
    about = packages / f"{name}-{version}.dist-info"
    about.mkdir()
    about.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def debians_torch() -> bool:
    """Say whether Debian's Python has torch."""
    if not DEBIANS.exists():
        return False
    asked = "import importlib.util as i, sys; sys.exit(not i.find_spec('torch'))"
    return subprocess.run([DEBIANS, "-Ic", asked], check=False, timeout=60).returncode == 0


needs_debians_torch = pytest.mark.skipif(not debians_torch(), reason="Debian's package python3-torch is not installed")
"""A mark."""


def other_python() -> str | None:
    """Give a Python of another version than this one, new enough for the model server."""
    for minor in (10, 12, 13, 11, 14):
        for found in (shutil.which(f"python3.{minor}"), *map(str, _PYENV.glob(f"3.{minor}.*/bin/python3.{minor}"))):
            if found is None or minor == sys.version_info.minor:
                continue
            said = subprocess.run(
                [found, "-Ic", "import sys; print(sys.version_info[1])"],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            if said.stdout.strip() == str(minor):
                return found
    return None
