"""What the processes of an instance that fork others, and those that are forked, do alike."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import NoReturn

from . import isolation


@contextlib.contextmanager
def sigterm_waits() -> Iterator[None]:
    """Let a SIGTERM wait during a fork: until the new process has its own way to end, the parent's is not for it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])


def end_with(parent: int) -> None:
    """Tie a process that was just forked to its parent, end it if that has gone already, and let SIGTERM end it."""
    isolation.die_with_parent()
    if os.getppid() != parent:
        os._exit(1)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])


def ended_children() -> Iterator[tuple[int, int]]:
    """Take note of the child processes that have ended: process id and wait status, as of waitpid(2)."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, status


def leave(code: int) -> NoReturn:
    """End a process that was forked, with what it has printed."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
