"""A data folder seen from outside: whether a server runs on it, and where.

The lock on ``data_dir/lock`` says whether a server runs there. Its children inherit it, so it is free only when the
last process of a killed server has gone: two control planes never share a database. A pid in a file could not say
so, because pids are used again.
"""

import contextlib
import fcntl
import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moorage.base.removal import flatten

EPHEMERAL_PREFIX = "moorage-ephemeral-"


@dataclass(frozen=True, slots=True)
class Lock:
    """The right to run a server on a data folder; held until every process that inherited it has gone."""

    descriptor: int

    def release(self) -> None:
        """Give the folder back."""
        os.close(self.descriptor)


def try_lock(data_dir: Path) -> Lock | None:
    """Take the folder's lock; None while a server runs there."""
    path = data_dir / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.stat().st_ino == os.fstat(descriptor).st_ino:
            return Lock(descriptor)
    except (BlockingIOError, FileNotFoundError):  # locked, or swept away under our hands
        pass
    os.close(descriptor)
    return None


def running_server(data_dir: Path) -> dict[str, Any] | None:
    """Give what the server that runs on a data folder says of itself (``server.json``); None when none is ready."""
    return read_json(data_dir / "server.json") if _is_held(data_dir) else None


def is_between(data_dir: Path) -> bool:
    """Whether a server has the data folder and is not ready, or not any more: it starts or stops."""
    return _is_held(data_dir) and not (data_dir / "server.json").exists()


def _is_held(data_dir: Path) -> bool:
    if not (data_dir / "lock").exists():
        return False
    if held := try_lock(data_dir):
        held.release()
        return False
    return True


def exports(server: Mapping[str, Any], key: Mapping[str, str]) -> list[str]:
    """Give the shell lines that point unmodified AWS clients here.

    Without a region most clients do not even begin; some read one variable for it, some the other (the SDKs for
    JavaScript and Java only ``AWS_REGION``, botocore only ``AWS_DEFAULT_REGION``).
    """
    values = {
        "AWS_ENDPOINT_URL": server["url"],
        "AWS_ACCESS_KEY_ID": key["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": key["secret_access_key"],
        "AWS_REGION": server["region"],
        "AWS_DEFAULT_REGION": server["region"],
    }
    if server.get("ca_bundle"):
        values["AWS_CA_BUNDLE"] = server["ca_bundle"]
    return [f"export {name}={shlex.quote(value)}" for name, value in values.items()]


def ephemeral_folders() -> list[Path]:
    """Give the temporary data folders of this user's servers, running or not."""
    return [
        folder
        for folder in Path(tempfile.gettempdir()).glob(EPHEMERAL_PREFIX + "*")
        if not folder.is_symlink() and folder.stat().st_uid == os.getuid()
    ]


def remove_folder(folder: Path) -> None:
    """Remove a folder and all that is in it, also what was made read-only."""

    def open_up(function: Callable[..., Any], path: str, _: object) -> None:
        with contextlib.suppress(OSError):
            Path(path).parent.chmod(0o700)
            Path(path).chmod(0o700)
            function(path)

    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        flatten(folder)
        shutil.rmtree(folder, onerror=open_up)


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; None when there is none."""
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return found
