"""Takes in what containers print and has it written: one thread for all pipes of a node agent.

A container's stdout and stderr are the write end of a pipe. The thread reads each pipe that has something, once a
round, and then rests: at least five milliseconds, and three times as long as it has worked. So a model that prints line
by line wakes it two hundred times a second and no more; one that prints without end gets rid of 64 KiB in a round, and
then waits in its ``write``; and the event loop beside this thread has three quarters of a core, whatever is printed. No
line is held back, and none is dropped unless the disk refuses it (``writer``). Why a thread: docs/reference/logs.md.
"""

import contextlib
import fcntl
import logging
import os
import select
import threading
from dataclasses import dataclass, field
from pathlib import Path

from moorage.base.clock import Clock
from moorage.logs import reader
from moorage.logs.names import Place
from moorage.logs.writer import PIECE_BYTES, Bounds, StreamWriter

_SHORTEST_REST_SECONDS = 0.005
_REST_PER_WORK = 3.0
_LONGEST_REST_SECONDS = 0.1
"""Where a slow disk or a busy machine made a round long: what is printed must not come much later than it was."""

_OTHERS_WRITE = 0o622
"""A container that has another user may open ``/dev/stdout``, as it may in Docker; nobody else reaches a pipe."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Stream:
    writer: StreamWriter
    lock: threading.Lock = field(default_factory=threading.Lock)
    pipes: set[int] = field(default_factory=set)
    """Read ends that are open."""
    source: int = -1
    """The pipe that wrote last: another's lines do not go on with its unfinished one."""


class Pump:
    """The pipes of a node agent, and the thread that empties them."""

    def __init__(self, bounds: Bounds, clock: Clock) -> None:
        self._bounds = bounds
        self._clock = clock
        self._lock = threading.Lock()
        self._streams: dict[Place, _Stream] = {}
        self._by_pipe: dict[int, _Stream] = {}
        self._ready = select.epoll()
        self._stop = threading.Event()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._ready.register(self._wake, select.EPOLLIN)
        self._thread = threading.Thread(target=self._run, name="logs", daemon=True)
        self._thread.start()

    def open(self, place: Place) -> int:
        """Open a pipe to a stream's end and give its write end, which whoever calls closes; raises OSError."""
        with self._lock:
            stream = self._streams.get(place)
            if stream is None:
                stream = self._streams[place] = _Stream(StreamWriter(place, self._bounds, self._now()))
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(ours, False)
        os.fchmod(theirs, _OTHERS_WRITE)
        with stream.lock:
            stream.pipes.add(ours)
            self._by_pipe[ours] = stream
            self._ready.register(ours, select.EPOLLIN)
        return theirs

    def finish(self, place: Place) -> None:
        """Write what is in a stream's pipes and close them, once nobody writes any more; blocks for the disk only."""
        with self._lock:
            stream = self._streams.pop(place, None)
        if stream is None:
            return
        with stream.lock:
            for pipe in list(stream.pipes):
                self._empty(stream, pipe)
                self._close(stream, pipe)
            stream.writer.end_line()

    def living(self) -> frozenset[Path]:
        """Give the folders of the streams that are written to."""
        with self._lock:
            return frozenset(place.folder for place in self._streams)

    def close(self) -> None:
        """Finish all streams and end the thread."""
        self._stop.set()
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        for place in list(self._streams):
            self.finish(place)
        self._ready.close()
        os.close(self._wake)

    def _now(self) -> int:
        return int(self._clock.now() * 1000)

    def _run(self) -> None:
        while not self._stop.is_set():
            pipes = [pipe for pipe, _ in self._ready.poll() if pipe != self._wake]
            began = self._clock.monotonic()
            for pipe in pipes:
                try:
                    self._take_once(pipe)
                except Exception:  # a mistake about one stream must not end the logs of all others
                    log.exception("what a container has printed could not be taken")
            worked = self._clock.monotonic() - began
            rest = max(_SHORTEST_REST_SECONDS, _REST_PER_WORK * worked)
            self._stop.wait(min(rest, _LONGEST_REST_SECONDS))

    def _take_once(self, pipe: int) -> None:
        stream = self._by_pipe.get(pipe)
        if stream is None:
            return
        with stream.lock:
            if pipe in stream.pipes and self._take(stream, pipe) == 0:
                self._close(stream, pipe)

    def _take(self, stream: _Stream, pipe: int) -> int | None:
        """Write on what a pipe has; gives its length: 0 at its end, None when there is nothing now."""
        try:
            piece = os.read(pipe, PIECE_BYTES)
        except BlockingIOError:
            return None
        if piece:
            if stream.source != pipe:
                stream.writer.end_line()
                stream.source = pipe
            stream.writer.write(piece, self._now())
        return len(piece)

    def _empty(self, stream: _Stream, pipe: int) -> None:
        """Take what a pipe holds, and no more: whoever still writes to it is not waited for."""
        held = fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)
        while held > 0 and (taken := self._take(stream, pipe)):
            held -= taken

    def _close(self, stream: _Stream, pipe: int) -> None:
        stream.pipes.discard(pipe)
        self._by_pipe.pop(pipe, None)
        with contextlib.suppress(OSError):
            self._ready.unregister(pipe)
        os.close(pipe)

    def __repr__(self) -> str:
        return f"<Pump: {len(self._streams)} streams, {len(self._by_pipe)} pipes>"


@dataclass(frozen=True, slots=True)
class ContainerLog:
    """The log of one container, as a life and an engine have it."""

    pump: Pump
    place: Place

    @property
    def folder(self) -> Path:
        """Where it is kept."""
        return self.place.folder

    def open(self) -> int:
        """Give a descriptor to write to, which whoever calls closes; raises OSError."""
        return self.pump.open(self.place)

    def say(self, line: str) -> None:
        """Add a line of Moorage's own, also when the container has ended; blocks.

        A disk that has no room for it is not the instance's fault: nobody hears of that here.
        """
        with contextlib.suppress(OSError):
            descriptor = self.open()
            try:
                os.write(descriptor, f"{line}\n".encode(errors="replace"))
            finally:
                os.close(descriptor)

    def add(self, line: str) -> None:
        """Add a line of Moorage's own to the log of a container that has ended long ago; blocks."""
        self.say(line)
        self.finish()

    def finish(self) -> None:
        """Have all that was written in the files; blocks. To be called once nobody writes any more."""
        self.pump.finish(self.place)

    def tail(self, most_lines: int, most_bytes: int) -> str:
        """Give what was printed last, without the times."""
        return reader.tail(self.folder, most_lines, most_bytes)
