"""The folders and files of one server: who may use them, what is in them, what is left of a dead one.

Whether a server runs on a data folder is ``base/data_dir.py``'s business, because the command line asks it too.
"""

import contextlib
import json
import os
import secrets
import shutil
import stat
import string
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from moorage.base.data_dir import EPHEMERAL_PREFIX, Lock, ephemeral_folders, read_json, remove_folder, try_lock
from moorage.base.files import write_whole
from moorage.base.settings import run_dir_of
from moorage.engine.cgroups import remove_groups
from moorage.engine.docker.engine import remove_leftovers
from moorage.engine.volumes import unmount_volumes

_LOG_BYTES = 10 * 2**20
_LEAST_ROOM_BYTES = 4 * 2**20
"""With less than this the database and the log could be opened, and nothing be written to them."""


class UnusablePlace(Exception):
    """A folder cannot be used; the text is for people."""


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what goes wrong with a file into words."""
    try:
        yield
    except OSError as fault:
        raise UnusablePlace(f"{path} cannot be written: {fault.strerror or fault}.") from fault


def need_room(folder: Path) -> None:
    """Raise UnusablePlace when the disk is full."""
    free = shutil.disk_usage(folder).free
    if free < _LEAST_ROOM_BYTES:
        raise UnusablePlace(
            f"The disk of {folder} is full ({free // 1000} kB are left). Make room, or use another --data-dir."
        )


def make_private_folder(folder: Path) -> None:
    """Make a folder that only this user can look into; raises UnusablePlace."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError as fault:
        raise UnusablePlace(f"The folder {folder} cannot be made: {fault.strerror}.") from fault
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise UnusablePlace(f"The folder {folder} belongs to somebody else. Name another one with --data-dir.")
    if stat.S_IMODE(found.st_mode) & 0o077:
        folder.chmod(0o700)


def lock(data_dir: Path, *, wait: Callable[[], bool]) -> Lock:
    """Take the folder's lock; while ``wait()`` says so, wait for the processes of a killed server to go."""
    while (held := _try_lock(data_dir)) is None:
        server = read_json(data_dir / "server.json")
        if server and Path(f"/proc/{server['pid']}").exists():
            raise UnusablePlace(
                f"Moorage already runs on {data_dir}: process {server['pid']}, {server['url']}\n"
                f"Use it (moorage env), or start another one with --data-dir DIR --port 0."
            )
        if not wait():
            raise UnusablePlace(f"Another process uses {data_dir}: its lock is taken. Try again in a moment.")
    return held


def _try_lock(data_dir: Path) -> Lock | None:
    with writing(data_dir / "lock"):
        return try_lock(data_dir)


def remove_unused_folder(data_dir: Path) -> None:
    """Remove a data folder that holds nothing but the lock, which the caller has: its server has never begun."""
    with contextlib.suppress(OSError):
        if [path.name for path in data_dir.iterdir()] == ["lock"]:
            (data_dir / "lock").unlink()
            data_dir.rmdir()


def make_ephemeral_folder() -> tuple[Path, Lock]:
    """Make and lock a data folder that will be removed at the end."""
    for _ in range(5):
        folder = Path(tempfile.mkdtemp(prefix=EPHEMERAL_PREFIX))
        if held := try_lock(folder):
            return folder, held
    raise UnusablePlace(f"No temporary folder could be made in {tempfile.gettempdir()}.")


def sweep_ephemeral_folders() -> None:
    """Remove what killed ephemeral servers have left."""
    for folder in ephemeral_folders():
        with contextlib.suppress(OSError):
            if (folder / "lock").exists() and (held := try_lock(folder)):
                remove_leftovers(run_dir_of(folder))
                remove_groups(run_dir_of(folder))
                unmount_volumes(folder)
                remove_folder(run_dir_of(folder))
                remove_folder(folder)
                held.release()


def make_run_dir(run_dir: Path) -> None:
    """Make the folder of sockets anew: what a killed server left in it is gone."""
    make_private_folder(run_dir)
    remove_folder(run_dir)
    make_private_folder(run_dir)


def first_key(data_dir: Path, account: str) -> dict[str, str]:
    """Read the first key, or make it."""
    path = data_dir / "credentials.json"
    found = read_json(path)
    if found is None:
        found = {
            "access_key_id": "AKIA" + "".join(secrets.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") for _ in range(16)),
            # No sign at the beginning that a command line takes for an option.
            "secret_access_key": "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(40)),
            "account": account,
            "user_name": "admin",
        }
        with writing(path):
            write_whole(path, json.dumps(found, indent=2).encode() + b"\n")
    return found


def open_log(data_dir: Path) -> int:
    """Open the log that all of Moorage's own processes write to; a long one is put aside first."""
    logs = data_dir / "logs"
    make_private_folder(logs)
    path = logs / "moorage.log"
    with writing(path):
        if path.exists() and path.stat().st_size > _LOG_BYTES:
            path.replace(logs / "moorage.log.1")
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
