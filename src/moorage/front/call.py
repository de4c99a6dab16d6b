"""One invocation on its way through the containers of an instance.

    ==========  ===================================  ==========================================================
    state       event                                effect
    ==========  ===================================  ==========================================================
    asking      2xx of a container that is not last  its body is taken in; then the next container is asked
    asking      2xx of the last, any other status    the answer begins: it is passed on while it comes
    asking      no answer, too large, time is up     a fault, which names the container
    answering   a piece of the body                  sent at once; the container waits while the caller is slow
    answering   the answer breaks                    the connection is broken: the caller sees how far it came
    any         the caller is gone                   the connection to the container is closed
    ==========  ===================================  ==========================================================

The body and its content type flow on; Accept goes to the last container alone (``heads``). The first container whose
status is none of 2xx ends the call: its answer is the answer, with its name (data-plane.md section 8.2).
"""

from collections.abc import Sequence
from typing import Protocol

from moorage.base.clock import Clock
from moorage.front.heads import CallHead
from moorage.front.question import Askable, Asking, Question
from moorage.gateway import fronts
from moorage.gateway.exchange import AnswerHead
from moorage.gateway.fronts import Fault, FaultKind

_MICROSECONDS = 1_000_000

_PASSED_ON = {
    name.lower(): name
    for name in (
        b"Content-Type",
        b"X-Amzn-SageMaker-Custom-Attributes",
        b"X-Amzn-SageMaker-Session-Id",
        b"X-Amzn-SageMaker-New-Session-Id",
        b"X-Amzn-SageMaker-Closed-Session-Id",
    )
}
"""What the caller sees of a container's headers."""

_LAST_CHUNK = b"0\r\n\r\n"


class Caller(Protocol):
    """Who has called (``server.FrontConnection``)."""

    def send(self, parts: Sequence[bytes]) -> None:
        """Send bytes of the answer."""

    def finished(self) -> None:
        """Note that the answer is on its way: the next call may come."""

    def abort(self) -> None:
        """Break the connection."""


class Around(Protocol):
    """What a call needs of its front (``server.Front``)."""

    @property
    def clock(self) -> Clock:
        """Where it gets the time from."""

    @property
    def body_bytes(self) -> int:
        """Largest body that goes from one container to the next."""

    def hold(self, size: int) -> bool:
        """Count bytes of bodies that are in memory from now on (or no more: negative); False when that is too much."""

    def waits_no_longer(self, call: "Call") -> None:
        """Note that the answer has begun, or the call has ended: no deadline is to be watched any more."""


class Call:
    """One invocation."""

    __slots__ = (
        "_around",
        "_asked_at",
        "_asking",
        "_at",
        "_caller",
        "_chunked",
        "_done",
        "_expected",
        "_head",
        "_held",
        "_latencies",
        "_measures",
        "_pending",
        "_pieces",
        "_relaying",
        "_size",
        "_stations",
        "_status",
        "_type_line",
        "deadline",
    )

    def __init__(self, around: Around, caller: Caller, head: CallHead, *, deadline: float) -> None:
        self.deadline = deadline
        """When, in monotonic seconds, the answer must have begun."""
        self._around = around
        self._caller = caller
        self._head = head
        self._stations: Sequence[Askable] = ()
        self._at = 0
        self._asking: Asking | None = None
        self._asked_at = 0.0
        self._latencies: list[tuple[str, int]] = []
        self._measures: list[tuple[str, int]] = []
        self._type_line = head.content_type
        self._status = 0
        self._pieces: list[bytes] = []
        """What has come of a body for the next container."""
        self._size = 0
        self._relaying = False
        self._chunked = False
        self._expected: int | None = None
        """Length of the body that is passed on."""
        self._pending: list[bytes] = []
        """What is not sent yet of an answer that may come whole in one piece."""
        self._done = False
        self._held = 0
        """Bytes of bodies that are in memory for this call."""

    def __repr__(self) -> str:
        names = [station.name for station in self._stations]
        return f"<Call: {'done' if self._done else f'at {self._at}'} of {names}>"

    def begin(self, stations: Sequence[Askable], chunks: Sequence[bytes], size: int) -> None:
        """Ask the first of these containers."""
        self._stations = stations
        if self._hold(size):
            self._ask(chunks, size)
        else:
            self._fail(Fault(FaultKind.NO_MEMORY))

    def refuse(self, fault: Fault) -> None:
        """Answer that nothing was asked."""
        self._fail(fault)

    # What can end it

    def time_is_up(self) -> None:
        """Answer that the container that is being asked has not answered in time."""
        asking, self._asking = self._asking, None
        fault = Fault(FaultKind.TIMED_OUT) if asking is None else asking.give_up()
        self._note_latency()
        self._fail(fault)

    def caller_gone(self) -> None:
        """Stop the container's work: nobody waits for the answer."""
        if not self._done:
            self._done = True
            self._let_go()
            self._hold(-self._held)
            self._around.waits_no_longer(self)

    def caller_writable(self, *, writable: bool) -> None:
        """Slow the container down to the caller's pace."""
        if self._asking is not None and self._relaying:
            (self._asking.resume if writable else self._asking.pause)()

    # Hearer

    def answer_begun(self, head: AnswerHead) -> None:
        """Pass it on, or take it in for the next container."""
        self._note_latency()
        if 200 <= head.status < 300 and self._at + 1 < len(self._stations):
            self._status = head.status
            value = head.field(b"content-type")
            self._type_line = b"Content-Type: %b\r\n" % value if value else b""
            if head.has_body and head.content_length is not None and head.content_length > self._around.body_bytes:
                self._too_large(head.content_length)
        else:
            self._relay(head)

    def answer_piece(self, data: bytes) -> None:
        """Pass a piece on, or keep it for the next container."""
        if self._relaying:
            self._pass_on(data)
            return
        self._size += len(data)
        if self._size > self._around.body_bytes:
            self._too_large(self._size)
        elif self._hold(len(data)):
            self._pieces.append(data)
        else:
            self._let_go()
            self._fail(Fault(FaultKind.NO_MEMORY))

    def answer_ended(self) -> None:
        """Ask the next container, or end."""
        self._asking = None
        if not self._relaying:
            chunks, size = self._pieces, self._size
            self._pieces, self._size = [], 0
            self._hold(size - self._held)  # what was asked is needed no more
            self._note_latency()
            self._at += 1
            self._ask(chunks, size)
            return
        self._done = True
        parts, self._pending = self._pending, []
        if self._chunked:
            parts.append(_LAST_CHUNK)
        if parts:
            self._caller.send(parts)
        self._caller.finished()

    def asking_failed(self, fault: Fault) -> None:
        """Answer that there is no answer; where it had begun, only breaking the connection says so."""
        self._asking = None
        if self._relaying:
            self._done = True
            self._caller.abort()
            return
        self._note_latency()
        if fault.kind == FaultKind.REFUSED and self._at:
            fault = Fault(FaultKind.NO_ANSWER)  # others have run: nobody may do it all again elsewhere
        self._fail(fault)

    def asked_now(self) -> None:
        """Begin to count the time that the present container takes."""
        self._asked_at = self._around.clock.monotonic()

    def note(self, measure: str, value: int) -> None:
        """Tell the gateway with the answer."""
        self._measures.append((measure, value))

    # Inside

    def _ask(self, chunks: Sequence[bytes], size: int) -> None:
        last = self._at + 1 == len(self._stations)
        lines = self._head.lines(self._type_line, last=last)
        self._asked_at = self._around.clock.monotonic()
        self._asking = self._stations[self._at].ask(Question(lines, chunks, size, self._head.target_model), self)

    def _note_latency(self) -> None:
        """Note how long the present container has taken so far; said again, it counts anew."""
        if self._at < len(self._stations):
            microseconds = int((self._around.clock.monotonic() - self._asked_at) * _MICROSECONDS)
            self._latencies[self._at :] = [(self._stations[self._at].name, microseconds)]

    def _too_large(self, size: int) -> None:
        self._let_go()
        following = self._stations[self._at + 1].name
        details = {"status": self._status, "bytes": size, "limit": self._around.body_bytes, "next": following}
        self._fail(Fault(FaultKind.TOO_LARGE, details))

    def _relay(self, head: AnswerHead) -> None:
        """Begin the answer; its first bytes go out with the first of the body."""
        self._relaying = True
        self._hold(-self._held)
        self._around.waits_no_longer(self)
        lines = [
            b"%b: %b\r\n" % (_PASSED_ON[lower], value)
            for name, value in head.raw_headers
            if (lower := name.lower()) in _PASSED_ON
        ]
        length = head.content_length
        if not head.has_body:
            framing = b"" if head.status in {204, 304} else b"Content-Length: 0\r\n"
            self._expected = 0
        elif length is not None:
            framing = b"Content-Length: %d\r\n" % length
            self._expected = length
        else:
            framing = b"Transfer-Encoding: chunked\r\n"
            self._chunked = True
        self._pending = [self._first_line(head.status), *lines, self._told(), framing, b"\r\n"]

    def _pass_on(self, data: bytes) -> None:
        if self._chunked:
            parts = [*self._pending, b"%x\r\n" % len(data), data, b"\r\n"]
        elif not self._size and len(data) == self._expected:  # whole: it goes out in one piece with its head
            self._size = len(data)
            self._pending = [b"".join([*self._pending, data])]
            return
        else:
            self._size += len(data)
            parts = [*self._pending, data]
        self._pending = []
        self._caller.send(parts)

    def _hold(self, size: int) -> bool:
        self._held += size
        return self._around.hold(size)

    def _fail(self, fault: Fault) -> None:
        self._done = True
        self._hold(-self._held)
        self._around.waits_no_longer(self)
        body = fault.body
        head = b"%b%b: %b\r\n%bContent-Length: %d\r\n\r\n" % (
            self._first_line(fronts.FAULT_STATUS),
            fronts.FAULT,
            fault.kind.encode(),
            self._told(),
            len(body),
        )
        self._caller.send([head + body])
        self._caller.finished()

    def _first_line(self, status: int) -> bytes:
        return b"HTTP/1.1 %d %b\r\n" % (status, b"OK" if status < 300 else b"Error")

    def _told(self) -> bytes:
        """Make the lines of what the gateway is to know."""
        if self._at >= len(self._stations):
            return b""
        told = b"%b: %b\r\n%b: %b\r\n" % (
            fronts.CONTAINER,
            self._stations[self._at].name.encode(),
            fronts.LATENCIES,
            fronts.tell_values(self._latencies),
        )
        return told + b"%b: %b\r\n" % (fronts.MEASURES, fronts.tell_values(self._measures)) if self._measures else told

    def _let_go(self) -> None:
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.cancel()
