"""Client programs in other languages: built once into the user's cache folder, outside the checkout.

A program is a folder of sources in ``tests/clients``. It is copied to ``~/.cache/moorage/clients/LANGUAGE-HASH``, where
HASH is of its manifest (what it depends on), and built there; a change of its own sources builds on what is there.
Where a toolchain is missing, the tests that need it are skipped with a line that says so; with ``CI=true`` they fail.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

_SOURCES = Path(__file__).parent.parent / "clients"
_BUILT = "built"


@dataclass(frozen=True)
class Toolchain:
    """How the program of one language is built and started."""

    language: str
    """The folder of its sources in ``tests/clients``."""
    tools: tuple[str, ...]
    """Programs that must be on the PATH."""
    manifest: tuple[str, ...]
    """The files that say what it depends on."""
    build: tuple[tuple[str, ...], ...]
    """Commands that make the program, run in the cache folder."""
    run: tuple[str, ...]
    """The command that starts it there."""
    seconds: int
    """The longest that a build may take."""

    @property
    def sources(self) -> Path:
        """Give the folder of its sources."""
        return _SOURCES / self.language

    @property
    def folder(self) -> Path:
        """Give the folder in the user's cache where it is built."""
        name = f"{self.language}-{_hash_of([self.sources / name for name in self.manifest])}"
        return _cache() / "moorage" / "clients" / name

    @property
    def is_built(self) -> bool:
        """Say whether all that it depends on has been built before."""
        return (self.folder / _BUILT).exists()

    def require(self) -> None:
        """Skip the test where a tool is missing; with ``CI=true`` fail it."""
        missing = [tool for tool in self.tools if shutil.which(tool) is None]
        if not missing:
            return
        reason = f"the {self.language} client needs {', '.join(missing)}, not found on the PATH"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{reason}; with CI=true it is required")
        pytest.skip(reason)

    def ensure_built(self) -> Path:
        """Build the program unless this very program is there; gives its folder."""
        folder = self.folder
        folder.mkdir(parents=True, exist_ok=True)
        files = sorted(path for path in self.sources.rglob("*") if path.is_file())
        wanted = _hash_of(files)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
            stamp = folder / _BUILT
            if not stamp.exists() or stamp.read_text() != wanted:
                shutil.copytree(self.sources, folder, dirs_exist_ok=True)
                for command in self.build:
                    self._must(command, folder)
                stamp.write_text(wanted)
        return folder

    def _must(self, command: tuple[str, ...], folder: Path) -> None:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=self.seconds,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(command)} failed:\n{done.stdout[-6000:]}"

    def start(self, environment: Mapping[str, str], within_seconds: int = 240) -> str:
        """Run the built program to its end; gives what it printed."""
        done = subprocess.run(
            self.run,
            cwd=self.ensure_built(),
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=within_seconds,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-6000:]}"
        return done.stdout


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _hash_of(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


JAVASCRIPT = Toolchain(
    language="javascript",
    tools=("node", "npm"),
    manifest=("package.json", "package-lock.json"),
    build=(("npm", "ci", "--no-audit", "--no-fund"),),
    run=("node", "life.mjs"),
    seconds=300,
)
GO = Toolchain(
    language="go",
    tools=("go",),
    manifest=("go.mod", "go.sum"),
    build=(("go", "build", "-o", "life", "."),),
    run=("./life",),
    seconds=600,
)
JAVA = Toolchain(
    language="java",
    tools=("java", "javac", "mvn"),
    manifest=("pom.xml",),
    build=(
        ("mvn", "--quiet", "--batch-mode", "dependency:copy-dependencies", "-DoutputDirectory=libraries"),
        ("javac", "-cp", "libraries/*", "-d", "classes", "Life.java"),
    ),
    run=("java", "-cp", "classes:libraries/*", "Life"),
    seconds=600,
)
RUST = Toolchain(
    language="rust",
    tools=("cargo",),
    manifest=("Cargo.toml",),
    build=(("nice", "cargo", "build", "--quiet"),),
    run=("target/debug/moorage-client-rust",),
    seconds=3600,
)
