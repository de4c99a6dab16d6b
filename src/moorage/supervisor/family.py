"""The loop over the children: start, restart, stop in order, nobody left behind.

One thread and one ``select``. Signals arrive as bytes in a pipe (``signal.set_wakeup_fd``), so none can slip between
a look and a wait; they are blocked around each fork, so that a child never answers with its parent's ears. The
children are reaped by ``waitpid`` alone; what is true of them is looked at anew after each wake-up (level-triggered).

Nobody left behind: a child gets SIGKILL from the kernel when its parent dies (``PR_SET_PDEATHSIG``), orphaned
grandchildren become the supervisor's own (``PR_SET_CHILD_SUBREAPER``), and it ends with none of either.
"""

import contextlib
import ctypes
import logging
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from moorage.base.clock import Clock
from moorage.supervisor.lives import Lives, after_death

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

_HURRY_SECONDS = 1.0
"""What is left to the children when a second Ctrl-C asks for haste."""

_EXPLAIN_SECONDS = 1.0
"""Who waits longer than this for the end wants to know what for."""

_GIVE_UP_DEATHS = 3
"""A child that dies so often before the server was ever ready will not get better."""

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Role:
    """One kind of process."""

    name: str
    run: Callable[[], None]
    """Blocks until SIGTERM; raises or returns at the end of the process."""
    stop_grace_seconds: float
    """From SIGTERM to SIGKILL."""
    listener: socket.socket | None = None
    """The public listening socket that it keeps; no other child has it."""


@dataclass(slots=True)
class Child:
    """One role's process, alive or between two lives."""

    role: Role
    pid: int | None = None
    started: float = 0.0
    lives: Lives = field(default_factory=Lives)
    start_at: float = 0.0
    """When to start it, by the monotonic clock, while it has no pid."""


@dataclass(slots=True)
class Stop:
    """How far the stop has come."""

    asked: int = 1
    """How often it was asked for: the second time means haste, the third at once."""
    reached: int = 0
    """Index of the child that is being stopped."""
    told: int = 0
    """How many children have got their SIGTERM."""
    told_at: float = 0.0
    """When the last of them got it."""
    said: int = 0
    """For how many children the user was told what is waited for."""
    kill_at: float = 0.0
    """When who still lives gets SIGKILL."""


class StartFailed(Exception):
    """The server never came to be ready; the text is for people."""


class Family:
    """The children of one server.

    ``roles`` stand in the order in which they are stopped; neighbours of the same name are stopped together.
    """

    def __init__(
        self,
        roles: Sequence[Role],
        *,
        clock: Clock,
        on_change: Callable[[Sequence[Child]], None],
        adopt: Callable[[Role], None],
    ) -> None:
        self._children = [Child(role) for role in roles]
        self._listeners = [role.listener for role in roles if role.listener is not None]
        self._clock = clock
        self._on_change = on_change
        self._adopt = adopt
        """Called in each new child before its role runs: its output, its log."""
        self._ears, self._mouth = socket.socketpair()
        self._stop: Stop | None = None
        self._ready = False
        self._failure: StartFailed | None = None
        self._me = os.getpid()

    def __repr__(self) -> str:
        states = ", ".join(f"{child.role.name} {child.pid or 'down'}" for child in self._children)
        return f"<Family: {states}{', stopping' if self._stop else ''}>"

    def run(self, *, probe: Callable[[float], bool], ready_within_seconds: float, on_ready: Callable[[], None]) -> None:
        """Keep the children alive until a signal says stop; returns when none is left.

        ``probe(now)`` says whether the server answers, and is asked again and again until it does. Raises StartFailed
        when that never happens.
        """
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        give_up_at = self._clock.monotonic() + ready_within_seconds
        with self._signals():
            try:
                while self._turn():
                    self._listen()
                    if not self._ready and not self._stop:
                        self._ready = probe(self._clock.monotonic())
                        if self._ready:
                            on_ready()
                        else:
                            self._failure = self._failed_start(give_up_at, ready_within_seconds)
                            if self._failure:
                                self._ask_to_stop()
            finally:
                self._end_all()
        if self._failure:
            raise self._failure

    def _turn(self) -> bool:
        """Look at the children and do what is due; False when the last one has stopped."""
        now = self._clock.monotonic()
        if self._reap(now):
            self._on_change(self._children)
        if self._stop:
            return self._go_on_stopping(self._stop, now)
        due = [child for child in self._children if child.pid is None and child.start_at <= now]
        for child in due:
            self._start(child)
        if due:
            self._on_change(self._children)
        return True

    # --- life -------------------------------------------------------------------------------------------------

    def _start(self, child: Child) -> None:
        everything = signal.valid_signals()
        previous = signal.pthread_sigmask(signal.SIG_BLOCK, everything)
        try:
            sys.stdout.flush()
            sys.stderr.flush()
            pid = os.fork()
            if pid == 0:
                self._become(child.role, previous)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, previous)
        child.pid = pid
        child.started = self._clock.monotonic()

    def _become(self, role: Role, signal_mask: set[int | signal.Signals]) -> None:
        """Turn the fork into the role's process; never returns."""
        code = 1
        try:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != self._me:  # it died before the line above
                os._exit(1)
            # A process group of its own: Ctrl-C and a closing terminal reach the supervisor alone; it stops in order.
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            for number in _HEARD:
                signal.signal(number, signal.SIG_DFL)
            self._ears.close()
            self._mouth.close()
            for listener in self._listeners:
                if listener is not role.listener:
                    listener.close()
            self._adopt(role)
            signal.pthread_sigmask(signal.SIG_SETMASK, signal_mask)
            role.run()
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        except BaseException:
            log.exception("%s failed", role.name)
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _reap(self, now: float) -> bool:
        """Note every death; True when a child of ours died."""
        changed = False
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return changed
            if pid == 0:
                return changed
            for child in self._children:
                if child.pid == pid:
                    self._note_death(child, status, now)
                    changed = True

    def _note_death(self, child: Child, status: int, now: float) -> None:
        child.pid = None
        if self._stop:
            return
        child.lives = after_death(child.lives, now - child.started)
        child.start_at = now + child.lives.restart_delay_seconds
        delay = child.lives.restart_delay_seconds
        log.warning(
            "%s ended (%s) and is started again%s",
            child.role.name,
            _how_it_ended(status),
            f" in {delay:g} s: death number {child.lives.quick_deaths} in a row" if delay else "",
        )

    def _failed_start(self, give_up_at: float, ready_within_seconds: float) -> StartFailed | None:
        for child in self._children:
            if child.lives.quick_deaths >= _GIVE_UP_DEATHS:
                return StartFailed(f"The {child.role.name} process ended {_GIVE_UP_DEATHS} times during the start.")
        if self._clock.monotonic() > give_up_at:
            return StartFailed(f"The API gave no answer within {ready_within_seconds:g} s.")
        return None

    # --- end --------------------------------------------------------------------------------------------------

    def _ask_to_stop(self) -> None:
        if self._stop is None:
            log.info("stopping")
            # From here on a new connection is refused at once, instead of waiting in a queue that nobody serves.
            for listener in self._listeners:
                listener.close()
            self._stop = Stop()
            return
        now = self._clock.monotonic()
        self._stop.asked += 1
        self._stop.kill_at = min(self._stop.kill_at, now + _HURRY_SECONDS) if self._stop.asked == 2 else now

    def _go_on_stopping(self, stop: Stop, now: float) -> bool:
        """Stop one kind of process after the other; in haste, all at once."""
        haste = stop.asked > 1
        while stop.reached < len(self._children) and self._children[stop.reached].pid is None:
            stop.reached += 1
        if stop.reached == len(self._children):
            return False
        wanted = len(self._children) if haste else self._end_of_kind(stop.reached)
        if stop.told < wanted:
            for child in self._children[stop.told : wanted]:
                _send(child.pid, signal.SIGTERM)
            stop.kill_at = now + (_HURRY_SECONDS if haste else self._children[stop.reached].role.stop_grace_seconds)
            stop.told, stop.told_at = wanted, now
        if stop.said < wanted and not haste and now - stop.told_at >= _EXPLAIN_SECONDS:
            seconds, stop.said = max(0.0, stop.kill_at - now), wanted
            name = self._children[stop.reached].role.name
            log.warning("%s has up to %.0f s to finish its work; Ctrl-C hurries", name, seconds)
        if now >= stop.kill_at:
            for child in self._children[stop.reached : stop.told]:
                if child.pid is not None:
                    log.warning("%s did not stop in time and is killed", child.role.name)
                    _send(child.pid, signal.SIGKILL)
            stop.kill_at = now + _HURRY_SECONDS
        return True

    def _end_of_kind(self, index: int) -> int:
        """Give the index behind the last child of the same name that stands beside this one."""
        name = self._children[index].role.name
        return next(
            (later for later in range(index, len(self._children)) if self._children[later].role.name != name),
            len(self._children),
        )

    def _end_all(self) -> None:
        """End whatever still lives, children and what they left: the last line of defence, normally idle."""
        deadline = self._clock.monotonic() + 5.0
        while self._clock.monotonic() < deadline:
            own = [child.pid for child in self._children if child.pid is not None]
            pids = {*_children_of(self._me), *own}
            if not pids:
                return
            for pid in pids:
                _send(pid, signal.SIGKILL)
            select.select([], [], [], 0.01)
            self._reap(self._clock.monotonic())

    # --- waiting ----------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """Wait for a signal or for the next thing that is due, then hear the signals."""
        readable, _, _ = select.select([self._ears], [], [], self._seconds_to_wait())
        if not readable:
            return
        for number in self._ears.recv(4096):
            if number in _STOPPING:
                self._ask_to_stop()

    def _seconds_to_wait(self) -> float:
        now = self._clock.monotonic()
        if self._stop:
            return max(0.0, min(self._stop.kill_at - now, 1.0))
        due = [child.start_at - now for child in self._children if child.pid is None]
        if not self._ready:
            due.append(0.005)
        return max(0.0, min(due, default=60.0))

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Hear signals through the pipe for a while."""
        self._mouth.setblocking(False)
        self._ears.setblocking(False)
        heard = [number for number in _HEARD if signal.getsignal(number) != signal.SIG_IGN]  # nohup, background jobs
        before = {number: signal.signal(number, _hear) for number in heard}
        fd = signal.set_wakeup_fd(self._mouth.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(fd)
            for number, handler in before.items():
                signal.signal(number, handler)


_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_HEARD = (*_STOPPING, signal.SIGCHLD)


def _hear(number: int, frame: object) -> None:
    """Do nothing: the byte in the pipe says it all."""


def _send(pid: int | None, number: signal.Signals) -> None:
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _children_of(pid: int) -> list[int]:
    """Give a process's children; none where the kernel does not list them."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    except FileNotFoundError:
        return []
    return [int(child) for child in text.split()]


def _how_it_ended(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"exit code {os.waitstatus_to_exitcode(status)}"
