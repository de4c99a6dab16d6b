"""Carries a request to the process that owns it and the answer back, both ways at the pace of the slower side.

Target and headers go through byte for byte, because a signature covers them; only what concerns one connection
(RFC 9110 section 7.6.1) is made anew. At most a buffer's length of either direction is in memory.
"""

from collections.abc import Sequence

from moorage.aws.errors import ServiceError
from moorage.gateway import answers
from moorage.gateway.connection import ClientConnection
from moorage.gateway.exchange import AnswerHead, Break
from moorage.gateway.owners import Owner, unknown_service
from moorage.gateway.requests import RequestHead
from moorage.gateway.upstream import UpstreamConnection
from moorage.iam.context import SECURE_HEADER, SOURCE_IP_HEADER

STALL_SECONDS = 120.0
"""Without a byte in either direction; a large object is put together within it."""

DISCARD_BYTES = 16 * 2**20

_HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)

_SOURCE_IP = SOURCE_IP_HEADER.encode()
_SECURE = SECURE_HEADER.encode()


class Relay:
    """One request of another process, on one client connection."""

    def __init__(self, client: ClientConnection, head: RequestHead, owner: Owner) -> None:
        self._client = client
        self._shared = client.shared
        self._head = head
        self._owner = owner
        self._early: list[bytes] = []
        self._upstream: UpstreamConnection | None = None
        self._request_done = False
        self._answer_head: AnswerHead | None = None
        self._chunks_answer = False
        self._closes = False
        self._done = False

    # Handling

    def start(self) -> None:
        """Begin; the head is known."""
        self._moved()
        self._client.pause_reading()
        self._shared.owners[self._owner].borrow(self)

    def body_received(self, data: bytes) -> None:
        """Pass on a piece of the body."""
        self._moved()
        self._send(frame(data) if self._head.chunked else [data])

    def request_ended(self) -> None:
        """Pass on that the body is complete."""
        self._request_done = True
        if self._head.chunked:
            self._send([b"0\r\n\r\n"])

    def client_gone(self) -> None:
        """Stop the owner's work."""
        self._done = True
        self._let_go()

    def client_writable(self, *, writable: bool) -> None:
        """Slow the owner down to the client's pace."""
        self._moved()
        if self._upstream is None:
            return
        if writable:
            self._upstream.resume_reading()
        else:
            self._upstream.pause_reading()

    def time_is_up(self) -> None:
        """Fail: nothing has moved for too long."""
        if self._answer_head is None:
            self._fail(answers.unavailable(self._owner))
        else:
            self._break()

    def break_off(self) -> None:
        """Break the connection: the owner has not finished before the gateway had to stop."""
        self._client.abort()

    # Borrower

    def upstream_ready(self, connection: UpstreamConnection) -> None:
        """Send the request, and what has come of its body."""
        if self._done:
            connection.give_back()
            return
        self._moved()
        self._upstream = connection
        connection.exchange.begin(self, head_only=self._head.method == "HEAD")
        early, self._early = self._early, []
        connection.send(
            [make_request_head(self._head, self._client.source_ip, secure=self._client.shared.secure), *early]
        )
        self._client.resume_reading()

    def upstream_refused(self, reason: str) -> None:  # noqa: ARG002 - of no use to the client
        """Fail: the owner has not come back within the time of its pool."""
        if not self._done:
            self._fail(answers.unavailable(self._owner))

    def upstream_writable(self, *, writable: bool) -> None:
        """Slow the client down to the owner's pace."""
        self._moved()
        if writable:
            self._client.resume_reading()
        else:
            self._client.pause_reading()

    # AnswerSink

    def interim_received(self, head: AnswerHead) -> None:
        """Pass on that the owner wants the body."""
        if head.status == 100 and self._head.expects_continue and not self._request_done:
            self._client.send_continue()

    def answer_received(self, head: AnswerHead) -> None:
        """Pass on the head."""
        self._moved()
        self._answer_head = head
        unframed = head.has_body and head.content_length is None
        self._chunks_answer = unframed and self._head.version == "1.1"
        self._closes = self._client.closes() or (unframed and not self._chunks_answer)
        self._client.send(
            [make_answer_head(head, chunked=self._chunks_answer, closes=self._closes, version=self._head.version)]
        )

    def answer_body_received(self, data: bytes) -> None:
        """Pass on a piece of the body."""
        self._moved()
        self._client.send(frame(data) if self._chunks_answer else [data])

    def answer_ended(self) -> None:
        """Finish; what the client still sends of the request is of no use."""
        if self._done:
            return
        self._done = True
        if self._chunks_answer:
            self._client.send([b"0\r\n\r\n"])
        self._let_go()
        self._client.finished(close=self._closes or not self._request_done)

    def answer_broken(self, how: Break) -> None:  # noqa: ARG002 - what counts is what the client has seen
        """Fail: the owner has died, or sent what is no answer."""
        if self._answer_head is None:
            self._fail(answers.unavailable(self._owner))
        else:
            self._break()

    # Inside

    def _moved(self) -> None:
        self._client.deadline = self._shared.ticked_at + STALL_SECONDS

    def _send(self, parts: Sequence[bytes]) -> None:
        if self._done:
            return
        if self._upstream is None:
            self._early.extend(parts)
        else:
            self._upstream.send(parts)

    def _fail(self, fault: ServiceError) -> None:
        if self._done:
            return
        self._done = True
        self._let_go()
        request_id = self._shared.ids.request_id()
        self._client.answer(answers.owner_error(self._owner, self._head, fault, request_id))

    def _break(self) -> None:
        self._done = True
        self._let_go()
        self._client.abort()

    def _let_go(self) -> None:
        self._early.clear()
        connection, self._upstream = self._upstream, None
        if connection is not None:
            if not self._request_done:  # the owner would take the next request for the rest of this one
                connection.exchange.abandon()
            connection.give_back()


class Refused:
    """A request that has no owner: its body is read and dropped, then the error is sent."""

    def __init__(self, client: ClientConnection, head: RequestHead) -> None:
        self._client = client
        self._head = head
        self._size = 0

    def start(self) -> None:
        """Begin; the head is known."""
        self._client.deadline = self._client.shared.ticked_at + STALL_SECONDS
        if self._head.expects_continue:
            self.request_ended()

    def body_received(self, data: bytes) -> None:
        """Drop a piece of the body."""
        self._size += len(data)
        if self._size > DISCARD_BYTES:
            self.request_ended()

    def request_ended(self) -> None:
        """Answer."""
        request_id = self._client.shared.ids.request_id()
        fault = unknown_service(self._head)
        self._client.answer(answers.owner_error(Owner.NOBODY, self._head, fault, request_id))

    def client_gone(self) -> None:
        """There is nothing to give back."""

    def client_writable(self, *, writable: bool) -> None:
        """There is nobody to slow down."""

    def time_is_up(self) -> None:
        """Answer without the rest of the body."""
        self.request_ended()

    def break_off(self) -> None:
        """Answer without the rest of the body."""
        self.request_ended()


def frame(data: bytes) -> list[bytes]:
    """Make a chunk of a piece of a body."""
    return [b"%x\r\n" % len(data), data, b"\r\n"]


def make_request_head(head: RequestHead, source_ip: str, *, secure: bool) -> bytes:
    """Make the head that the owner sees: with what we know of the client, whatever the client itself says."""
    lines = _passed_on([header for header in head.raw_headers if header[0].lower() not in (_SOURCE_IP, _SECURE)])
    lines.append(b"%b: %b\r\n%b: %b\r\n" % (_SOURCE_IP, source_ip.encode(), _SECURE, b"true" if secure else b"false"))
    if head.chunked:
        lines.append(b"Transfer-Encoding: chunked\r\n")
    target = head.target.encode("latin-1")
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (head.method.encode(), target, b"".join(lines))


def make_answer_head(head: AnswerHead, *, chunked: bool, closes: bool, version: str) -> bytes:
    """Make the head that the client sees."""
    lines = _passed_on(head.raw_headers)
    if chunked:
        lines.append(b"Transfer-Encoding: chunked\r\n")
    lines.append(answers.connection_header(close=closes, version=version))
    return b"HTTP/1.1 %d %b\r\n%b\r\n" % (head.status, head.reason, b"".join(lines))


def _passed_on(headers: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
    named = b",".join(value for name, value in headers if name.lower() == b"connection")
    dropped = _HOP_BY_HOP | {name.strip().lower() for name in named.split(b",")}
    # Nobody may have a header dropped that says who asks what, or where the body ends.
    dropped -= {b"host", b"authorization", b"content-length"}
    return [b"%b: %b\r\n" % header for header in headers if header[0].lower() not in dropped]
