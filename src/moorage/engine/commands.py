"""Runs a program to its end and hears what it says, line by line."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from moorage.base.tasks import Tasks
from moorage.engine.trees import kill_below

Say = Callable[[str], None]

_LINE_BYTES = 2**16

_DIE_WITH_PARENT = (
    "import ctypes, os, sys\n"
    "ctypes.CDLL(None).prctl(1, 9)\n"  # PR_SET_PDEATHSIG, SIGKILL: kill -9 of Moorage leaves no pip behind
    "os.execv(sys.argv[1], sys.argv[1:])\n"
)


@dataclass(frozen=True, slots=True)
class Command:
    """A program to run, and what it needs of the machine, so that it can be run in a sandbox."""

    arguments: Sequence[str]
    """The program's absolute path first."""
    folder: Path
    """Where it runs."""
    writable: tuple[Path, ...] = ()
    readable: tuple[Path, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables beside those of this process."""


Runner = Callable[[Command, Say], Awaitable[int]]
"""Runs a command, tells its lines (standard output and standard error together), gives its exit code."""


async def run_plainly(command: Command, say: Say) -> int:
    """Run a command as a child of this process; a cancelled one is killed with its own children, and waited for."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-Ic",
        _DIE_WITH_PARENT,
        *command.arguments,
        cwd=command.folder,
        env={**os.environ, **command.environment},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
        limit=_LINE_BYTES,
    )
    try:
        if process.stdout is not None:
            await _tell_lines(process.stdout, say)
        return await process.wait()
    finally:
        tasks = Tasks()
        await asyncio.shield(tasks.start("end a program", _end(process)))


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill what is left of a program, and wait for all that has become our child (bubblewrap's inner half does)."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
    await asyncio.to_thread(kill_below, process.pid)


async def _tell_lines(stream: asyncio.StreamReader, say: Say) -> None:
    while True:
        try:
            line = await stream.readline()
        except ValueError:  # longer than the limit: what was read of it is dropped
            continue
        if not line:
            return
        say(line.decode("utf-8", "replace").rstrip())
