"""Folders that are built once, by whichever process comes first, and are whole or not there.

A folder is built under a temporary name beside its place and renamed at the end. Whoever builds holds a file lock,
which the kernel lets go when the process dies in whatever way; the next one clears away what was left and builds anew.
"""

import asyncio
import contextlib
import fcntl
import glob
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

from moorage.base.clock import Clock
from moorage.base.removal import remove_tree

_LOOK_AGAIN_SECONDS = 0.1


async def build_once(
    folder: Path,
    build: Callable[[Path], Awaitable[None]],
    *,
    clock: Clock,
    waits: Callable[[], None],
) -> Path:
    """Give the folder, after ``build`` has filled a temporary one for it if it was not there.

    ``waits`` is called once when another is at work on the same folder. Raises what ``build`` raises; nothing is left
    then. The caller sets the deadline (``asyncio.timeout``).
    """
    if await asyncio.to_thread(folder.is_dir):
        return folder
    await asyncio.to_thread(folder.parent.mkdir, parents=True, exist_ok=True)
    async with _lock(folder, clock, waits):
        if await asyncio.to_thread(folder.is_dir):
            return folder
        unfinished = await asyncio.to_thread(_make_unfinished, folder)
        try:
            await build(unfinished)
            await asyncio.to_thread(unfinished.rename, folder)
        finally:
            await asyncio.to_thread(_clear_away, folder)
    return folder


def set_aside(folder: Path) -> Path | None:
    """Give a built folder another name, under which nobody finds it, to be removed; None while it is being built.

    A few system calls: nobody ever sees half of it.
    """
    descriptor = _try_lock(folder)
    if descriptor is None:
        return None
    try:
        doomed = folder.with_name(_unfinished_name(folder))
        folder.rename(doomed)
    except FileNotFoundError:
        return None
    finally:
        os.close(descriptor)
    return doomed


def remove_built(folder: Path) -> bool:
    """Remove a built folder unless it is being built just now; says whether it is gone. Blocks."""
    doomed = set_aside(folder)
    if doomed is not None:
        remove_tree(doomed)
    return doomed is not None


def clear_unfinished(parent: Path) -> None:
    """Remove what builders that were killed have left of the folders below ``parent``. Blocks."""
    for left_over in parent.glob(".*.unfinished-*"):
        folder = parent / left_over.name[1:].rpartition(".unfinished-")[0]
        descriptor = _try_lock(folder)
        if descriptor is not None:  # else somebody is at work on it
            try:
                _clear_away(folder)
            finally:
                os.close(descriptor)


def lay_over(base: Path | None, code: Path, folder: Path) -> None:
    """Make a folder of what is in the base, and of ``code`` in place of its own; files by second names. Blocks."""
    folder.mkdir(mode=0o755)
    for entry in base.iterdir() if base else ():
        if entry.name == "code":
            continue
        if entry.is_dir() and not entry.is_symlink():
            link_tree(entry, folder / entry.name)
        else:
            os.link(entry, folder / entry.name, follow_symlinks=False)  # Path.hardlink_to would follow
    link_tree(code, folder / "code")
    folder.chmod(0o555)  # shared with instances, which run as other users


def lay_beside(folders: Mapping[str, Path], folder: Path) -> None:
    """Make a folder that has others by names; files by second names. Blocks."""
    folder.mkdir(mode=0o755)
    for name, source in folders.items():
        link_tree(source, folder / name)
    folder.chmod(0o555)


def link_tree(source: Path, target: Path) -> None:
    """Make a folder like another, of its files by second names. Blocks."""
    shutil.copytree(source, target, symlinks=True, copy_function=os.link)


@contextlib.asynccontextmanager
async def _lock(folder: Path, clock: Clock, waits: Callable[[], None]) -> AsyncIterator[None]:
    descriptor = _try_lock(folder)  # one system call: not worth a thread
    if descriptor is None:
        waits()
    while descriptor is None:
        await clock.sleep_until(clock.monotonic() + _LOOK_AGAIN_SECONDS)
        descriptor = _try_lock(folder)
    try:
        yield
    finally:
        os.close(descriptor)


def _try_lock(folder: Path) -> int | None:
    path = folder.with_name(f".{folder.name}.lock")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _unfinished_name(folder: Path) -> str:
    return f".{folder.name}.unfinished-{secrets.token_hex(4)}"


def _make_unfinished(folder: Path) -> Path:
    _clear_away(folder)
    unfinished = folder.with_name(_unfinished_name(folder))
    unfinished.mkdir(mode=0o755)
    return unfinished


def _clear_away(folder: Path) -> None:
    """Remove what unfinished builds have left, also that of a killed one whose programs were slower to die."""
    for left_over in folder.parent.glob(f".{glob.escape(folder.name)}.unfinished-*"):
        remove_tree(left_over)
