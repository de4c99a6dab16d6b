"""Moves bytes between sockets and the handlers: one thread for both, and a stand-in for when it is busy.

The main thread reads a request, runs the customer's code and writes the answer without handing anything to another
thread: a hand-over costs more than the rest of a request. All customer code runs in this one thread, one invocation
at a time, because it need not be thread-safe. So that ``/ping`` is answered while an invocation computes or hangs,
a second thread looks every tick whether the main thread is still in the invocation that it was in a tick ago; if so it
takes the sockets over: answers pings, accepts, reads requests into the queue. The main thread takes them back when
its invocation ends.

``_sockets`` is held by whoever moves bytes. A connection takes its next request only after the answer to the one
before, so that the queue is never longer than the number of connections, which is bounded.

While invocations are short and more are waiting, their answers are held for a millisecond at most and sent together. A
write to a socket wakes who waits for it: sent one by one, each answer costs as much as the invocation itself, here and
in the gateway, which then finds one answer in a turn of its loop instead of many.

An answer that is made piece by piece holds the main thread until its end. Between two pieces the thread moves bytes; a
peer that reads slowly slows the customer's code down, and one that has gone ends it: its generator is closed.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import TypeVar

from .batching import Batcher, take_alike
from .crew import Seat
from .pages import Pages
from .wire import LAST_CHUNK, Answer, Pieces, Refused, Request, RequestReader, chunk_of, head_of, plain

TICK_SECONDS = 0.1
"""How often the stand-in looks; a ping during a long invocation waits at most two of these."""

CONNECTIONS = 1024
"""At most this many at a time; further ones wait in the listener's backlog."""

STALL_SECONDS = 60.0
"""A peer that neither sends the rest of its request nor takes its answer for this long is cut off."""

DRAIN_SECONDS = 25.0
"""After SIGTERM, for requests that have begun; below the 30 s after which SIGKILL comes (data-plane.md 7.6)."""

TOGETHER_SECONDS = 0.001
"""For so long invocations are computed one after the other before the sockets are looked at, and their answers held."""

LONG_SECONDS = 0.003
"""An invocation that takes longer may have had answers wait for it: for ``WARY_SECONDS`` none is held again."""

WARY_SECONDS = 1.0
SHORT_BODY_BYTES = 4096
"""Answers do not wait while an invocation with a larger body is computed."""

BEHIND_SECONDS = 0.0005
"""A request that would have to wait longer here is handed to an idle worker, which takes a tenth of that."""

_PACE_OF = 8
_LEAST_SECONDS = 1e-6
_READ_BYTES = 16 * 1024
_BODY_READ_BYTES = 2**20
_ACCEPTS_A_TURN = 64
_QUIET_TICKS = 10
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


class _End(Enum):
    """How an answer that is made piece by piece has ended."""

    WHOLE = auto()
    BROKEN = auto()
    """The customer's code failed in the middle of it."""


class Connection:
    """One connection and what is under way on it."""

    __slots__ = ("busy", "gone", "keep_alive", "muted", "out", "reader", "since", "socket", "unfinished")

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.reader = RequestReader()
        self.busy = False
        """A request of it is in the queue, is computed, or its answer is not all sent."""
        self.muted = False
        """Not watched, because the peer said something while it was busy."""
        self.keep_alive = True
        self.unfinished = False
        """More of its answer will be made when this is sent."""
        self.out: list[memoryview] = []
        self.since = 0.0
        self.gone = False
        """The socket is closed: nobody waits for the answer."""


class Server:
    """Serves one listening socket until it is told to stop."""

    def __init__(
        self,
        listener: socket.socket,
        answer: Callable[[Request], Answer],
        pages: Pages,
        *,
        seat: Seat | None = None,
        batcher: Batcher | None = None,
    ) -> None:
        """``seat``: among the workers of this instance; ``batcher``: answers several requests together."""
        self._seat = seat
        self._batcher = batcher
        self._listener = listener
        self._answer = answer
        self._pages = pages
        self._pong_head = head_of(pages.ping, keep_alive=True)
        self._sockets = threading.Lock()
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._queue: deque[tuple[Connection, Request]] = deque()
        self._pipelined: deque[Connection] = deque()
        """Answered, and more has come already."""
        self._held: list[tuple[Connection, Answer]] = []
        """Answers that are sent together with the next ones."""
        self._wary_until = 0.0
        self._pace = 0.0
        """How long an invocation takes, in seconds: the latest ones count most."""
        self._behind = False
        """What is in the queue has waited for an invocation."""
        self._stalling: set[Connection] = set()
        self._accepting = False
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._stopping = False
        self._stop_by = 0.0
        self._computing = False
        self._count = 0
        self._standing_in = False
        self._resting = True
        self._stir = threading.Event()

    def run(self) -> None:
        """Serve until SIGTERM, then finish what has begun."""
        self._listener.setblocking(False)
        self._accept_more()
        self._epoll.register(self._wake_read, select.EPOLLIN)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._stop)
        threading.Thread(target=self._stand_in, name="stand-in", daemon=True).start()
        self._sockets.acquire()
        if self._seat is not None:
            self._epoll.register(self._seat.box, select.EPOLLIN)
            self._seat.begin()
        while not self._ended():
            self._wait()
            if self._batcher is None:
                self._work()
            else:
                self._work_together(self._batcher)

    def _wait(self) -> None:
        """Move bytes until there is something to compute. Holds ``_sockets``."""
        if self._queue or self._pipelined or self._seat is None:
            self._turn(block=not self._queue and not self._pipelined)
            return
        if self._pace > BEHIND_SECONDS:  # who asks now has waited for the answer before
            self._turn(block=False)
            self._behind = True
            self._share()
            self._behind = False
        if not self._queue and not self._ended():
            self._seat.rest()
            self._turn(block=True)
            self._seat.work()

    def _stop(self, _number: int, _frame: object) -> None:
        self._stopping = True
        self._stop_by = time.monotonic() + DRAIN_SECONDS

    def _work(self) -> None:
        """Compute what has come, for as long as nothing else need be looked at. Holds ``_sockets``."""
        self._share()
        now = time.monotonic()
        look_again = now + TOGETHER_SECONDS
        while self._queue and now < look_again:
            connection, request = self._queue.popleft()
            if connection.gone:
                continue
            if self._held and len(request.body) > SHORT_BODY_BYTES:
                self._send_held()
            began = now
            answer = self._aside(self._answer, request)
            now = time.monotonic()
            self._pace += (now - began - self._pace) / _PACE_OF
            if now - began > LONG_SECONDS:
                self._wary_until = now + WARY_SECONDS
            self._held.append((connection, answer))
            if answer.pieces is not None:
                self._send_stream(in_chunks=request.reads_chunks)
                now = time.monotonic()
            elif now < self._wary_until:
                self._send_held()
        self._send_held()

    def _work_together(self, batcher: Batcher) -> None:
        """Compute a batch of what has come, after a wait for more if there is to be one. Holds ``_sockets``."""
        self._share()
        batch: list[tuple[Connection, Request]] = []
        size, now = batcher.batching.size, time.monotonic()
        wait_until = now + batcher.batching.delay_seconds
        take_alike(self._queue, batch, size)
        while batch and len(batch) < size and now < wait_until and not self._stopping:
            self._turn(block=True, at_most=wait_until - now)
            take_alike(self._queue, batch, size)
            now = time.monotonic()
        batch = [entry for entry in batch if not entry[0].gone]
        if not batch:
            return
        answers = self._aside(batcher.answer_all, [request for _connection, request in batch])
        self._pace += ((time.monotonic() - now) / len(batch) - self._pace) / _PACE_OF
        for (connection, request), answer in zip(batch, answers):
            self._held.append((connection, answer))
            if answer.pieces is not None:
                self._send_stream(in_chunks=request.reads_chunks)
        self._send_held()

    def _send_held(self) -> None:
        held, self._held = self._held, []
        for connection, answer in held:
            self._send(connection, answer)

    def _send_stream(self, *, in_chunks: bool) -> None:
        """Send the answer that was held last while it is made."""
        connection, answer = self._held.pop()
        self._send_held()
        if answer.pieces is not None:
            self._stream(connection, answer, answer.pieces, in_chunks=in_chunks)
            self._aside(_close, answer.pieces)

    def _aside(self, work: Callable[[_Given], _Made], given: _Given) -> _Made:
        """Run the customer's code, which does not raise; others may move bytes meanwhile."""
        self._count += 1
        self._computing = True
        if self._resting:
            self._stir.set()
        self._sockets.release()
        made = work(given)
        self._computing = False
        if self._standing_in:
            self._wake()
        self._sockets.acquire()
        return made

    def _stream(self, connection: Connection, answer: Answer, pieces: Pieces, *, in_chunks: bool) -> None:
        """Send an answer while it is made, at the pace of whoever reads it. Holds ``_sockets``."""
        if connection.gone:
            return
        connection.keep_alive = connection.keep_alive and not self._stopping and in_chunks
        connection.unfinished = True
        self._watch(connection, 0)  # of the peer only its going matters
        head = head_of(answer, keep_alive=connection.keep_alive, in_chunks=in_chunks)
        piece: bytes | _End = answer.body
        while isinstance(piece, bytes):
            framed = chunk_of(piece) if in_chunks and piece else piece
            self._send_piece(connection, head + framed)
            if connection.gone or self._ended():
                return
            head = b""
            piece = self._aside(_next_of, pieces)
        if connection.gone:
            return
        if piece is _End.BROKEN:
            self._close(connection)  # the end that is missing tells the peer
            return
        connection.unfinished = False
        self._watch(connection, select.EPOLLIN)
        connection.out = [memoryview(LAST_CHUNK if in_chunks else b"")]
        self._flush(connection, first=True)

    def _send_piece(self, connection: Connection, piece: bytes) -> None:
        """Send a piece, and wait until the peer has room for the next; others are seen to meanwhile."""
        connection.out = [memoryview(piece)]
        self._flush(connection, first=True)
        self._turn(block=False)
        while connection.out:
            self._turn(block=True)

    def _stand_in(self) -> None:
        """Move bytes while the main thread is in one invocation for longer than a tick."""
        while True:
            self._resting = True
            if not self._computing:  # looked at after saying so: whoever begins now stirs
                self._stir.wait()
            self._stir.clear()
            self._resting = False
            quiet = 0
            while quiet < _QUIET_TICKS:
                seen = self._count
                time.sleep(TICK_SECONDS)
                if self._count != seen:
                    quiet = 0
                elif self._computing:
                    self._move_while_computing(seen)
                else:
                    quiet += 1

    def _move_while_computing(self, number: int) -> None:
        self._standing_in = True
        while self._computing and self._count == number:
            with self._sockets:
                if self._computing and self._count == number:
                    self._send_held()
                    self._turn(block=True, at_most=TICK_SECONDS if self._queue and self._seat else None)
                    self._share()
        self._standing_in = False

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it is full of reasons to wake
            os.write(self._wake_write, b"\0")

    def _turn(self, *, block: bool, at_most: float | None = None) -> None:
        """Wait for sockets, ``at_most`` so many seconds, and do what they are ready for. Holds ``_sockets``."""
        seconds = at_most
        if self._stalling or self._stopping:
            seconds = 1.0 if at_most is None else min(1.0, at_most)
        for number, event in self._epoll.poll(seconds if block else 0):
            known = self._connections.get(number)
            if known is not None:
                if known.busy:
                    self._progress(known, event)
                else:
                    self._receive(known)
            elif number == self._wake_read:
                self._read_wakes()
            elif number == self._listener.fileno():
                self._accept()
            elif self._seat is not None:
                self._take_handed(self._seat)
        if self._pipelined:
            self._take_pipelined()
        if self._stalling:
            self._cut_off_stalled()

    def _take_pipelined(self) -> None:
        while self._pipelined:
            connection = self._pipelined.popleft()
            if not connection.busy and not connection.gone:  # both may have changed since
                self._take_request(connection)

    def _read_wakes(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)

    def _ended(self) -> bool:
        """Tell whether all is done; after SIGTERM closes what has nothing under way. Holds ``_sockets``."""
        if not self._stopping:
            return False
        if self._accepting:
            self._epoll.unregister(self._listener)
            self._accepting = False
        self._listener.close()
        for connection in list(self._connections.values()):
            if not connection.busy and connection.reader.idle:
                self._close(connection)
        return not self._connections or time.monotonic() > self._stop_by

    def _accept_more(self) -> None:
        if not self._accepting and not self._stopping and len(self._connections) < CONNECTIONS:
            # Of several idle workers one is to be woken.
            self._epoll.register(self._listener, select.EPOLLIN | (0 if self._seat is None else select.EPOLLEXCLUSIVE))
            self._accepting = True

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_A_TURN):
            if len(self._connections) >= CONNECTIONS:
                self._epoll.unregister(self._listener)
                self._accepting = False
                return
            try:
                connected, _address = self._listener.accept()
            except OSError:  # none is left, or it has gone already
                return
            self._adopt(connected)

    def _adopt(self, connected: socket.socket) -> Connection:
        """Serve a connection from now on."""
        connected.setblocking(False)
        if connected.family != socket.AF_UNIX:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = self._connections[connected.fileno()] = Connection(connected)
        self._epoll.register(connected, select.EPOLLIN)
        return connection

    def _give_away(self, connection: Connection) -> socket.socket:
        """Serve a connection no more, which another process goes on with; nothing of it is under way."""
        self._stalling.discard(connection)
        del self._connections[connection.socket.fileno()]
        if not connection.muted:
            self._epoll.unregister(connection.socket)
        self._accept_more()
        return connection.socket

    def _take_handed(self, seat: Seat) -> None:
        """Go on with the connections that other workers have handed over."""
        while (handed := seat.take()) is not None:
            connected, data = handed
            connection = self._adopt(connected)
            connection.reader.feed(data)
            self._take_request(connection)

    def _share(self) -> None:
        """Hand requests that would have to wait here to idle workers. Holds ``_sockets``."""
        if self._seat is None:
            return
        kept = 0
        if not (self._standing_in or self._behind):
            kept = max(1, int(BEHIND_SECONDS / (self._pace + _LEAST_SECONDS)))
        if self._batcher is not None:
            kept += self._batcher.batching.size
        while len(self._queue) > kept and not self._stopping:
            connection, request = self._queue[0]
            if not connection.gone:
                if not self._seat.hand_over(connection.socket, request, connection.reader):
                    return
                self._give_away(connection).close()
            self._queue.popleft()

    def _progress(self, connection: Connection, event: int) -> None:
        """Go on with a connection whose request is under way."""
        if connection.out:
            if event & (select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR):
                self._flush(connection)
        elif event & (select.EPOLLHUP | select.EPOLLERR):
            self._close(connection)
        else:
            self._epoll.unregister(connection.socket)
            connection.muted = True

    def _receive(self, connection: Connection) -> None:
        reader = connection.reader
        try:
            data = connection.socket.recv(_BODY_READ_BYTES if reader.in_body else _READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(connection)
            return
        reader.feed(data)
        self._take_request(connection)

    def _take_request(self, connection: Connection) -> None:
        """Look whether a whole request has come, and see to it."""
        reader = connection.reader
        try:
            request = reader.next()
        except Refused as refusal:
            connection.keep_alive = False
            self._send(connection, plain(refusal.status, refusal.message))
            return
        if request is None:
            if reader.wants_continue:
                reader.wants_continue = False
                self._say_continue(connection)
            self._note_stall(connection, stalling=not reader.idle)
            return
        if self._stalling:
            self._stalling.discard(connection)
        connection.keep_alive = request.keep_alive
        connection.busy = True
        answer = self._own_answer(request)
        if answer is None:
            self._queue.append((connection, request))
        else:
            self._send(connection, answer)

    def _own_answer(self, request: Request) -> Answer | None:
        """Answer what needs no model; None for an invocation."""
        return own_answer(request, self._pages)

    def _say_continue(self, connection: Connection) -> None:
        with contextlib.suppress(OSError):  # the next read finds out
            connection.socket.send(_CONTINUE)

    def _send(self, connection: Connection, answer: Answer) -> None:
        """Send an answer, as much as the socket takes at once; the rest follows when it can."""
        connection.busy = True
        if connection.gone:
            return
        keep_alive = connection.keep_alive = connection.keep_alive and not self._stopping
        pong = answer is self._pages.ping and keep_alive
        head = self._pong_head if pong else head_of(answer, keep_alive=keep_alive)
        if len(answer.body) > _READ_BYTES:
            connection.out = [memoryview(head), memoryview(answer.body)]
        else:
            whole = head + answer.body
            try:
                sent = connection.socket.send(whole)
            except OSError:  # ``_flush`` finds out why
                sent = 0
            if sent == len(whole):
                self._answered(connection, at_once=True)
                return
            connection.out = [memoryview(whole)[sent:]]
        self._flush(connection, first=True)

    def _flush(self, connection: Connection, *, first: bool = False) -> None:
        try:
            sent = connection.socket.sendmsg(connection.out)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._close(connection)
            return
        left = connection.out
        while left and sent >= len(left[0]):
            sent -= len(left.pop(0))
        if left:
            left[0] = left[0][sent:]
            if first:
                self._watch(connection, select.EPOLLOUT)
            self._note_stall(connection, stalling=True)
            return
        if connection.unfinished:
            if not first:
                self._watch(connection, 0)
                self._note_stall(connection, stalling=False)
            return
        self._answered(connection, at_once=first)

    def _answered(self, connection: Connection, *, at_once: bool) -> None:
        """Go on with a connection whose answer has been sent, ``at_once`` or after a wait."""
        if not connection.keep_alive:
            self._close(connection)
            return
        connection.busy = False
        if connection.muted or not at_once:
            self._watch(connection, select.EPOLLIN)
            self._stalling.discard(connection)
        if not connection.reader.idle:
            self._pipelined.append(connection)

    def _watch(self, connection: Connection, events: int) -> None:
        if connection.muted:
            self._epoll.register(connection.socket, events)
            connection.muted = False
        else:
            self._epoll.modify(connection.socket, events)

    def _note_stall(self, connection: Connection, *, stalling: bool) -> None:
        if stalling:
            connection.since = time.monotonic()
            self._stalling.add(connection)
        else:
            self._stalling.discard(connection)

    def _cut_off_stalled(self) -> None:
        late = time.monotonic() - STALL_SECONDS
        for connection in [entry for entry in self._stalling if entry.since < late]:
            self._close(connection)

    def _close(self, connection: Connection) -> None:
        self._stalling.discard(connection)
        connection.out = []
        self._connections.pop(connection.socket.fileno(), None)
        connection.gone = True
        connection.socket.close()
        self._accept_more()


def _next_of(pieces: Pieces) -> bytes | _End:
    """Let the customer's code make the next piece."""
    try:
        return next(pieces, _End.WHOLE)
    except (Exception, SystemExit):  # noqa: BLE001 - whatever the customer's code does
        traceback.print_exc(file=sys.stderr)
        return _End.BROKEN


def _close(pieces: Pieces) -> None:
    """Let the customer's code clean up behind an answer that may not be whole."""
    try:
        pieces.close()
    except (Exception, SystemExit):  # noqa: BLE001 - whatever the customer's code does
        traceback.print_exc(file=sys.stderr)


def own_answer(request: Request, pages: Pages) -> Answer | None:
    """Answer what needs no model; None for an invocation (data-plane.md sections 7.4, 7.5 and 9.1)."""
    if request.path == "/ping":
        if request.method in {"GET", "HEAD"}:
            return pages.ping
        return Answer(405, "text/plain; charset=utf-8", b"Use GET for /ping.", [("Allow", "GET, HEAD")])
    if request.path == "/invocations":
        if request.method == "POST":
            return None
        return Answer(405, "text/plain; charset=utf-8", b"Use POST for /invocations.", [("Allow", "POST")])
    return pages.missing
