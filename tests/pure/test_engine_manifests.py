import json
from typing import Any

import pytest

from moorage.engine.registry.manifests import (
    Blob,
    UnusableImage,
    choose_manifest,
    read_config,
    read_manifest,
)
from moorage.engine.rootfs.accounts import Account, resolve_account

ONE, TWO = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"


def packed(**document: Any) -> bytes:
    return json.dumps(document).encode()


def entry(digest: str, architecture: str, os: str = "linux") -> dict[str, Any]:
    return {"digest": digest, "size": 5, "platform": {"architecture": architecture, "os": os}}


def test_index_gives_the_manifest_of_this_architecture() -> None:
    index = packed(manifests=[entry(ONE, "arm64"), entry(TWO, "amd64"), entry(ONE, "unknown", "unknown")])
    assert choose_manifest(index, "amd64") == Blob(TWO, 5)


def test_index_without_this_architecture_is_refused_and_its_own_are_named() -> None:
    index = packed(manifests=[entry(ONE, "arm64"), entry(TWO, "amd64", "windows"), entry(ONE, "unknown", "unknown")])
    with pytest.raises(UnusableImage, match="not for linux/amd64, only for linux/arm64, windows/amd64"):
        choose_manifest(index, "amd64")


def test_manifest_names_configuration_and_layers_in_their_order() -> None:
    parts = [{"digest": ONE, "size": 1}, {"digest": TWO, "size": 2}]
    manifest = read_manifest(packed(schemaVersion=2, config={"digest": TWO, "size": 3}, layers=parts))
    assert manifest.config == Blob(TWO, 3)
    assert manifest.layers == (Blob(ONE, 1), Blob(TWO, 2))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"not json", "not JSON"),
        (b"[]", "not an object"),
        (packed(schemaVersion=1), "long out of use"),
        (packed(schemaVersion=2, layers="many"), "damaged"),
        (packed(schemaVersion=2, layers=[{"digest": "md5:1", "size": 1}], config={"digest": ONE, "size": 1}), "sha256"),
        (packed(schemaVersion=2, layers=[{"digest": ONE, "size": -1}], config={"digest": ONE, "size": 1}), "damaged"),
        (packed(schemaVersion=2, layers=[{"digest": f"{ONE}/../x", "size": 1}], config=None), "damaged|sha256"),
    ],
)
def test_damaged_manifest_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(UnusableImage, match=reason):
        read_manifest(content)


def test_configuration_says_how_to_run() -> None:
    inner = {"Entrypoint": ["run", "me"], "Env": ["A=1=2", "B="], "WorkingDir": "/w", "User": "7"}
    content = packed(os="linux", architecture="amd64", config=inner, rootfs={"diff_ids": [ONE]})
    config = read_config(content, "amd64")
    assert (config.entrypoint, config.folder, config.user, config.diff_ids) == (("run", "me"), "/w", "7", (ONE,))
    assert config.environment == {"A": "1=2", "B": ""}


def test_configuration_of_nothing_has_the_defaults() -> None:
    config = read_config(packed(config=None, rootfs={"diff_ids": []}), "amd64")
    assert (config.entrypoint, config.folder, config.user) == ((), "/", "")


def test_image_for_another_architecture_is_refused() -> None:
    with pytest.raises(UnusableImage, match="is for linux/arm64, and this machine is linux/amd64"):
        read_config(packed(os="linux", architecture="arm64", rootfs={"diff_ids": []}), "amd64")


USERS = [["root", "x", "0", "0", "", "/root", "sh"], ["web", "x", "33", "34", "", "/var/www", ""], ["broken"]]
GROUPS = [["root", "x", "0", ""], ["www", "x", "34", ""], ["gpu", "x", "44", "web,other"]]


@pytest.mark.parametrize(
    ("user", "account"),
    [
        ("", Account(0, 0, (), "/root")),
        ("web", Account(33, 34, (44,), "/var/www")),
        ("33", Account(33, 34, (44,), "/var/www")),
        ("web:gpu", Account(33, 44, (), "/var/www")),
        ("web:7", Account(33, 7, (), "/var/www")),
        ("1000", Account(1000, 0, (), "/")),
        ("1000:2000", Account(1000, 2000, (), "/")),
    ],
)
def test_user_is_who_the_image_says(user: str, account: Account) -> None:
    assert resolve_account(user, USERS, GROUPS) == account


@pytest.mark.parametrize(
    ("user", "reason"),
    [("nobody", "the user nobody"), ("web:nogroup", "the group nogroup"), ("1000700000", "end at 65535")],
)
def test_user_that_cannot_be_is_refused(user: str, reason: str) -> None:
    with pytest.raises(UnusableImage, match=reason):
        resolve_account(user, USERS, GROUPS)
