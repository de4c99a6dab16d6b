"""Posts a document to a URL: one request a connection, over asyncio's streams, with a deadline for the whole of it.

Nothing is followed and nothing of the answer is kept but its status: a receiver that sends without end costs no more
than one that sends nothing.
"""

import asyncio
import contextlib
import ssl
from urllib.parse import urlsplit

_SECONDS = 10.0
"""From the look-up of the name to the status line."""
_LONGEST_LINE = 8192


class NotDelivered(Exception):
    """The receiver has not said that it has the document; it may have it nevertheless."""


class Webhook:
    """Where documents are posted to."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        self._authority = parts.netloc
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self.origin = f"{parts.scheme}://{parts.netloc}"
        """Without the path, which may hold a secret."""

    def __repr__(self) -> str:
        return f"<Webhook: {self.origin}>"

    async def post(self, document: bytes) -> None:
        """Post JSON; raises NotDelivered unless the receiver answers 2xx."""
        try:
            async with asyncio.timeout(_SECONDS):
                status = await self._exchange(document)
        except TimeoutError as fault:
            raise NotDelivered(f"{self.origin} gave no answer within {_SECONDS:g} s") from fault
        except (OSError, ValueError, asyncio.IncompleteReadError) as fault:
            raise NotDelivered(f"{self.origin} cannot be reached: {fault or type(fault).__name__}") from fault
        if not 200 <= status < 300:
            raise NotDelivered(f"{self.origin} answered {status}")

    async def _exchange(self, document: bytes) -> int:
        reader, writer = await asyncio.open_connection(self._host, self._port, ssl=self._tls, limit=_LONGEST_LINE)
        try:
            head = (
                f"POST {self._target} HTTP/1.1\r\n"
                f"Host: {self._authority}\r\n"
                "User-Agent: moorage\r\n"
                "Content-Type: application/json\r\n"
                f"Content-Length: {len(document)}\r\n"
                "Connection: close\r\n\r\n"
            )
            writer.write(head.encode("ascii") + document)
            await writer.drain()
            return await _read_status(reader)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                writer.transport.abort()


async def _read_status(reader: asyncio.StreamReader) -> int:
    """Read the status of the final answer; those before it (1xx) are passed over."""
    while True:
        version, _, rest = (await reader.readuntil(b"\n")).decode("latin-1").partition(" ")
        if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
            raise ValueError("its answer is not HTTP/1.1")
        if not rest.startswith("1"):
            return int(rest[:3])
        while (await reader.readuntil(b"\n")).strip():
            pass
