"""How much memory this instance has and uses, as far as it can see: its control group, or its own limit.

What it cannot see does not make it stop: then the kernel's killing of a model that is loaded is the only sign.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterable
from pathlib import Path

OF_A_MODEL = 700
"""``oom_score_adj`` (proc(5)) of a loaded model's process: it goes before the base process, which has 500."""

OF_A_LOAD = 1000
"""The same while it is being loaded: then nobody else goes before it."""

_RESERVED_PART = 0.04
_LEAST_RESERVED_BYTES = 16 * 2**20
_MOST_RESERVED_BYTES = 256 * 2**20
_UNLIMITED_BYTES = 2**60
_FILES = (
    ("", "memory.max", "memory.current"),
    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
)
"""By hierarchy, "" of version 2: what holds the limit, and what the use."""


class Group:
    """The control group that bounds this instance."""

    def __init__(self, folder: Path, limit_bytes: int, usage: str) -> None:
        self.limit_bytes = limit_bytes
        self._usage = folder / usage
        self._statistics = folder / "memory.stat"

    def used_bytes(self) -> int:
        """Give what is used and cannot just be taken back, as files that were read can; raises OSError."""
        statistics = dict(
            line.split(" ", 1) for line in self._statistics.read_text(encoding="ascii").splitlines() if " " in line
        )
        names = ("inactive_file", "active_file")
        # In version 1 those with ``total_`` are of the group and all below it.
        files = sum(int(statistics.get(f"total_{name}", statistics.get(name, "0"))) for name in names)
        return int(self._usage.read_text(encoding="ascii")) - files


class Memory:
    """The memory of one instance, of which its models have parts."""

    def __init__(self, group: Group | None, limit_bytes: int | None) -> None:
        """``limit_bytes`` bounds each process where nothing bounds them together; None: nothing does."""
        self._group = group
        self._limit_bytes = limit_bytes

    @classmethod
    def of_this_instance(cls) -> Memory:
        """Look at the limits of this process."""
        limit = resource.getrlimit(resource.RLIMIT_DATA)[0]
        return cls(find_group(), None if limit == resource.RLIM_INFINITY else limit)

    def is_short(self, costs: Iterable[int], more_bytes: int = 0) -> bool:
        """Say whether less is free than is to be, if a model took so much more; ``costs`` are those of all models."""
        if self._limit_bytes is not None and _is_short(self._limit_bytes, sum(costs) + more_bytes):
            return True
        with contextlib.suppress(OSError, ValueError):
            return self._group is not None and _is_short(self._group.limit_bytes, self._group.used_bytes() + more_bytes)
        return False


def _is_short(limit_bytes: int, used_bytes: int) -> bool:
    """Say whether less is free than the models that are loaded need for their work."""
    free = min(_MOST_RESERVED_BYTES, max(_LEAST_RESERVED_BYTES, int(_RESERVED_PART * limit_bytes)))
    return used_bytes > limit_bytes - free


def find_group(proc: Path = Path("/proc/self")) -> Group | None:
    """Find the control group that bounds this process; None where none is seen."""
    try:
        mounts = (proc / "mounts").read_text(encoding="utf-8").splitlines()
        groups = (proc / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    own = {name: line.split(":", 2)[2] for line in groups for name in line.split(":", 2)[1].split(",")}
    for hierarchy, limit_file, usage_file in _FILES:
        for folder in _folders(hierarchy, mounts, own.get(hierarchy, "/")):
            with contextlib.suppress(OSError, ValueError):
                limit = int((folder / limit_file).read_text(encoding="ascii"))  # "max" is no number: not bounded
                if limit < _UNLIMITED_BYTES:
                    return Group(folder, limit, usage_file)
    return None


def _folders(hierarchy: str, mounts: list[str], own: str) -> list[Path]:
    """Give where the own group may be: below the mount, or the mount itself where only that much of it is seen."""
    kind = "cgroup" if hierarchy else "cgroup2"
    found = []
    for line in mounts:
        _device, folder, this_kind, options, *_rest = line.split()
        if this_kind == kind and (not hierarchy or hierarchy in options.split(",")):
            found += [Path(folder, own.lstrip("/")), Path(folder)]
    return found


def private_bytes(pid: int) -> int:
    """Give the memory that would be free without this process; 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Dirty:", "Swap:")))


def go_before(score: int) -> None:
    """Say how early the kernel is to end this process when memory runs out."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{os.getpid()}/oom_score_adj").write_text(str(score), encoding="ascii")
