"""What the kernel says of processes (proc(5)): parents, memory, age."""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Process:
    """One process of this machine."""

    pid: int
    parent: int
    rss_bytes: int
    uptime_seconds: float
    name: str = ""
    """At most 15 bytes, which the process has chosen itself."""


def all_processes() -> dict[int, Process]:
    """Give every process that this user can see."""
    boot_seconds = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                before, _, after = (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")
                name, fields = before.partition("(")[2], after.split()
                started = int(fields[19]) / ticks
                pid = int(entry.name)
                found[pid] = Process(pid, int(fields[1]), int(fields[21]) * page, boot_seconds - started, name)
    return found


def family_of(pid: int, processes: Mapping[int, Process], *, without: frozenset[int] = frozenset()) -> list[Process]:
    """Give a process and its descendants, leaving out some of them with theirs."""
    children: dict[int, list[int]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process.pid)
    found, todo = [], [pid]
    while todo:
        one = todo.pop()
        if one in processes and one not in without:
            found.append(processes[one])
            todo += children.get(one, [])
    return found
