"""HTTP/1.1 requests out of bytes and answers into bytes. Pure: no sockets here.

The one who calls is the gateway, over a private socket: a small strict parser is enough, and it costs a few
microseconds. What is ambiguous (two lengths, a folded header, a length and chunks) is refused, never guessed.
"""

from __future__ import annotations

import functools
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

HEAD_BYTES = 64 * 1024
"""Largest request line with headers."""

BODY_BYTES = 2**31
"""Largest body. The gateway's limit is far below; this one only keeps a wrong length from filling the memory."""

Pieces = Generator[bytes, None, None]

_CHUNK_LINE_BYTES = 4096
_KNOWN_HEADS = 256
_KNOWN_HEAD_BYTES = 2048
"""The gateway sends the same heads again and again; so many, no longer than this, are read only once."""

_LONGEST_LENGTH = 20
_ONCE = frozenset({"content-length", "transfer-encoding", "host", "expect"})
_OF_THE_FRAMING = frozenset({"content-length", "transfer-encoding", "expect"})
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
    query: str = ""
    """What follows the question mark, as it came."""


def bytes_of(request: Request) -> bytes:
    """Make the bytes of a request that has been read, for another reader."""
    target = f"{request.path}?{request.query}" if request.query else request.path
    lines = [f"{request.method} {target} HTTP/1.{int(request.reads_chunks)}"]
    lines += [f"{name}: {value}" for name, value in request.headers.items() if name not in _OF_THE_FRAMING]
    lines += [f"content-length: {len(request.body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + request.body


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
    if keep_alive and answer.pieces is None and not answer.headers:
        start = _start_of_head(answer.status, answer.content_type)
        return b"%b%d\r\n\r\n" % (start, len(answer.body)) if start else _any_head_of(answer, keep_alive=True)
    return _any_head_of(answer, keep_alive=keep_alive, in_chunks=in_chunks)


@functools.lru_cache(maxsize=_KNOWN_HEADS)
def _start_of_head(status: int, content_type: str) -> bytes:
    """Make the bytes before the length of a body; empty where there is none."""
    head = _any_head_of(Answer(status, content_type, b""), keep_alive=True)
    start, length, _end = head.rpartition(b"\r\nContent-Length: ")
    return start + length if length else b""


def _any_head_of(answer: Answer, *, keep_alive: bool, in_chunks: bool = False) -> bytes:
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
        self._head: _Head | None = None
        """Of the request whose body is still coming."""
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

    def begins_with(self, start: bytes) -> bool | None:
        """Say whether the next request begins with these bytes; None: one is under way, or too little has come."""
        if self._head is not None:
            return None
        buffer = self._buffer
        if buffer.startswith(start):
            return True
        return None if start.startswith(buffer) else False

    def peek_line(self) -> bytes:
        """Give the first line of the next request, without its end; empty while not all of it has come."""
        if self._head is not None:
            return b""
        self._skip_empty_lines()
        return self._buffer.partition(b"\r\n")[0] if b"\r\n" in self._buffer else b""

    def peek_all(self) -> bytes:
        """Give the bytes of a next request that have come."""
        return self._buffer

    def take_back(self) -> bytes:
        """Give the bytes of a next request that have come, for another reader."""
        data, self._buffer = self._buffer, b""
        return data

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
        head = self._head
        if head is None:
            return None
        if head.length == len(self._buffer) and not self._pieces:  # nearly always
            body: bytes | None = self._buffer
            self._buffer, self._missing = b"", 0
        else:
            body = self._rest_of_body()
        if body is None:
            return None
        self._head, self._chunks = None, None
        self.wants_continue = False
        return Request(head.method, head.path, head.headers, body, head.keep_alive, head.reads_chunks, head.query)

    def _begin(self) -> bool:
        """Read a head; says whether there was a whole one."""
        if self._buffer[:2] == b"\r\n":
            self._skip_empty_lines()
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or end > HEAD_BYTES:
            if len(self._buffer) > HEAD_BYTES:
                raise Refused(431, "The request's headers are too large.")
            return False
        known = end <= _KNOWN_HEAD_BYTES
        head = _read_known_head(self._buffer[:end]) if known else _read_head(self._buffer[:end])
        self._buffer = self._buffer[end + 4 :]
        self._head = head
        if head.length is None:
            self._chunks = _Chunks()
        else:
            self._missing = head.length
        self.wants_continue = head.waits and not self._buffer and head.length != 0
        return True

    def _skip_empty_lines(self) -> None:
        if self._buffer[:2] == b"\r\n":  # RFC 9112 2.2: an empty line before a request is to be ignored
            self._buffer = self._buffer.lstrip(b"\r\n")

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


@dataclass(frozen=True)
class _Head:
    """What stands before a body."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    keep_alive: bool
    reads_chunks: bool
    length: int | None
    """Of the body; None: it comes in chunks."""
    waits: bool
    """For ``100 Continue``."""


def _read_head(data: bytes) -> _Head:
    """Read a head without the empty line at its end; raises Refused."""
    line, *lines = data.decode("latin-1").split("\r\n")
    words = line.split(" ")
    if len(words) != 3 or words[2] not in {"HTTP/1.1", "HTTP/1.0"} or not words[1].startswith("/"):
        raise Refused(400, "The first line is not that of an HTTP/1.1 request.")
    headers = _read_headers(lines)
    wish = headers.get("connection", "").lower()
    path, _, query = words[1].partition("?")
    return _Head(
        method=words[0],
        path=path,
        query=query,
        headers=headers,
        keep_alive=wish == "keep-alive" if words[2] == "HTTP/1.0" else "close" not in wish,
        reads_chunks=words[2] == "HTTP/1.1",
        length=_body_length(headers),
        waits=headers.get("expect", "").lower() == "100-continue",
    )


_read_known_head = functools.lru_cache(maxsize=_KNOWN_HEADS)(_read_head)


def _read_headers(lines: Sequence[str]) -> dict[str, str]:
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
    return headers


def _body_length(headers: Mapping[str, str]) -> int | None:
    """Give the length of the body that follows, None for one in chunks; raises Refused."""
    length = headers.get("content-length")
    coding = headers.get("transfer-encoding")
    if coding is not None:
        if length is not None or coding.lower() != "chunked":
            raise Refused(400, "The request's body has no clear length.")
        return None
    if length is None:
        return 0
    if not (length.isascii() and length.isdigit()):
        raise Refused(400, "Content-Length is not a number.")
    if len(length) >= _LONGEST_LENGTH or int(length) > BODY_BYTES:
        raise Refused(413, "The request's body is too large.")
    return int(length)


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
