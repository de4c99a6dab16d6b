"""Messages between two processes of one machine: one JSON object a line over a Unix socket, both ways.

Used where HTTP would be in the way: the control plane tells node agents what to do and gateways how to route, and
hears what they observe. A link that breaks is made anew by the side that calls; whoever answers says everything
again from the start, so nothing has to be remembered across a break.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson

Message = dict[str, Any]

_LINE_BYTES = 64 * 2**20


class LinkClosed(ConnectionError):
    """The other side has gone; what was sent and not answered may or may not have been done."""


class Link:
    """One end of an open link."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, message: Message) -> None:
        """Send one message; raises LinkClosed when the other side has gone."""
        try:
            self._writer.write(orjson.dumps(message) + b"\n")
            await self._writer.drain()
        except (ConnectionError, RuntimeError) as fault:
            raise LinkClosed(str(fault)) from fault

    async def messages(self) -> AsyncIterator[Message]:
        """Give the other side's messages until it goes."""
        while True:
            try:
                line = await self._reader.readline()
            except (ConnectionError, ValueError):
                return
            if not line.endswith(b"\n"):
                return
            yield orjson.loads(line)

    async def receive(self) -> Message:
        """Give the next message; raises LinkClosed when there will be none."""
        async for message in self.messages():
            return message
        raise LinkClosed("the other side has closed the link")

    async def close(self) -> None:
        """Close this end."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


async def connect(path: Path) -> Link:
    """Call the process that listens at a socket; raises ConnectionError or FileNotFoundError."""
    return Link(*await asyncio.open_unix_connection(path, limit=_LINE_BYTES))


async def take(connected: socket.socket) -> Link:
    """Speak on a socket that is connected: one end of a pair."""
    return Link(*await asyncio.open_unix_connection(sock=connected, limit=_LINE_BYTES))


async def listen(path: Path, serve: Callable[[Link], Awaitable[None]]) -> asyncio.Server:
    """Answer calls at a socket, replacing what a dead process left there; each call is given to ``serve``."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(reader, writer)
        try:
            await serve(link)
        except asyncio.CancelledError:  # the process ends; the streams of Python 3.11 would show it as a failure
            pass
        finally:
            await link.close()

    path.unlink(missing_ok=True)  # noqa: ASYNC240 - one system call, once in a life
    return await asyncio.start_unix_server(answer, path, limit=_LINE_BYTES)
