"""Asks a container whether it is well: ``GET /ping`` (data-plane.md section 7.4)."""

import asyncio
import contextlib

from moorage.base.dial import connect_through

_REQUEST = b"GET /ping HTTP/1.1\r\nHost: localhost\r\nUser-Agent: moorage\r\nAccept: */*\r\nConnection: close\r\n\r\n"
_LINE_BYTES = 8192


class NoAnswer(Exception):
    """The container refused, broke off or was silent for too long."""


async def ping(address: str, timeout_seconds: float) -> int:
    """Give the HTTP status that the container answers with; raises NoAnswer.

    A container that has its socket and does not accept yet makes the request wait, not fail.
    """
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(timeout_seconds):
            reader, writer = await _connect(address)
            writer.write(_REQUEST)
            line = await reader.readline()
        return parse_status(line)
    except TimeoutError as fault:
        raise NoAnswer(f"/ping gave no answer in {timeout_seconds:g} seconds") from fault
    except (OSError, ValueError) as fault:
        raise NoAnswer(f"/ping was not answered: {fault}") from fault
    finally:
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def _connect(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if address.startswith("unix:"):
        return await asyncio.open_unix_connection(address.removeprefix("unix:"), limit=_LINE_BYTES)
    if address.startswith("dial:"):
        connection = await connect_through(address.removeprefix("dial:"))
        return await asyncio.open_connection(sock=connection, limit=_LINE_BYTES)
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host, int(port), limit=_LINE_BYTES)


def parse_status(line: bytes) -> int:
    """Read the status of ``HTTP/1.1 200 OK``; raises ValueError."""
    words = line.split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/1."):
        raise ValueError("the connection was closed" if not line else "the answer is not HTTP")
    return int(words[1])
