"""HTTP/1.1 requests out of bytes and answers into bytes. Pure: no sockets here.

The one who calls is the gateway, over a private socket: a small strict parser is enough, and it costs a few
microseconds. What is ambiguous (two lengths, a folded header, a length and chunks) is refused, never guessed.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

HEAD_BYTES = 64 * 1024
"""Largest request line with headers."""

BODY_BYTES = 2**31
"""Largest body. The gateway's limit is far below; this one only keeps a wrong length from filling the memory."""

Pieces = Generator[bytes, None, None]

_CHUNK_LINE_BYTES = 4096
_ONCE = frozenset({"content-length", "transfer-encoding", "host", "expect"})
_BODILESS_STATUS = frozenset({204, 304})


class Refused(Exception):
    """Bytes that are not a request; the connection is closed after the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass
class Request:
    """A whole request."""

    method: str
    path: str
    """Without the query."""
    headers: Mapping[str, str]
    """By lower-case name; values of a repeated header joined by a comma."""
    body: bytes
    keep_alive: bool
    reads_chunks: bool = True
    """The client speaks HTTP/1.1: a body of unknown length can be sent to it in chunks."""


@dataclass
class Answer:
    """A whole answer, or the beginning of one that is still being made."""

    status: int
    content_type: str
    body: bytes
    headers: Sequence[tuple[str, str]] = field(default=())
    pieces: Pieces | None = None
    """What follows ``body``, as it is made; no piece is empty. None: nothing."""


LAST_CHUNK = b"0\r\n\r\n"


def chunk_of(piece: bytes) -> bytes:
    """Make a chunk of a piece of a body (RFC 9112 7.1)."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def plain(status: int, message: str) -> Answer:
    """Make an answer of one plain line."""
    return Answer(status, "text/plain; charset=utf-8", message.encode("utf-8", "replace"))


def head_of(answer: Answer, *, keep_alive: bool, in_chunks: bool = False) -> bytes:
    """Make the bytes before the body; without ``in_chunks`` the end of an unfinished answer is the connection's."""
    lines = [f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, 'Status')}"]
    if answer.content_type:
        lines.append(f"Content-Type: {answer.content_type}")
    if in_chunks:
        lines.append("Transfer-Encoding: chunked")
    elif answer.pieces is None and answer.status not in _BODILESS_STATUS:
        lines.append(f"Content-Length: {len(answer.body)}")
    lines.extend(f"{name}: {value}" for name, value in answer.headers)
    if not keep_alive:
        lines.append("Connection: close")
    lines.append("\r\n")
    return "\r\n".join(lines).encode("latin-1")


_REASONS = {status.value: status.phrase for status in HTTPStatus}


class RequestReader:
    """Bytes in, whole requests out, in whatever pieces the bytes come."""

    def __init__(self) -> None:
        self._buffer = b""
        self._head: Request | None = None
        """The request whose body is still coming."""
        self._missing = 0
        """Bytes of a body of known length that have not come."""
        self._pieces: list[bytes] = []
        self._chunks: _Chunks | None = None
        self.wants_continue = False
        """The client waits for ``100 Continue``; whoever sends it sets this back."""

    @property
    def idle(self) -> bool:
        """Nothing of a next request has come."""
        return self._head is None and not self._buffer

    @property
    def in_body(self) -> bool:
        """A head has come and its body has not, so that large reads pay."""
        return self._head is not None

    def feed(self, data: bytes) -> None:
        """Take what was received."""
        if self._missing and not self._buffer and len(data) <= self._missing:
            self._pieces.append(data)
            self._missing -= len(data)
        else:
            self._buffer = self._buffer + data if self._buffer else data

    def next(self) -> Request | None:
        """Give the next whole request, or None when more bytes are needed; raises Refused."""
        if self._head is None and not self._begin():
            return None
        body = self._rest_of_body()
        if body is None:
            return None
        request, self._head, self._chunks = self._head, None, None
        self.wants_continue = False
        if request is not None:
            request.body = body
        return request

    def _begin(self) -> bool:
        """Read a head; says whether there was a whole one."""
        if self._buffer[:2] == b"\r\n":  # RFC 9112 2.2: an empty line before a request is to be ignored
            self._buffer = self._buffer.lstrip(b"\r\n")
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or end > HEAD_BYTES:
            if len(self._buffer) > HEAD_BYTES:
                raise Refused(431, "The request's headers are too large.")
            return False
        request = _parse_head(self._buffer[:end].decode("latin-1"))
        self._buffer = self._buffer[end + 4 :]
        self._head = request
        self._plan_body(request.headers)
        return True

    def _plan_body(self, headers: Mapping[str, str]) -> None:
        length = headers.get("content-length")
        coding = headers.get("transfer-encoding")
        if coding is not None:
            if length is not None or coding.lower() != "chunked":
                raise Refused(400, "The request's body has no clear length.")
            self._chunks = _Chunks()
        elif length is not None:
            if not (length.isascii() and length.isdigit()):
                raise Refused(400, "Content-Length is not a number.")
            self._missing = int(length) if len(length) < 20 else BODY_BYTES + 1
            if self._missing > BODY_BYTES:
                self._missing = 0
                raise Refused(413, "The request's body is too large.")
        waits = headers.get("expect", "").lower() == "100-continue"
        self.wants_continue = waits and not self._buffer and (coding is not None or self._missing > 0)

    def _rest_of_body(self) -> bytes | None:
        if self._chunks is not None:
            self._buffer, body = self._chunks.feed(self._buffer)
            return body
        if self._missing and self._buffer:
            piece = self._buffer[: self._missing]
            self._buffer = self._buffer[len(piece) :]
            self._pieces.append(piece)
            self._missing -= len(piece)
        if self._missing:
            return None
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _parse_head(text: str) -> Request:
    line, *lines = text.split("\r\n")
    words = line.split(" ")
    if len(words) != 3 or words[2] not in {"HTTP/1.1", "HTTP/1.0"} or not words[1].startswith("/"):
        raise Refused(400, "The first line is not that of an HTTP/1.1 request.")
    headers: dict[str, str] = {}
    for entry in lines:
        name, separator, value = entry.partition(":")
        if not separator or not name or " " in name or "\t" in name or "\n" in entry or "\r" in entry:
            raise Refused(400, "A header is malformed.")
        name = name.lower()
        value = value.strip(" \t")
        if name in headers:
            if name in _ONCE:
                raise Refused(400, f"The header {name} is there twice.")
            value = f"{headers[name]}, {value}"
        headers[name] = value
    wish = headers.get("connection", "").lower()
    keep_alive = wish == "keep-alive" if words[2] == "HTTP/1.0" else "close" not in wish
    return Request(words[0], words[1].partition("?")[0], headers, b"", keep_alive, words[2] == "HTTP/1.1")


class _Chunks:
    """A body in chunks (RFC 9112 7.1)."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._missing = 0
        """Of the current chunk, with the two bytes that end it."""
        self._trailers = False

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Take bytes; gives what is left over, and the body once it is whole."""
        position = 0
        while True:
            if self._missing:
                position = self._data(data, position)
                if self._missing:
                    return data[position:], None
            end = data.find(b"\r\n", position)
            if end < 0 or end - position > _CHUNK_LINE_BYTES:
                if len(data) - position > _CHUNK_LINE_BYTES:
                    raise Refused(400, "A line between the chunks of the body is too long.")
                return data[position:], None
            line, position = data[position:end], end + 2
            if not self._trailers:
                self._begin_chunk(line)
            elif not line:
                return data[position:], b"".join(self._pieces)

    def _begin_chunk(self, line: bytes) -> None:
        digits = line.partition(b";")[0].strip(b" \t")
        if not digits or len(digits) > 8 or digits.strip(b"0123456789abcdefABCDEF"):
            raise Refused(400, "The size of a chunk of the body is malformed.")
        size = int(digits, 16)
        self._size += size
        if self._size > BODY_BYTES:
            raise Refused(413, "The request's body is too large.")
        self._trailers = size == 0
        self._missing = size + 2 if size else 0

    def _data(self, data: bytes, position: int) -> int:
        """Take what there is of the current chunk; the bytes that end it only together."""
        if self._missing > 2:
            piece = data[position : position + self._missing - 2]
            if piece:
                self._pieces.append(piece)
                self._missing -= len(piece)
                position += len(piece)
        if self._missing == 2 and len(data) - position >= 2:
            if data[position : position + 2] != b"\r\n":
                raise Refused(400, "A chunk of the body does not end where it should.")
            self._missing = 0
            position += 2
        return position
