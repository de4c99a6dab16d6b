"""The workers of an instance: processes with the same model at the same listener, and the foreman who watches them.

The model is loaded once, by the instance's first process; then that one becomes the foreman, runs none of the
customer's code any more, and forks the workers. So a model lies in memory once, as far as nobody writes to it, another
worker is there within milliseconds, and one that dies is replaced from the loaded model. How many there are:

    SAGEMAKER_MODEL_SERVER_WORKERS=n    n, from the start. 1: no foreman, the first process serves
    SAGEMAKER_TS_MIN_WORKERS, _MAX_     as many from the start, and at most so many (TorchServe's words)
    otherwise                           one, and more when requests wait: up to ``MOORAGE_WORKERS``, which the node
                                        agent sets to the vCPUs; one where batches are made

A fork has only the thread that forks. A model whose loading has started threads (a pool of onnxruntime, a GPU's driver)
would hang in a worker: then there is one process and the log says so. ``MOORAGE_LOAD_PER_WORKER=true`` has each
worker load the model by itself, as AWS's containers do: for such models, and for what must not be shared (a
connection to a database). The foreman then loads nothing.

A worker that dies takes its requests along, is logged and replaced: at once, and more slowly if the next one lives no
longer. After ``Losses.MOST`` in a row the instance ends as the last of them did, for the node agent to see.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from .batching import Batching
from .crew import Crew, Seat
from .embryo import shuffle_anew
from .forks import end_with, ended_children, leave, sigterm_waits
from .numbers import number_of

WORKERS = "SAGEMAKER_MODEL_SERVER_WORKERS"
MIN_WORKERS = "SAGEMAKER_TS_MIN_WORKERS"
MAX_WORKERS = "SAGEMAKER_TS_MAX_WORKERS"
DEFAULT_WORKERS = "MOORAGE_WORKERS"
LOAD_PER_WORKER = "MOORAGE_LOAD_PER_WORKER"

MOST_WORKERS = 256
_SIGNALLED = 128
"""Added to a signal's number: the exit code of a process whose worker was ended by it (the shells' custom)."""


@dataclass(frozen=True)
class Plan:
    """How many workers there are to be."""

    first: int = 1
    """From the start."""
    most: int = 1
    load_each: bool = False

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Plan:
        """Read the variables; raises WrongNumber."""
        load_each = environment.get(LOAD_PER_WORKER, "").lower() == "true"
        fixed = _count(environment, WORKERS)
        if fixed is not None:
            return cls(fixed, fixed, load_each)
        first = _count(environment, MIN_WORKERS) or 1
        most = _count(environment, MAX_WORKERS)
        if most is None and Batching.of(environment).size == 1:
            most = _count(environment, DEFAULT_WORKERS)
        return cls(first, max(first, most or 1), load_each)


def _count(environment: Mapping[str, str], name: str) -> int | None:
    return number_of(environment, [name], most=MOST_WORKERS)


class Losses:
    """How soon a worker that has died is replaced, and when that is of no use any more."""

    MOST = 5
    """So many in a row are replaced that lived shorter than ``LONG_SECONDS``."""
    LONG_SECONDS = 10.0
    FIRST_PAUSE_SECONDS = 0.05

    def __init__(self) -> None:
        self._in_a_row = 0

    def pause(self, lived_seconds: float) -> float | None:
        """Give the seconds until the next worker is to be forked; None: no more."""
        self._in_a_row = 1 if lived_seconds >= self.LONG_SECONDS else self._in_a_row + 1
        if self._in_a_row > self.MOST:
            return None
        return 0.0 if self._in_a_row == 1 else self.FIRST_PAUSE_SECONDS * 2.0 ** (self._in_a_row - 2)


def other_threads() -> int:
    """Count this process's threads beside the one that asks."""
    with contextlib.suppress(OSError):
        return len(list(Path("/proc/self/task").iterdir())) - 1
    return 0


@dataclass(frozen=True)
class _Worker:
    number: int
    since: float


class Foreman:
    """Forks workers and watches them; one thread, because it forks."""

    def __init__(self, plan: Plan, serve: Callable[[Seat], None]) -> None:
        """``serve`` is what a worker does: it returns after SIGTERM."""
        self._plan = plan
        self._serve = serve
        self._crew = Crew(plan.most)
        self._workers: dict[int, _Worker] = {}
        self._due: list[float] = []
        """When workers are to be forked in the place of dead ones."""
        self._losses = Losses()
        self._stopping = False
        self._told_to_end = False
        self._code: int | None = None
        """With what to end, once that is decided."""
        self._pid = os.getpid()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> int:
        """Have workers until SIGTERM, or until there is no use in it; gives the exit code of the instance."""
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        waiting = select.poll()
        waiting.register(self._wake_read, select.POLLIN)
        waiting.register(self._crew.calls, select.POLLIN)
        for _ in range(self._plan.first):
            self._fork()
        while self._workers or not (self._stopping or self._code is not None):
            waiting.poll(self._patience())
            _drain(self._wake_read)
            self._bury()
            if self._stopping or self._code is not None:
                self._end_all_once()
            elif self._wanted():
                self._fork()
        return self._code or 0

    def _stop(self, _number: int, _frame: object) -> None:
        self._stopping = True

    def _patience(self) -> float | None:
        """Give the milliseconds until the next worker is due."""
        return max(0.0, self._due[0] - time.monotonic()) * 1000 if self._due else None

    def _wanted(self) -> bool:
        """Say whether one worker more is to be forked now."""
        called = _drain(self._crew.calls)
        if self._due and self._due[0] <= time.monotonic():
            self._due.pop(0)
            return True
        return called and not self._due and len(self._workers) < self._plan.most

    def _fork(self) -> None:
        taken = {worker.number for worker in self._workers.values()}
        number = next(number for number in range(self._plan.most) if number not in taken)
        try:
            with sigterm_waits():
                pid = os.fork()
                if pid == 0:
                    self._become(number)
        except OSError as fault:
            _say(f"A worker could not be forked: {fault.strerror}.")
            self._replace(0.0, 1)
            return
        self._workers[pid] = _Worker(number, time.monotonic())
        self._crew.mark_full(full=len(self._workers) + len(self._due) >= self._plan.most)

    def _become(self, number: int) -> NoReturn:
        """Be a worker."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            end_with(self._pid)
            shuffle_anew()
            self._serve(self._crew.seat(number))
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:  # noqa: BLE001 - the last frame of this process: whatever it is, the log gets it
            traceback.print_exc()
        leave(code)

    def _bury(self) -> None:
        """Take note of all processes that have ended."""
        for pid, status in ended_children():
            worker = self._workers.pop(pid, None)  # None: an orphan of the customer's code
            if worker is None:
                continue
            self._crew.mark(worker.number, idle=False)
            if not self._stopping and self._code is None:
                self._lose(pid, worker, exit_code(status))

    def _lose(self, pid: int, worker: _Worker, code: int) -> None:
        if not self._crew.served:  # it could not load the model, and said why
            self._code = code
            return
        _say(f"The worker with process id {pid} has ended: {_how(code)}.")
        self._replace(time.monotonic() - worker.since, code)

    def _replace(self, lived_seconds: float, code: int) -> None:
        pause = self._losses.pause(lived_seconds)
        if pause is None:
            _say(f"{Losses.MOST} workers have ended within seconds of their start, and so does the instance.")
            self._code = code
        else:
            self._due.append(time.monotonic() + pause)
            self._due.sort()

    def _end_all_once(self) -> None:
        if self._told_to_end:
            return
        self._told_to_end = True
        for pid in self._workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)


def exit_code(status: int) -> int:
    """Give the exit code of a process of which waitpid(2) tells this, as shells do: 128 and the signal's number."""
    return _SIGNALLED + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _how(code: int) -> str:
    if code <= _SIGNALLED:
        return f"exit code {code}"
    try:
        name = signal.Signals(code - _SIGNALLED).name
    except ValueError:
        return f"exit code {code}"
    return f"{name}, as at the memory limit of the instance" if name == "SIGKILL" else name


def _drain(descriptor: int) -> bool:
    """Read what is in a pipe; says whether there was something."""
    try:
        return bool(os.read(descriptor, 4096))
    except BlockingIOError:
        return False


def _say(text: str) -> None:
    print(f"[moorage] {text}", flush=True)  # noqa: T201 - the container's log
