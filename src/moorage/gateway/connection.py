"""One client's connection: reads requests, gives each to whoever answers it, one after the other.

Nothing is decided here but whose turn it is. A request that comes while another is being answered (pipelining)
waits, and nothing more is read meanwhile. Every state has a deadline; ``listener`` looks at them.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol, cast

from moorage.aws.response import Response
from moorage.gateway import answers
from moorage.gateway.requests import BadRequest, RequestHead, RequestReader
from moorage.gateway.shared import Shared

IDLE_SECONDS = 75.0
"""For a connection without a request: longer than the clients' own pools keep theirs."""

HEAD_SECONDS = 20.0
"""From the first byte of a head to its last."""

LINGER_SECONDS = 30.0
"""For reading what a client still sends after an early answer, so that it sees the answer and no reset."""

WRITE_SECONDS = 60.0
"""For a client that does not read its answer."""

WRITE_BUFFER_BYTES = 262_144

MOST_LATE = 64
"""Answers that wait for the end of the event loop's turn; with so many they do not wait for it any longer."""


class Handling(Protocol):
    """What is done with one request, from its head to the last byte of its answer."""

    def start(self) -> None:
        """Begin; the head is known."""

    def body_received(self, data: bytes) -> None:
        """Take a piece of the body."""

    def request_ended(self) -> None:
        """Note that the body is complete."""

    def client_gone(self) -> None:
        """Give back everything: nobody waits for the answer."""

    def client_writable(self, *, writable: bool) -> None:
        """Note that the client reads too slowly, or reads again."""

    def time_is_up(self) -> None:
        """Deal with the end of the time that this handling has given itself."""

    def break_off(self) -> None:
        """End now as well as that can be done: the gateway stops."""


class WholeHandling(Handling, Protocol):
    """What is done with a request that can come whole, in one piece."""

    def request_received(self, body: bytes) -> None:
        """Do at once what ``start``, ``body_received`` and ``request_ended`` do."""


class Waiting:
    """A request behind the one that is being answered."""

    def __init__(self, head: RequestHead) -> None:
        self.head = head
        self.chunks: list[bytes] = []
        self.ended = False


class LateAnswers:
    """The small answers of a gateway that are sent when the event loop has done its turn.

    To write to the socket of a process that sleeps costs several times what it costs while that process is awake: the
    core where it sleeps has to be interrupted. So who has several connections is woken once for all their answers.
    """

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[ClientConnection] = []

    def __repr__(self) -> str:
        return f"<LateAnswers: {len(self._waiting)}>"

    def add(self, connection: "ClientConnection") -> None:
        """Have a connection send its late answer soon."""
        waiting = self._waiting
        if not waiting:
            asyncio.get_running_loop().call_soon(self._send)
        waiting.append(connection)
        if len(waiting) >= MOST_LATE:
            self._send()

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        for connection in waiting:
            connection.send_late()


class ClientConnection:
    """One client's connection: a protocol of asyncio."""

    def __init__(
        self,
        shared: Shared,
        late_answers: LateAnswers,
        choose_handling: Callable[["ClientConnection", RequestHead], Handling],
        invoke: Callable[["ClientConnection", RequestHead], WholeHandling],
        gone: Callable[["ClientConnection"], None],
    ) -> None:
        self.shared = shared
        self.deadline = shared.ticked_at + IDLE_SECONDS
        """When, in monotonic seconds, the present state has lasted too long."""
        self.keep_alive = True
        """Whether another request may follow the present one."""
        self.head: RequestHead | None = None
        """Of the request that is being answered."""
        self.source_ip = ""
        """The client's address; empty for a Unix socket."""
        self._late_answers = late_answers
        self._late = b""
        """An answer that is sent when the event loop has done its turn."""
        self._choose_handling = choose_handling
        self._invoke = invoke
        self._gone = gone
        self._transport: asyncio.Transport | None = None
        self._reader = RequestReader(self)
        self._active: Handling | None = None
        self._receiving = False
        self._waiting: deque[Waiting] = deque()
        self._advancing = False
        self._in_head = False
        self._deaf = False
        self._lingering = False
        self._blocked = False
        self._unsent = 0
        self._answer_begun = False
        self._paused = False

    def __repr__(self) -> str:
        doing = type(self._active).__name__ if self._active else "idle"
        return f"<ClientConnection: {doing}, {len(self._waiting)} waiting>"

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """(asyncio) A client has connected."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self.source_ip = str(peer[0]) if isinstance(peer, tuple) else ""
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)

    def data_received(self, data: bytes) -> None:
        """(asyncio) The client has sent something."""
        if self._deaf:
            return
        if self._reader.between and self._active is None and not (self._waiting or self._blocked or self._lingering):
            quick = self.shared.quick.read(data)
            if quick is not None:
                self._begin_whole(*quick)
                return
        try:
            self._reader.feed(data)
        except BadRequest as fault:
            self._refuse_bytes(fault)
            return
        in_head = self._reader.in_head and self._active is None
        if in_head and not self._in_head:
            self.deadline = self.shared.ticked_at + HEAD_SECONDS
        self._in_head = in_head

    def eof_received(self) -> None:
        """(asyncio) The client sends no more: it has gone, or reads what is on its way."""
        self.send_late()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """(asyncio) The socket is closed."""
        self._transport = None
        self._waiting.clear()
        active, self._active = self._active, None
        if active is not None:
            active.client_gone()
        self._gone(self)

    def pause_writing(self) -> None:
        """(asyncio) The client reads too slowly."""
        self._blocked = True
        if self._active is not None:
            self._active.client_writable(writable=False)
        else:  # the answer was sent late
            self.deadline = self.shared.ticked_at + WRITE_SECONDS

    def resume_writing(self) -> None:
        """(asyncio) The client has read."""
        self._blocked = False
        if self._active is not None:
            self._active.client_writable(writable=True)
        else:
            self.deadline = self.shared.ticked_at + IDLE_SECONDS
            self._advance()

    # RequestSink

    def head_received(self, head: RequestHead) -> None:
        """Take the head of a request."""
        if self._active is not None or self._waiting or self._blocked or self._lingering:
            self._waiting.append(Waiting(head))
            self.pause_reading()
        else:
            self._begin(head)

    def body_received(self, data: bytes) -> None:
        """Take a piece of the body of the request whose head came last."""
        if self._waiting:
            self._waiting[-1].chunks.append(data)
        elif self._active is not None and self._receiving:
            self._active.body_received(data)

    def request_ended(self) -> None:
        """Note that the request whose head came last is complete."""
        if self._waiting:
            self._waiting[-1].ended = True
        elif self._receiving:
            self._receiving = False
            if self._active is not None:
                self._active.request_ended()

    # For the handling of the present request

    def send(self, parts: Iterable[bytes]) -> None:
        """Send bytes of the answer."""
        self._answer_begun = True
        self.send_late()
        if self._transport is not None:
            self._transport.writelines(parts)

    def send_whole(self, answer: bytes) -> None:
        """Send an answer that is one piece, when the event loop has done its turn."""
        self._answer_begun = True
        self.send_late()
        self._late = answer
        self._late_answers.add(self)

    def send_late(self) -> None:
        """Send now what was to be sent when the event loop has done its turn; nothing may be sent before it."""
        if self._late:
            late, self._late = self._late, b""
            if self._transport is not None:
                self._transport.write(late)

    def send_continue(self) -> None:
        """Ask for the body."""
        self.send_late()
        if self._transport is not None:
            self._transport.write(answers.CONTINUE)

    def answer(self, response: Response) -> None:
        """Send a whole answer and finish."""
        version, method = (self.head.version, self.head.method) if self.head else ("1.1", "")
        closes = self.closes()
        encoded = answers.encode_response(
            response, self.shared.date, close=closes, version=version, bodiless=method == "HEAD"
        )
        self.send([encoded])
        self.finished(close=closes)

    def closes(self) -> bool:
        """Say whether the connection is to be closed after this answer, as its head must tell."""
        return self._receiving or not self.keep_alive or self.shared.stopping

    def finished(self, *, close: bool) -> None:
        """Go on with the next request, or close: the answer is on its way."""
        self._active = None
        self.head = None
        if close:
            self._close_softly()
        else:
            self.deadline = self.shared.ticked_at + (WRITE_SECONDS if self._blocked else IDLE_SECONDS)
            if self._waiting or self._paused:
                self._advance()

    def pause_reading(self) -> None:
        """Leave what comes in the socket for now."""
        if self._transport is not None and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on, unless another request waits already."""
        if self._transport is not None and not self._waiting and self._paused:
            self._paused = False
            self._transport.resume_reading()

    def abort(self) -> None:
        """Break the connection: the only honest end of an answer that has begun and cannot go on."""
        self._late = b""
        if self._transport is not None:
            self._transport.abort()

    def has_read(self) -> bool:
        """Say whether a client that reads too slowly has read something since this was last asked."""
        return self._is_reading_slowly()

    # For the listener

    def expired(self) -> None:
        """Deal with a state that has lasted too long."""
        if self._active is not None:
            self._active.time_is_up()
        elif self._blocked and self._is_reading_slowly():
            self.deadline = self.shared.ticked_at + WRITE_SECONDS
        elif self._reader.in_head and not self._deaf:
            self._refuse_bytes(BadRequest("The head of the request did not come in time.", 408))
        else:
            self.abort()

    @property
    def busy(self) -> bool:
        """Whether there is a request, or an answer that is not sent."""
        if self._active is not None or self._waiting or self._reader.in_head or self._lingering or self._late:
            return True
        return self._transport is not None and self._transport.get_write_buffer_size() > 0

    def stop_when_idle(self) -> None:
        """Close now if there is no request, else after the answer."""
        idle = self._active is None and not self._waiting and not self._reader.in_head and not self._lingering
        if idle and self._transport is not None and not self._transport.is_closing():
            self.send_late()
            self._transport.close()

    def break_off(self) -> None:
        """End now, whatever is under way."""
        if self._active is not None:
            self._active.break_off()
        else:
            self.abort()

    # Inside

    def _is_reading_slowly(self) -> bool:
        """Say whether the client has read something since it was last asked."""
        before, self._unsent = self._unsent, self._transport.get_write_buffer_size() if self._transport else 0
        return self._unsent != before

    def _begin(self, head: RequestHead) -> None:
        self.head = head
        self.keep_alive = head.keep_alive and not self._deaf
        self._answer_begun = False
        self._receiving = True
        self._active = self._choose_handling(self, head)
        self._active.start()

    def _begin_whole(self, head: RequestHead, body: bytes) -> None:
        """Begin an invocation that is complete already."""
        self.head = head
        self.keep_alive = True
        self._answer_begun = self._receiving = False
        handling = self._active = self._invoke(self, head)
        handling.request_received(body)

    def _advance(self) -> None:
        """Begin requests that have waited; a loop and not a recursion, because they can be many."""
        if self._advancing:
            return
        self._advancing = True
        try:
            while self._waiting and self._active is None and not self._blocked and not self._lingering:
                waiting = self._waiting.popleft()
                self.resume_reading()  # the rest of its body, unless its handling pauses again
                self._begin(waiting.head)
                for chunk in waiting.chunks:
                    self._forward_body(chunk)
                if waiting.ended:
                    self._receiving = False
                    self._forward_end()
        finally:
            self._advancing = False
        if self._active is None and not self._waiting:
            self.resume_reading()

    def _forward_body(self, chunk: bytes) -> None:
        if self._active is not None and self._receiving:
            self._active.body_received(chunk)

    def _forward_end(self) -> None:
        if self._active is not None:
            self._active.request_ended()

    def _refuse_bytes(self, fault: BadRequest) -> None:
        """Answer what cannot be parsed, when it is its turn; then close."""
        self._deaf = True
        self._waiting.clear()
        if self._active is not None and not self._receiving:
            self.keep_alive = False  # what is being answered is in order; what follows is not
            return
        active, self._active = self._active, None
        if active is not None:
            active.client_gone()
            if self._answer_begun:
                self.abort()
                return
        response = answers.bad_request(fault, self.shared.ids.request_id())
        self.send([answers.encode_response(response, self.shared.date, close=True, version="1.1", bodiless=False)])
        self._receiving = True
        self._close_softly()

    def _close_softly(self) -> None:
        """Close, but read what the client still sends: closing with unread bytes would reset the connection."""
        self.send_late()
        transport = self._transport
        if transport is None:
            return
        self._waiting.clear()
        if (
            not self._receiving or not transport.can_write_eof()
        ):  # TLS reads on by itself until the client has closed too
            transport.close()
            return
        self._lingering = self._deaf = True
        self.deadline = self.shared.ticked_at + LINGER_SECONDS
        try:
            transport.write_eof()
        except OSError:  # the client has gone already
            transport.abort()
            return
        self.resume_reading()
