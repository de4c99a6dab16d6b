"""Who an image's USER is, by the image's own ``/etc/passwd`` and ``/etc/group``."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from moorage.engine.registry.manifests import UnusableImage
from moorage.engine.rootfs import kernel
from moorage.engine.rootfs.room import IDS

_MOST_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Account:
    """A user of an image, in the image's own numbers."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def find_account(user: str, layers: Sequence[Path]) -> Account:
    """Look a USER up in an image's layers, the topmost first; raises UnusableImage. Blocks."""
    return resolve_account(user, _rows(layers, "etc/passwd"), _rows(layers, "etc/group"))


def resolve_account(user: str, users: Iterable[Sequence[str]], groups: Iterable[Sequence[str]]) -> Account:
    """Find out who ``name``, ``uid``, ``name:group`` or ``uid:gid`` is, by the Docker engine's rules."""
    name, _, group = user.partition(":")
    rows = [row for row in users if len(row) >= 6 and row[2].isdigit() and row[3].isdigit()]
    all_groups = [row for row in groups if len(row) >= 4 and row[2].isdigit()]
    row = next((row for row in rows if row[0] == name), None)
    row = row or next((row for row in rows if row[2] == (name or "0")), None)
    if row is None and name and not name.isdigit():
        raise UnusableImage(f"wants to run as the user {name}, whom its /etc/passwd does not have")
    uid = int(row[2]) if row else int(name or 0)
    gid = _group_id(group, all_groups) if group else int(row[3]) if row else 0
    member_of = () if group or row is None else (int(r[2]) for r in all_groups if row[0] in r[3].split(","))
    if uid >= IDS or gid >= IDS:
        raise UnusableImage(f"wants to run as user {uid} and group {gid}; the numbers end at {IDS - 1} here")
    return Account(uid, gid, tuple(gid for gid in member_of if gid < IDS), row[5] if row and row[5] else "/")


def _group_id(group: str, rows: Iterable[Sequence[str]]) -> int:
    found = next((int(row[2]) for row in rows if row[0] == group), None)
    if found is None and not group.isdigit():
        raise UnusableImage(f"wants to run as the group {group}, which its /etc/group does not have")
    return int(group) if found is None else found


def _rows(layers: Sequence[Path], name: str) -> Iterator[Sequence[str]]:
    for line in _read(layers, name).splitlines():
        yield line.split(":")


def _read(layers: Sequence[Path], name: str) -> str:
    """Read a file of the topmost layer that has it; empty when none has."""
    for layer in layers:
        root = os.open(layer, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            descriptor = kernel.open_in_root(root, name, os.O_RDONLY | os.O_NONBLOCK)
        except OSError:
            continue
        finally:
            os.close(root)
        with os.fdopen(descriptor, "rb") as file:
            return file.read(_MOST_BYTES).decode(errors="replace")
    return ""
