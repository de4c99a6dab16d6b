"""Folders that are hard to remove."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from moorage.base.data_dir import remove_folder
from moorage.base.removal import remove_tree

DEPTH = 3000
"""Folders in each other, more than Python recurses and the kernel takes in one path."""


@pytest.mark.parametrize("remove", [remove_tree, remove_folder])
def test_folders_deeper_than_a_path_reaches_go(tmp_path: Path, remove: Callable[[Path], None]) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    at = os.open(folder, os.O_RDONLY)
    for _ in range(DEPTH):
        os.mkdir("d", dir_fd=at)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, 0o400, dir_fd=at))
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.fchmod(at, 0o500)
        os.close(at)
        at = below
    os.close(at)
    remove(folder)
    assert not folder.exists()


def test_what_links_lead_to_stays(tmp_path: Path) -> None:
    kept = tmp_path / "kept/in/it"
    kept.mkdir(parents=True)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(kept.parent)
    (tmp_path / "whole").symlink_to(kept.parents[1])
    remove_tree(folder)
    remove_tree(tmp_path / "whole")
    remove_tree(tmp_path / "never was")
    assert not folder.exists()
    assert kept.is_dir()
