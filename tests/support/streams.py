"""Streams as clients read them: frames through botocore's decoder, and instances that stream by a script."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from botocore.eventstream import EventStreamBuffer, EventStreamMessage
from tests.support.gateway import Answer, Request, Script

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """Make a chunk as a container sends it."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def streams(*chunks: bytes, head: bytes = HEAD, end: bytes = END, closes: bool = False) -> Script:
    """Make a script that sends chunks; what is not ended stays open unless it closes."""

    async def script(_: Request, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head + b"".join(map(chunk, chunks)) + end)
        if closes:
            writer.close()

    return script


@dataclass
class Stepwise:
    """An instance's script that sends the next piece only when the test says so."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """The gateway has closed the connection."""
    _writer: asyncio.StreamWriter | None = None

    async def __call__(self, _: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.begun.set()
        try:
            await reader.read()
        finally:
            self.ended.set()

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        await self.begun.wait()
        assert self._writer is not None
        self._writer.write(data)
        await self._writer.drain()

    def close(self) -> None:
        """End the connection as a container that dies does."""
        assert self._writer is not None
        self._writer.transport.abort()


@dataclass
class Told:
    """What a client was told by a stream."""

    parts: list[bytes] = field(default_factory=list)
    fault: tuple[str, dict[str, str]] | None = None
    """Exception type and members; nothing may follow it."""

    @property
    def body(self) -> bytes:
        return b"".join(self.parts)


def decode(stream: bytes) -> Told:
    """Read the frames of a whole stream; fails where botocore would."""
    buffer = EventStreamBuffer()
    told = Told()
    for message in _messages(buffer, stream):
        assert told.fault is None, "something follows the exception"
        if message.headers[":message-type"] == "event":
            assert message.headers[":event-type"] == "PayloadPart"
            told.parts.append(message.payload)
        else:
            assert message.headers[":message-type"] == "exception"
            told.fault = (message.headers[":exception-type"], json.loads(message.payload))
    assert not buffer._data, "half a frame"
    return told


def _messages(buffer: EventStreamBuffer, stream: bytes) -> Iterator[EventStreamMessage]:
    for start in range(0, len(stream), 65_536):  # botocore copies all that it has with each message
        buffer.add_data(stream[start : start + 65_536])
        yield from buffer


def told_by(answer: Answer) -> Told:
    """Read the stream of an answer."""
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "application/vnd.amazon.eventstream"
    return decode(answer.body)


async def read_head(reader: asyncio.StreamReader) -> bytes:
    """Read up to the body of an answer."""
    return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)


async def read_chunk(reader: asyncio.StreamReader) -> bytes:
    """Read one chunk of an answer; empty: the last."""
    async with asyncio.timeout(10):
        size = int(await reader.readline(), 16)
    data = await reader.readexactly(size)
    assert await reader.readexactly(2) == b"\r\n"
    return data


async def read_rest(reader: asyncio.StreamReader) -> bytes:
    """Read all chunks that are left; the answer must end as it should."""
    chunks: list[bytes] = []
    while data := await read_chunk(reader):
        chunks.append(data)
    return b"".join(chunks)
