"""``moorage images add``, ``ls`` and ``rm``, without a server."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.support.images import Image, make_layer

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
