"""Two ends of a link without a socket, for simulations."""

import asyncio
from typing import cast

from moorage.base.link import Link


class _MemoryWriter:
    """Writes into the other end's reader."""

    def __init__(self, other: asyncio.StreamReader, own: asyncio.StreamReader) -> None:
        self._other = other
        self._own = own
        self._closed = False

    def write(self, content: bytes) -> None:
        """Hand over bytes; what is written after the end is lost, as with a socket."""
        if not self._other.at_eof() and not self._closed:
            self._other.feed_data(content)

    async def drain(self) -> None:
        """Fail when the link is closed."""
        if self._closed:
            raise ConnectionResetError("the link is closed")

    def close(self) -> None:
        """Tell both ends that there is no more."""
        if not self._closed:
            self._closed = True
            self._other.feed_eof()
            self._own.feed_eof()

    async def wait_closed(self) -> None:
        """Return at once."""


def join() -> tuple[Link, Link]:
    """Make both ends of a link."""
    here, there = asyncio.StreamReader(), asyncio.StreamReader()
    near = _MemoryWriter(there, here)
    far = _MemoryWriter(here, there)
    return Link(here, cast("asyncio.StreamWriter", near)), Link(there, cast("asyncio.StreamWriter", far))
