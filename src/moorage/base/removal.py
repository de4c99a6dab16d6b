"""Removes folders that others have filled: also read-only ones, and ones deeper in each other than a path reaches."""

import contextlib
import os
import secrets
import shutil
import stat
from pathlib import Path


def remove_tree(folder: Path) -> None:
    """Remove a folder with all in it, also what was made read-only; no fault if it is not there. Blocks."""
    flatten(folder)
    shutil.rmtree(folder, ignore_errors=True)


def flatten(folder: Path) -> None:
    """Make all folders below one writable and move them directly below it: to be removed, not to be used. Blocks.

    Walking down by recursion, as shutil does before Python 3.13, ends at some hundred folders in each other.
    """
    waiting = [] if folder.is_symlink() else [str(folder)]
    while waiting:
        parent = waiting.pop()
        with contextlib.suppress(OSError):
            os.chmod(parent, stat.S_IRWXU)  # noqa: PTH101 - text is fast
        below = _folders_in(parent)
        waiting += below if parent == str(folder) else [_moved(path, folder / secrets.token_hex(16)) for path in below]


def _moved(path: str, place: Path) -> str:
    """Move a folder, and say where it is then: a mount stays where it is."""
    try:
        os.chmod(path, stat.S_IRWXU)  # noqa: PTH101 - an ordinary user cannot move it otherwise
        os.rename(path, place)  # noqa: PTH104
    except OSError:
        return path
    return str(place)


def _folders_in(parent: str) -> list[str]:
    """Give the folders in a folder; none where it cannot be read."""
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    return []
