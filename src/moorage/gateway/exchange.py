"""The answers of one upstream connection, without input and output: bytes in, answers out.

The states of an exchange and what moves it from one to the next; ``broken`` tells its sink how far the answer had
come, because that decides what the client may be told and whether anybody else may be asked:

    ========  ===========================  =============================================
    state     event                        next
    ========  ===========================  =============================================
    IDLE      begin                        WAITING
    WAITING   first byte                   HEAD
    WAITING   end of stream                broken(NO_ANSWER)
    HEAD      head complete                BODY, or HEAD again after an interim answer
    HEAD      end of stream                broken(IN_HEAD)
    BODY      last byte                    IDLE, answer_ended
    BODY      end of stream                IDLE, answer_ended when the end is the framing,
                                           else broken(IN_BODY)
    any       bytes that are no answer     broken(MALFORMED)
    ========  ===========================  =============================================

Bytes that nobody asked for (IDLE) spoil the connection: ``reusable`` turns false for good.

An instance sends the same few heads again and again. A head that the parser has read, of an answer that came whole and
in one piece, is remembered (``Heads``); when the same bytes come again the parser is not asked.
"""

from collections.abc import Sequence
from enum import Enum, StrEnum, auto
from typing import Protocol

import httptools

HEAD_BYTES = 65_536
"""Largest head of an answer, interim answers included."""

_BODILESS = frozenset({204, 304})
_PASSED_ON = (b"Content-Type", b"X-Amzn-SageMaker-Custom-Attributes")
_MOST_HEADS = 64


class State(Enum):
    """Where an exchange stands."""

    IDLE = auto()
    WAITING = auto()
    HEAD = auto()
    BODY = auto()
    BROKEN = auto()


class Break(StrEnum):
    """How far the answer had come when it broke."""

    NO_ANSWER = "NoAnswer"
    IN_HEAD = "InHead"
    IN_BODY = "InBody"
    MALFORMED = "Malformed"


class AnswerHead:
    """Status line and headers, as they were on the wire."""

    def __init__(
        self,
        status: int,
        reason: bytes,
        raw_headers: Sequence[tuple[bytes, bytes]],
        content_length: int | None,
        *,
        has_body: bool,
    ) -> None:
        self.status = status
        self.reason = reason
        self.raw_headers = raw_headers
        self.content_length = content_length
        self.has_body = has_body
        """Whether body bytes can follow."""
        self._passed_on: bytes | None = None
        self._content_type: str | None = None
        self._knows_content_type = False

    def __repr__(self) -> str:
        return f"<AnswerHead: {self.status}, {len(self.raw_headers)} headers>"

    @property
    def passed_on(self) -> bytes:
        """The lines that the client of an invocation gets (data-plane.md section 1.4); made once."""
        if self._passed_on is None:
            lines = [(name, self.field(name.lower())) for name in _PASSED_ON]
            self._passed_on = b"".join([b"%b: %b\r\n" % (name, value) for name, value in lines if value is not None])
        return self._passed_on

    @property
    def content_type(self) -> str | None:
        """The Content-Type, latin-1; read once."""
        if not self._knows_content_type:
            value = self.field(b"content-type")
            self._content_type = None if value is None else value.decode("latin-1")
            self._knows_content_type = True
        return self._content_type

    def field(self, name: bytes) -> bytes | None:
        """Give the first header of this lower-case name."""
        for key, value in self.raw_headers:
            if key.lower() == name:
                return value
        return None


class Heads:
    """The heads of one instance's answers, by their bytes with the empty line; starts anew when it is full."""

    __slots__ = ("known",)

    def __init__(self) -> None:
        self.known: dict[bytes, AnswerHead] = {}

    def learn(self, raw: bytes, head: AnswerHead) -> None:
        """Remember a head with a Content-Length, behind which the connection can be used again."""
        if len(self.known) >= _MOST_HEADS:
            self.known.clear()
        self.known[raw] = head


class AnswerSink(Protocol):
    """Who is told what was read."""

    def interim_received(self, head: AnswerHead) -> None:
        """Take an answer of 1xx; the real one follows."""

    def answer_received(self, head: AnswerHead) -> None:
        """Take the head of the answer."""

    def answer_body_received(self, data: bytes) -> None:
        """Take a piece of the body, without its framing."""

    def answer_ended(self) -> None:
        """Note that the answer is complete."""

    def answer_broken(self, how: Break) -> None:
        """There will be no more of this answer."""


class Exchange:
    """Reads the answers of one connection, one after the other."""

    __slots__ = (
        "_fault",
        "_first",
        "_head",
        "_head_bytes",
        "_head_only",
        "_headers",
        "_heads",
        "_length",
        "_parser",
        "_reason",
        "_sink",
        "_until_close",
        "reusable",
        "state",
    )

    def __init__(self, heads: Heads) -> None:
        self.state = State.IDLE
        self.reusable = True
        """Whether another request may be sent when this one is answered."""
        self._sink: AnswerSink | None = None
        self._heads = heads
        self._head: AnswerHead | None = None
        self._first = b""
        """The piece with which the answer began, while the parser reads it."""
        self._parser = httptools.HttpResponseParser(self)
        self._fault: BaseException | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._reason = b""
        self._length: int | None = None
        self._head_only = False
        self._until_close = False
        self._head_bytes = 0

    def __repr__(self) -> str:
        return f"<Exchange: {self.state.name}, {'' if self.reusable else 'not '}reusable>"

    def begin(self, sink: AnswerSink, *, head_only: bool = False) -> None:
        """Expect an answer; ``head_only`` says that the request was HEAD."""
        if self.state is not State.IDLE or not self.reusable:
            raise RuntimeError(f"begin in {self!r}")
        self._sink = sink
        self._head_only = head_only
        self._head_bytes = 0
        self.state = State.WAITING

    def feed(self, data: bytes) -> None:
        """Read bytes of the upstream."""
        if self.state is State.IDLE or self.state is State.BROKEN:
            self.reusable = False
            return
        if self.state is State.WAITING:
            if self._feed_remembered(data):
                return
            self.state = State.HEAD
            self._first = data
        if self.state is State.HEAD:
            self._head_bytes += len(data)
        self._feed_parser(data)
        self._first = b""
        if self.state is State.HEAD and self._head_bytes > HEAD_BYTES:
            self._break(Break.MALFORMED)

    def _feed_remembered(self, data: bytes) -> bool:
        """Read a whole answer whose head is known; False when it is not, and nothing has been done."""
        end = data.find(b"\r\n\r\n") + 4
        head = self._heads.known.get(data[:end])
        sink = self._sink
        if head is None or sink is None or self._head_only or head.content_length != len(data) - end:
            return False
        self.state = State.BODY
        sink.answer_received(head)
        if end < len(data):
            sink.answer_body_received(data[end:])
        if self.state is State.BODY:  # the sink may have abandoned it
            self._end()
        return True

    def _feed_parser(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            if self._fault is not None and not isinstance(self._fault, _BadAnswer):
                raise self._fault from None
            self._break(Break.MALFORMED)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._break(Break.MALFORMED)

    def closed(self) -> None:
        """Note that the upstream has ended its stream."""
        self.reusable = False
        if self.state is State.BODY and self._until_close:
            self._end()
        elif self.state is State.WAITING:
            self._break(Break.NO_ANSWER)
        elif self.state is State.HEAD:
            self._break(Break.IN_HEAD)
        elif self.state is State.BODY:
            self._break(Break.IN_BODY)

    def abandon(self) -> None:
        """Nobody wants the answer any more."""
        self._sink = None
        self.reusable = False
        self.state = State.BROKEN

    def _break(self, how: Break) -> None:
        self.reusable = False
        if self.state in {State.IDLE, State.BROKEN}:
            return
        if self.state is State.BODY:
            how = Break.IN_BODY
        self.state = State.BROKEN
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.answer_broken(how)

    def _end(self) -> None:
        self.state = State.IDLE
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.answer_ended()

    def on_message_begin(self) -> None:
        """(httptools) A new answer."""
        self._headers = []
        self._reason = b""
        self._length = None
        self._until_close = True
        if self.state is not State.HEAD:  # behind the answer that was asked for
            self.reusable = False

    def on_status(self, reason: bytes) -> None:
        """(httptools) A piece of the reason phrase."""
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """(httptools) A whole header, or a trailer."""
        if self.state is State.HEAD:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """(httptools) The head is complete."""
        if self.state is not State.HEAD or self._sink is None:
            return
        try:
            self._head_complete(self._sink)
        except BaseException as fault:
            self._fault = fault
            raise

    def _head_complete(self, sink: AnswerSink) -> None:
        status = self._parser.get_status_code()
        chunked = False
        for name, value in self._headers:
            lower = name.lower()
            if lower == b"content-length":
                self._length = int(value)  # llhttp has checked the digits
            elif lower == b"transfer-encoding":
                if value.strip().lower() != b"chunked":
                    raise _BadAnswer
                chunked = True
        if status < 200:
            if status == 101:
                raise _BadAnswer
            self._first = b""
            sink.interim_received(AnswerHead(status, self._reason, self._headers, None, has_body=False))
            return
        has_body = not (self._head_only or status in _BODILESS)
        self._until_close = has_body and self._length is None and not chunked
        self.state = State.BODY
        self._head = AnswerHead(status, self._reason, self._headers, self._length, has_body=has_body)
        sink.answer_received(self._head)
        if self._head_only:
            # The parser waits for a body that never comes: this answer is over, and so is the parser.
            self.reusable = self.reusable and self._parser.should_keep_alive()
            self._parser = httptools.HttpResponseParser(self)
            self._end()

    def on_body(self, data: bytes) -> None:
        """(httptools) A piece of the body."""
        if self.state is not State.BODY or self._sink is None:
            self.reusable = False
            return
        try:
            self._sink.answer_body_received(data)
        except BaseException as fault:
            self._fault = fault
            raise

    def on_message_complete(self) -> None:
        """(httptools) The answer, or an interim one, is complete."""
        if self.state is State.BODY:
            if not self._parser.should_keep_alive():
                self.reusable = False
            self._learn()
            self._end()

    def _learn(self) -> None:
        """Remember the head, if its bytes say all there is to know of the answer."""
        head, first = self._head, self._first
        if first and self.reusable and head is not None and head.has_body and head.content_length is not None:
            end = first.find(b"\r\n\r\n") + 4
            if len(first) == end + head.content_length:
                self._heads.learn(first[:end], head)


class _BadAnswer(Exception):
    """An answer with a framing that we do not read."""
