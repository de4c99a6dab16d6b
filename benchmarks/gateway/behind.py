"""Servers behind for what nginx's ``return`` cannot do: one reads whole bodies, one answers in pieces.

Run as a program: ``python -m benchmarks.gateway.behind PORT whole|pieces``.
"""

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import httptools
import uvloop

from benchmarks.gateway.machine import Server, free_port, started

PIECES, PAUSE_SECONDS = 3, 0.001


@contextlib.contextmanager
def behind(core: int, how: str) -> Iterator[Server]:
    """Have one: ``whole`` or ``pieces``."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="bench-behind-") as folder:
        command = [sys.executable, "-m", "benchmarks.gateway.behind", str(port), how]
        with started("upstream", command, core=core, port=port, log=Path(folder) / "log") as server:
            yield server


class _Connection(asyncio.Protocol):
    """Reads a request to its end and answers."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Answer at once."""
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\nContent-Length: 2\r\n\r\n0\n")


class _InPieces(_Connection):
    """Sends the first piece at once, the others later."""

    def on_message_complete(self) -> None:
        """Begin the answer."""
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")
        self._send(PIECES)

    def _send(self, left: int) -> None:
        if left:
            self._transport.write(b"6\r\ntoken \r\n")
            asyncio.get_running_loop().call_later(PAUSE_SECONDS, self._send, left - 1)
        else:
            self._transport.write(b"0\r\n\r\n")


async def _serve(port: int, make: type[_Connection]) -> None:
    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", port, backlog=4_096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), {"whole": _Connection, "pieces": _InPieces}[sys.argv[2]]))
