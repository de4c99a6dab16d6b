"""Talks to a Docker daemon: HTTP/1.1 at its socket, a connection for each request.

A dozen kinds of requests are all that the engine has, three of which stay open for as long as a container lives. Here
each of those is a connection in the event loop; of the libraries, ``docker`` would take a thread for it, and
``aiodocker`` brings a second HTTP client (docs/design/dependencies.md).
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

import httptools
import orjson

from moorage.engine.docker.daemon import Daemon

CALL_SECONDS = 60.0
"""For an answer to a call that should be quick: creating and starting a container on a busy machine."""

_JSON = "application/json"
_ARCHIVE = "application/x-tar"
"""What a body of bytes is; all others are made JSON."""

_PIECE_BYTES = 2**16
_FAULT_BYTES = 2**16
"""Of a daemon's error text."""


class DaemonGone(Exception):
    """The daemon does not answer, or has broken off; the text is for people."""


class DaemonRefused(Exception):
    """The daemon says no; the text is its own."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Api:
    """The API of one daemon."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon

    async def call(  # noqa: PLR0913 - the parts of a request
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        seconds: float | None = CALL_SECONDS,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Ask and give the answer's JSON, None where it has none. Raises DaemonGone, DaemonRefused.

        ``seconds``: for the whole answer; None: for as long as it takes.
        """
        opening = self.stream(method, path, query=query, body=body, headers=headers, seconds=None)
        try:
            async with asyncio.timeout(seconds), opening as pieces:
                content = b"".join([piece async for piece in pieces])
        except TimeoutError as fault:
            raise DaemonGone(f"{self.daemon} gave no answer in {seconds:g} seconds") from fault
        try:
            return orjson.loads(content) if content.strip() else None
        except ValueError as fault:
            raise DaemonGone(f"{self.daemon} gave an answer that cannot be read") from fault

    @contextlib.asynccontextmanager
    async def stream(  # noqa: PLR0913 - the parts of a request
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        seconds: float | None = CALL_SECONDS,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Ask, and have the answer's body as it comes; ``seconds``: until it begins.

        Raises DaemonRefused, and DaemonGone also while it is read.
        """
        target = f"/v{self.daemon.api}{path}" + (f"?{urlencode(query)}" if query else "")
        content = body if body is None or isinstance(body, bytes) else orjson.dumps(body)
        kind = {} if content is None else {"Content-Type": _ARCHIVE if content is body else _JSON}
        request = make_request(method, target, content, {**kind, **(headers or {})})
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(seconds):
                reader, writer = await self._connect()
                writer.write(request)
                answer = _Answer(reader, self.daemon)
                await answer.read_head()
                if answer.status >= HTTPStatus.BAD_REQUEST:
                    raise DaemonRefused(answer.status, await _refusal(answer))
            yield answer.pieces()
        except TimeoutError as fault:
            raise DaemonGone(f"{self.daemon} gave no answer in {seconds} seconds") from fault
        except OSError as fault:
            raise DaemonGone(f"{self.daemon} is gone: {fault}") from fault
        finally:
            if writer is not None:
                writer.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        address = self.daemon.address
        if address.path:
            return await asyncio.open_unix_connection(address.path)
        return await asyncio.open_connection(address.host, address.port)

    def __repr__(self) -> str:
        return f"<Api of {self.daemon}>"


def make_request(method: str, target: str, body: bytes | None, headers: Mapping[str, str]) -> bytes:
    """Make the bytes of a request."""
    lines = [f"{method} {target} HTTP/1.1", "Host: docker", "User-Agent: moorage", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body is not None or method == "POST":
        lines += [f"Content-Length: {len(body or b'')}"]
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


async def _refusal(answer: "_Answer") -> str:
    content = b""
    async for piece in answer.pieces():
        content += piece
        if len(content) > _FAULT_BYTES:
            break
    try:
        said = orjson.loads(content)
        return str(said.get("message") or said.get("cause"))
    except (ValueError, AttributeError):
        return content.decode(errors="replace").strip() or f"status {answer.status}"


class _Answer:
    """The answer to one request; httptools' callbacks are the ``on_`` methods."""

    def __init__(self, reader: asyncio.StreamReader, daemon: Daemon) -> None:
        self.status = 0
        self._reader = reader
        self._daemon = daemon
        self._parser = httptools.HttpResponseParser(self)
        self._pieces: list[bytes] = []
        self._has_head = False
        self._complete = False
        self._has_end = False

    def on_header(self, name: bytes, _value: bytes) -> None:
        self._has_end = self._has_end or name.lower() in {b"transfer-encoding", b"content-length"}

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self._has_head = True

    def on_body(self, piece: bytes) -> None:
        self._pieces.append(piece)

    def on_message_complete(self) -> None:
        self._complete = True

    async def read_head(self) -> None:
        """Read up to the body."""
        while not self._has_head:
            if not await self._read():
                raise DaemonGone(f"{self._daemon} broke off before it answered")

    async def pieces(self) -> AsyncIterator[bytes]:
        """Give the body; one without a length ends with the connection."""
        while True:
            pieces, self._pieces = self._pieces, []
            for piece in pieces:
                yield piece
            if self._complete:
                return
            if not await self._read():
                if self._has_end:
                    raise DaemonGone(f"{self._daemon} broke off in the middle of its answer")
                return

    async def _read(self) -> bool:
        data = await self._reader.read(_PIECE_BYTES)
        if not data:
            return False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as fault:
            raise DaemonGone(f"{self._daemon} gave an answer that is not HTTP: {fault}") from fault
        return True
