"""``moorage images``, without a server."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.support.images import Image, make_layer
from tests.support.pythons import make_venv, put_package
from tests.support.wheels import write_wheel

from moorage.cli.main import cli


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOORAGE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("MOORAGE_ENVIRONMENTS_DIR", str(tmp_path / "environments"))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return Image((make_layer({"a": b"1"}),), {}).archive(tmp_path / "image.tar", "whatever:1")


def moorage(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["images", *arguments])


def test_image_is_added_listed_and_removed(archive: Path) -> None:
    added = moorage("add", "team/model:1", "--archive", str(archive))
    assert added.exit_code == 0, added.output
    digest = added.stdout.strip()
    (row,) = json.loads(moorage("ls", "--output", "json").stdout)
    assert (row["name"], row["digest"], row["pinned"]) == ("team/model:1", digest, True)
    assert (row["kind"], row["bytes"] > 0) == ("archive", True)
    heads, line = moorage("ls").stdout.splitlines()
    assert heads.split() == ["image", "kind", "versions", "size", "added"]
    assert line.startswith(f"team/model:1  archive  {digest[7:19]}  4.1 kB  ")
    assert moorage("rm", "team/model:1").exit_code == 0
    assert json.loads(moorage("ls", "--output", "json").stdout) == []


def test_what_is_not_there_cannot_be_removed() -> None:
    removed = moorage("rm", "team/model:1")
    assert (removed.exit_code, removed.stderr) == (
        1,
        "Error: There is no image team/model:1 on this machine: moorage images ls\n",
    )


def test_image_that_cannot_be_had_is_told_with_its_reason() -> None:
    added = moorage("add", "127.0.0.1:1/team/model:1")
    assert added.exit_code == 1
    assert "Error: The image 127.0.0.1:1/team/model:1 cannot be had: 127.0.0.1:1 cannot be reached" in added.stderr


def test_name_that_is_none_is_refused(archive: Path) -> None:
    assert "is not the name of an image" in moorage("add", "No Name", "--archive", str(archive)).stderr
    assert "is not the name of an image" in moorage("rm", "No Name").stderr


def test_python_is_added_listed_checked_and_removed(tmp_path: Path) -> None:
    python = make_venv(tmp_path / "venv", {"torch": "2.3.0"})
    added = moorage("add", "my/env", "--python", str(python))
    version = ".".join(map(str, sys.version_info[:3]))
    assert added.stdout == f"my/env: torch 2.3.0, Python {version}, served like pytorch\n"
    (row,) = json.loads(moorage("ls", "--output", "json").stdout)
    assert (row["name"], row["kind"], row["toolkit"], row["python"]) == ("my/env", "python", "pytorch", str(python))
    assert moorage("ls").stdout.splitlines()[1].startswith(f"my/env  python  torch 2.3.0, Python {version}  ")
    assert moorage("build", "my/env").stdout == f"{python}\n"
    assert moorage("rm", "my/env").exit_code == 0
    assert python.exists()
    assert moorage("build", "my/env").stderr.startswith("Error: Moorage has no built-in image my/env. It has: ")


def test_python_that_cannot_be_used_is_not_added(tmp_path: Path) -> None:
    empty = make_venv(tmp_path / "empty", {})
    several = make_venv(tmp_path / "several", {"torch": "2.3.0", "xgboost": "3.0.5"})
    broken = make_venv(tmp_path / "broken", {})
    put_package(tmp_path / "broken", "torch", "2.3.0", "raise OSError('no libgomp')")
    for python, options, said in (
        (tmp_path / "none", (), "is not there, or is no program that may be run"),
        (empty, ("--toolkit", "xgboost"), "has no xgboost, which the toolkit xgboost needs"),
        (several, (), "say which one is meant with --toolkit pytorch|xgboost"),
        (broken, (), "no libgomp"),
    ):
        refused = moorage("add", "my/env", "--python", str(python), *options)
        assert (refused.exit_code, said in refused.stderr) == (1, True), refused.stderr
    assert "is not the name of an image" in moorage("add", "No Name", "--python", str(empty)).stderr
    assert json.loads(moorage("ls", "--output", "json").stdout) == []
    assert moorage("add", "my/env", "--python", str(several), "--toolkit", "xgboost").exit_code == 0


def test_options_that_do_not_go_together_are_refused(archive: Path) -> None:
    assert (
        "give one of --archive and --python" in moorage("add", "a", "--archive", str(archive), "--python", "/p").stderr
    )
    assert "--toolkit says what the Python" in moorage("add", "a", "--toolkit", "onnx").stderr


@pytest.mark.slow  # makes an environment, in real processes
def test_built_in_image_is_made_of_wheels_without_a_network_listed_and_removed(tmp_path: Path) -> None:
    listed = run("build", "--list", "moorage/onnx:1.20")
    requirements = listed.stdout.split()
    assert requirements[0].startswith("onnxruntime==")
    for name, version in (line.split("==") for line in requirements):
        write_wheel(tmp_path, name, version)
    built = run("build", "--offline", str(tmp_path), "moorage/onnx:1.20", PIP_INDEX_URL="http://127.0.0.1:1/nobody")
    assert "installing onnxruntime 1.2" in built.stderr
    python = Path(built.stdout.strip())
    assert python.is_relative_to(tmp_path / "environments")
    (row,) = json.loads(run("ls", "--output", "json").stdout)
    assert (row["name"], row["kind"]) == ("moorage/onnx:1.20", "built-in")
    assert row["versions"].startswith("onnxruntime 1.2")
    assert run("rm", "moorage/onnx:1.20").returncode == 0
    assert not python.exists()
    gone = run("rm", "moorage/onnx:1.20")
    assert gone.stderr == "Error: There is no image moorage/onnx:1.20 on this machine: moorage images ls\n"


@pytest.mark.slow  # makes an environment, in real processes
def test_build_without_an_index_names_the_way_without_a_network() -> None:
    failed = run("build", "sagemaker-xgboost:1.7-1", PIP_NO_INDEX="1", PIP_FIND_LINKS="")
    assert failed.returncode == 1
    assert "moorage images build --offline WHEELS sagemaker-xgboost:1.7-1" in failed.stderr
    assert "Traceback" not in failed.stderr


def run(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run the command as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "moorage", "images", *arguments],
        env={**os.environ, **variables},
        check=False,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=110,
    )
