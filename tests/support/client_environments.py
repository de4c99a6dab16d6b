"""Clients that need an environment of their own: other versions of boto3, the SageMaker Python SDKs, the AWS CLI v2.

Each is made once (``made_once``), from pinned versions, in ``clients`` of the user's cache folder, and used as it is:
no client is changed.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.made_once import CannotMake, cache_folder, made_once, or_skip, run
from tests.support.product import Moorage

SCRIPTS = Path(__file__).parents[1] / "clients" / "python"
_LIFE_SECONDS = 240
_DEBIAN_PYTHON = Path("/usr/bin/python3")
_NOT_LIBRARIES = {"python3-minimal"}


@dataclass(frozen=True)
class PythonClient:
    """A Python with the packages of ``tests/clients/python/<name>.txt``, for the scripts that lie beside it."""

    python: Path

    def live(self, script: str, moorage: Moorage, *arguments: str, home: Path, **environment: str) -> Any:
        """Run a script in the environment that ``eval "$(moorage env)"`` makes; gives the JSON of its last line."""
        done = subprocess.run(
            [self.python, SCRIPTS / script, *arguments],
            env={**clean_environment(moorage, home), **environment},
            cwd=home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LIFE_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{script} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout.strip().splitlines()[-1])


def clean_environment(moorage: Moorage, home: Path) -> dict[str, str]:
    """Give a user's environment: the exports, a home folder, and nothing of the shell that runs the tests."""
    kept: Mapping[str, str] = {name: os.environ[name] for name in ("PATH", "TZ", "LANG") if name in os.environ}
    return {
        **kept,
        **moorage.exports(),
        "HOME": str(home),
        "AWS_PAGER": "",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(home / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(home / "none"),
    }


def sdk_defaults(home: Path) -> dict[str, str]:
    """Switch off the SageMaker SDKs' telemetry, which asks STS and S3 at their public addresses, as a user would."""
    file = home / "sdk-defaults.yaml"
    file.write_text('SchemaVersion: "1.0"\nSageMaker: {PythonSDK: {Modules: {TelemetryOptOut: true}}}\n')
    return {"SAGEMAKER_ADMIN_CONFIG_OVERRIDE": str(file), "SAGEMAKER_USER_CONFIG_OVERRIDE": str(file)}


def python_client(name: str) -> PythonClient:
    """Give the environment of a Python client, made on first use."""
    requirements = SCRIPTS / f"{name}.txt"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    key = hashlib.sha256(version.encode() + requirements.read_bytes()).hexdigest()[:12]

    def make(folder: Path) -> None:
        run(sys.executable, "-m", "venv", folder)
        run(folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input",
             "--no-deps", "--requirement", requirements)  # fmt: skip

    folder = or_skip(lambda: made_once(cache_folder("clients") / f"{name}-{key}", make), name)
    return PythonClient(folder / "bin" / "python")


@dataclass(frozen=True)
class AwsCli:
    """An AWS CLI in a user's shell."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    """The home folder and the working folder."""

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command, whatever comes of it."""
        return subprocess.run(
            [*self.command, *arguments],
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def text(self, *arguments: str) -> str:
        """Run a command that must succeed; gives what it prints."""
        done = self.run(*arguments)
        assert done.returncode == 0, f"aws {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def json(self, *arguments: str) -> Any:
        """Run a command that must succeed and prints JSON."""
        return json.loads(self.text(*arguments, "--output", "json"))


def aws_cli_v1(moorage: Moorage, home: Path) -> AwsCli:
    """Give the AWS CLI v1, which is among the tests' own packages."""
    return AwsCli((str(Path(sys.executable).with_name("aws")),), clean_environment(moorage, home), home)


def aws_cli_v2(moorage: Moorage, home: Path) -> AwsCli:
    """Give the AWS CLI v2 of this Debian, downloaded and unpacked on first use; nothing is installed.

    It knows no ``AWS_ENDPOINT_URL``.
    """
    root = or_skip(lambda: made_once(cache_folder("clients") / "awscli-v2", _unpack_cli_v2), "AWS CLI v2")
    environment = {**clean_environment(moorage, home), **_finds_its_packages(root)}
    url = environment.pop("AWS_ENDPOINT_URL")
    return AwsCli((*_cli_v2_in(root), "--endpoint-url", url), environment, home)


def _cli_v2_in(root: Path) -> tuple[str, ...]:
    return (str(_DEBIAN_PYTHON), "-s", str(root / "usr" / "bin" / "aws"))


def _finds_its_packages(root: Path) -> dict[str, str]:
    return {"PYTHONPATH": str(root / "usr" / "lib" / "python3" / "dist-packages")}


def _unpack_cli_v2(folder: Path) -> None:
    archives = folder / "archives"
    archives.mkdir(parents=True)
    _download_cli_v2(archives)
    for archive in archives.glob("*.deb"):
        run("dpkg-deb", "--extract", archive, folder)
        archive.unlink()
    said = subprocess.run(
        [*_cli_v2_in(folder), "--version"],
        env={**os.environ, **_finds_its_packages(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if not said.stdout.startswith("aws-cli/2."):
        raise CannotMake(f"the package awscli says of itself: {said.stdout or said.stderr}")


def _download_cli_v2(folder: Path) -> None:
    try:
        run("apt-get", "download", *_packages_of_cli_v2(), cwd=folder)
    except CannotMake:
        if os.geteuid():
            raise
        run("apt-get", "--quiet", "update")  # a fresh machine has no package lists
        run("apt-get", "download", *_packages_of_cli_v2(), cwd=folder)


def _packages_of_cli_v2() -> list[str]:
    """Name the package and the Python libraries that it needs."""
    no_more = [f"--no-{kind}" for kind in ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")]
    lines = run("apt-cache", "depends", "--recurse", *no_more, "awscli").splitlines()
    needed = {line for line in lines if line.startswith("python3-")} - _NOT_LIBRARIES
    if not needed:
        raise CannotMake("there is no Debian package awscli")
    return ["awscli", "docutils-common", *sorted(needed)]
