"""Docker's configuration file: what is known of a registry, and what is said where it cannot be read."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from moorage.engine.credentials import Credentials, UnusableCredentials, config_file, find_credentials


def written(folder: Path, config: Any) -> Path:
    file = folder / "config.json"
    file.write_text(config if isinstance(config, str) else json.dumps(config), encoding="utf-8")
    return file


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def helper(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_password_of_a_registry_is_found(tmp_path: Path) -> None:
    file = written(tmp_path, {"auths": {"r:5000": {"auth": encoded("me:se:cret")}}})
    assert find_credentials("r:5000", file) == Credentials("me", "se:cret")
    assert find_credentials("other:5000", file) is None


def test_registry_may_be_written_as_a_url(tmp_path: Path) -> None:
    file = written(tmp_path, {"auths": {"https://r": {"identitytoken": "t"}}})
    assert find_credentials("r", file) == Credentials(token="t")


def test_docker_hub_is_known_by_its_old_address(tmp_path: Path) -> None:
    file = written(tmp_path, {"auths": {"https://index.docker.io/v1/": {"auth": encoded("me:x")}}})
    assert find_credentials("docker.io", file) == Credentials("me", "x")


def test_nothing_is_known_where_there_is_no_file(tmp_path: Path) -> None:
    assert find_credentials("r", tmp_path / "config.json") is None


def test_helper_of_a_registry_is_asked_before_that_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, "mine", """read host; echo "{\\"Username\\": \\"u\\", \\"Secret\\": \\"$host\\"}" """, monkeypatch)
    helper(tmp_path, "all", """echo '{"Username": "<token>", "Secret": "t"}'""", monkeypatch)
    file = written(tmp_path, {"credHelpers": {"r:5000": "mine"}, "credsStore": "all"})
    assert find_credentials("r:5000", file) == Credentials("u", "r:5000")
    assert find_credentials("other", file) == Credentials(token="t")


def test_helper_that_knows_nothing_leaves_it_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, "none", "echo 'credentials not found in native keychain'; exit 1", monkeypatch)
    file = written(tmp_path, {"credsStore": "none", "auths": {"r": {"auth": encoded("me:x")}, "s": {}}})
    assert find_credentials("r", file) == Credentials("me", "x")
    assert find_credentials("s", file) is None


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("{", "cannot be read"),
        ("[]", "is not an object of JSON"),
        ({"auths": {"r": {"auth": "%%%"}}}, "unreadable password for r: docker login again"),
        ({"credsStore": "no-such-thing"}, "docker-credential-no-such-thing, .* did not answer"),
    ],
)
def test_what_cannot_be_read_is_told(tmp_path: Path, config: Any, words: str) -> None:
    with pytest.raises(UnusableCredentials, match=words):
        find_credentials("r", written(tmp_path, config))


def test_answer_that_is_none_of_a_helper_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, "odd", "echo hello", monkeypatch)
    with pytest.raises(UnusableCredentials, match="an answer that is none of a credential helper"):
        find_credentials("r", written(tmp_path, {"credsStore": "odd"}))


def test_file_is_where_docker_has_it() -> None:
    assert config_file({"DOCKER_CONFIG": "/elsewhere"}) == Path("/elsewhere/config.json")
    assert config_file({}) == Path.home() / ".docker" / "config.json"
