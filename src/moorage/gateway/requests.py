"""The requests of one client connection, without input and output: bytes in, requests out.

httptools (llhttp in strict mode) parses; it refuses bare LF, folded headers, both framings at once and equal double
lengths. What it lets through and must not pass is refused here: a missing or double ``Host``, transfer codings
other than ``chunked``, protocol switches, other versions, request lines of RTSP and ICE or with more than one space,
heads without an end. Whoever sits behind us must never
see a request that could be read in two ways.
"""

from collections.abc import Sequence
from typing import Protocol

import httptools

from moorage.gateway.head_form import HeadForm

HEAD_BYTES = 65_536
"""Largest request line with headers, and largest run of bytes of framing without a byte of body."""

HEADER_COUNT = 200

_SINGLE = frozenset({"content-length", "host", "authorization", "transfer-encoding", "expect"})


class BadRequest(Exception):
    """A request that cannot be answered in its own terms; the connection is closed after the answer."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class RequestHead:
    """Request line and headers, as they were on the wire; the defaults are those of a plain POST."""

    method: str = "POST"
    query: str = ""
    version: str = "1.1"
    """``1.0`` or ``1.1``."""
    keep_alive: bool = True
    content_length: int = 0
    """0 when the body is chunked or absent."""
    chunked: bool = False
    expects_continue: bool = False
    raw_headers: Sequence[tuple[bytes, bytes]] = ()
    form: HeadForm | None = None
    """What the head was read by, if it was read quickly (``quick``)."""
    values: Sequence[bytes] = ()
    """Target and headers' values, as ``form`` knows them."""

    def __init__(self, target: str, headers: Sequence[tuple[str, str]] | None) -> None:
        """``headers`` are None when ``form`` and ``values`` have them."""
        self.target = target
        """Raw path with query, latin-1."""
        self.path = target
        """Without the query, still percent-encoded."""
        self._headers = headers
        self._fields: dict[str, str] | None = None

    def __repr__(self) -> str:
        return f"<RequestHead: {self.method} {self.target}, {len(self.headers)} headers>"

    @property
    def headers(self) -> Sequence[tuple[str, str]]:
        """Names in lower case, values latin-1, in order."""
        if self._headers is None:
            texts = [value.decode("latin-1") for value in self.values[1:]]
            self._headers = list(zip(self.form.names, texts, strict=True)) if self.form else ()
        return self._headers

    @property
    def fields(self) -> dict[str, str]:
        """The headers by name in lower case; of a repeated one the first."""
        if self._fields is None:
            self._fields = dict(reversed(self.headers))
        return self._fields


class RequestSink(Protocol):
    """Who is told what was read."""

    def head_received(self, head: RequestHead) -> None:
        """Take the head of a new request."""

    def body_received(self, data: bytes) -> None:
        """Take a piece of the body, without its framing."""

    def request_ended(self) -> None:
        """Note that the request whose head came last is complete."""


class RequestReader:
    """Reads the requests of one connection, one after the other."""

    __slots__ = (
        "_begun",
        "_fault",
        "_framing_bytes",
        "_headers",
        "_keeps_alive",
        "_last",
        "_left",
        "_line_known",
        "_parser",
        "_piece",
        "_searched",
        "_sink",
        "_url",
        "between",
        "in_head",
    )

    def __init__(self, sink: RequestSink) -> None:
        self._sink = sink
        self._parser = httptools.HttpRequestParser(self)
        self._framing_bytes = 0
        self._last = False
        self._keeps_alive = True
        self._left = 0
        """Bytes of a body of known length that are still to come; the parser, which copies, is not shown them."""
        self._fault: BaseException | None = None
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._piece = b""
        self._searched = 0
        """How far in the present piece request lines have been found."""
        self._begun = bytearray()
        """What came of a request line before the present piece."""
        self._line_known = True
        self.in_head = False
        """Whether a head has begun and is not complete."""
        self.between = True
        """Whether the next byte would be the first of a request."""

    def feed(self, data: bytes) -> None:
        """Read bytes; raises BadRequest, after which nothing more may be fed."""
        if self._left:
            data = self._feed_body(data)
        if self._last or not data:
            return
        self.between = False
        self._framing_bytes += len(data)
        self._piece, self._searched = data, 0
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            raise BadRequest("Moorage speaks HTTP/1.1 only; ask without Upgrade.") from None
        except httptools.HttpParserCallbackError as fault:
            raise (self._fault or fault) from None
        except httptools.HttpParserError as fault:
            if self._last:  # bytes behind the last request of the connection
                return
            raise BadRequest(f"The request is not valid HTTP/1.1: {fault}.") from None
        if self._framing_bytes > HEAD_BYTES:
            raise BadRequest("The head of the request is too large.", 431)
        if not self._line_known:
            self._begun += data

    def _feed_body(self, data: bytes) -> bytes:
        """Pass on what belongs to the body that is being read; gives the rest."""
        size = len(data)
        rest = b""
        if size > self._left:
            data, rest = data[: self._left], data[self._left :]
            size = self._left
        self._left -= size
        self._sink.body_received(data)
        if not self._left:
            self._parser = httptools.HttpRequestParser(self)  # the old one waits for the body
            self._end(keeps_alive=self._keeps_alive)
        return rest

    def on_message_begin(self) -> None:
        """(httptools) A new request."""
        self._url = b""
        self._headers = []
        self._line_known = False
        self.in_head = True
        self.between = False

    def on_url(self, url: bytes) -> None:
        """(httptools) A piece of the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """(httptools) A whole header, or a trailer."""
        if self.in_head:
            if not self._line_known:
                self._check_line()
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """(httptools) The head is complete."""
        self.in_head = False
        arrived, self._framing_bytes = self._framing_bytes, 0
        parser = self._parser
        try:
            if not self._line_known:
                self._check_line()
            if parser.should_upgrade():
                raise BadRequest("Moorage speaks HTTP/1.1 only; ask without Upgrade and CONNECT.")  # noqa: TRY301
            head = make_head(
                parser.get_method(),
                self._url,
                self._headers,
                parser.get_http_version(),
                keep_alive=parser.should_keep_alive(),
            )
            if not 0 < arrived <= HEAD_BYTES:  # several requests in one piece, or a large piece: count exactly
                _check_size(self._url, self._headers)
            self._last = False
            self._left, self._keeps_alive = head.content_length, head.keep_alive
            self._sink.head_received(head)
        except BaseException as fault:
            self._fault = fault
            raise

    def _check_line(self) -> None:
        """Refuse a request line that is not written as HTTP has it: the parser reads other protocols too."""
        parser = self._parser
        line = b"%b %b HTTP/%b\r\n" % (parser.get_method(), self._url, parser.get_http_version().encode())
        piece = bytes(self._begun) + self._piece if self._begun else self._piece
        found = piece.find(line, self._searched)
        if found < 0:
            self._fault = BadRequest("The request line is not that of HTTP/1.1.")
            raise self._fault
        self._searched = max(0, found + len(line) - len(self._begun))
        self._begun.clear()
        self._line_known = True

    def on_body(self, data: bytes) -> None:
        """(httptools) A piece of the body."""
        self._framing_bytes = 0
        if self._left:
            self._left -= len(data)
        try:
            self._sink.body_received(data)
        except BaseException as fault:
            self._fault = fault
            raise

    def on_message_complete(self) -> None:
        """(httptools) The request is complete."""
        try:
            self._end(keeps_alive=self._parser.should_keep_alive())
        except BaseException as fault:
            self._fault = fault
            raise

    def _end(self, *, keeps_alive: bool) -> None:
        self._framing_bytes = self._left = 0
        self.between = True
        self._last = not keeps_alive
        self._sink.request_ended()


def make_head(
    method: bytes,
    target: bytes,
    raw_headers: list[tuple[bytes, bytes]],
    version: str,
    *,
    keep_alive: bool,
) -> RequestHead:
    """Check what the parser has let through and make a head of it; raises BadRequest."""
    if version not in {"1.1", "1.0"}:
        raise BadRequest("Moorage speaks HTTP/1.1 and HTTP/1.0.", 505)
    if len(raw_headers) > HEADER_COUNT:
        raise BadRequest("The head of the request is too large.", 431)
    if not target.startswith(b"/"):
        raise BadRequest("The request's target must be a path.")
    headers = [(name.lower().decode("latin-1"), value.decode("latin-1")) for name, value in raw_headers]
    single: dict[str, str] = {}
    for name, value in headers:
        if name in _SINGLE:
            if name in single:
                raise BadRequest("A header that may occur only once occurs twice.")
            single[name] = value
    if "host" not in single and version == "1.1":
        raise BadRequest("The request has no Host header.")
    coding = single.get("transfer-encoding")
    if coding is not None and (coding.strip().lower() != "chunked" or version == "1.0"):
        raise BadRequest("The only Transfer-Encoding of Moorage is chunked, of HTTP/1.1.")
    if coding is not None and "content-length" in single:
        raise BadRequest("The request has both Content-Length and Transfer-Encoding.")
    head = RequestHead(target.decode("latin-1"), headers)
    head.path, _, head.query = head.target.partition("?")
    head.method = method.decode("ascii")
    head.raw_headers = raw_headers
    head.version = version
    head.keep_alive = keep_alive
    head.content_length = _length(single.get("content-length"))
    head.chunked = coding is not None
    head.expects_continue = version == "1.1" and single.get("expect", "").lower() == "100-continue"
    return head


def _length(text: str | None) -> int:
    if text is None:
        return 0
    text = text.strip()
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise BadRequest("Content-Length is not a length.")
    return int(text)


def _check_size(target: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    if len(target) + sum(len(name) + len(value) + 4 for name, value in headers) > HEAD_BYTES:
        raise BadRequest("The head of the request is too large.", 431)
