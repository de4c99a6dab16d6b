"""The tree of processes below an instance, for an engine without a process namespace that would end it as one."""

import contextlib
import os
import select
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_ROUNDS = 20
_DEATH_MILLISECONDS = 1000
"""For the kernel to take a killed process's memory apart."""


@dataclass(frozen=True, slots=True)
class ProcessEntry:
    """One process of the machine."""

    pid: int
    parent: int
    session: int
    dead: bool
    """Has ended and was not waited for yet."""


def read_processes() -> list[ProcessEntry]:
    """Read the machine's processes."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                found.append(parse_stat((entry / "stat").read_text(encoding="utf-8", errors="replace")))
    return found


def parse_stat(text: str) -> ProcessEntry:
    """Read ``/proc/PID/stat``; the process's name may contain blanks and brackets."""
    pid, _, rest = text.partition(" ")
    state, parent, _group, session, *_rest = rest.rpartition(")")[2].split()
    return ProcessEntry(int(pid), int(parent), int(session), state in "ZX")


def tree_of(root: int, processes: Iterable[ProcessEntry]) -> set[int]:
    """Give the processes that descend from ``root`` or belong to the session that it leads, without ``root``."""
    table = list(processes)
    tree = {entry.pid for entry in table if entry.session == root}
    tree.add(root)
    grown = True
    while grown:
        below = {entry.pid for entry in table if entry.parent in tree}
        grown = not below <= tree
        tree |= below
    return tree - {root}


def kill_below(root: int) -> None:
    """Kill everything below ``root``, also what is started meanwhile, and wait for what has become our child."""
    for _round in range(_ROUNDS):
        processes = read_processes()
        tree = tree_of(root, processes)
        living = {entry.pid for entry in processes if entry.pid in tree and not entry.dead}
        kill_all(living)
        for pid in tree:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        if not living:
            return


def kill_all(pids: Iterable[int]) -> None:
    """Kill processes and wait, for a bounded time, until they are dead."""
    descriptors = []
    for pid in pids:
        with contextlib.suppress(OSError):
            descriptors.append(os.pidfd_open(pid))
            signal.pidfd_send_signal(descriptors[-1], signal.SIGKILL)
    for descriptor in descriptors:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.poll(_DEATH_MILLISECONDS)
        os.close(descriptor)
