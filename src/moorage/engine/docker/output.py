"""What a container writes to stdout and stderr: the daemon's frames, made into lines of one log.

A frame is a byte for the stream, three of zero, four for the length, and so many bytes (Docker Engine API,
ContainerAttach). Lines of the two streams do not run into each other; one that is too long is cut.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Iterator

log = logging.getLogger(__name__)

_HEAD_BYTES = 8
_LINE_BYTES = 2**16
"""What a program writes without an end of line goes to the log in pieces of this size."""


class Lines:
    """Takes pieces of the daemon's stream, gives whole lines."""

    def __init__(self) -> None:
        self._unread = b""
        self._begun: dict[int, bytes] = {}

    def take(self, piece: bytes) -> bytes:
        """Give the lines that a piece has completed."""
        self._unread += piece
        return b"".join(self._complete(kind, content) for kind, content in self._frames())

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        while len(self._unread) >= _HEAD_BYTES:
            end = _HEAD_BYTES + int.from_bytes(self._unread[4:_HEAD_BYTES], "big")
            if len(self._unread) < end:
                return
            frame, self._unread = self._unread[:end], self._unread[end:]
            yield frame[0], frame[_HEAD_BYTES:]

    def _complete(self, kind: int, content: bytes) -> bytes:
        whole, newline, begun = (self._begun.pop(kind, b"") + content).rpartition(b"\n")
        lines = whole + newline
        if len(begun) >= _LINE_BYTES:
            return lines + begun + b"\n"
        if begun:
            self._begun[kind] = begun
        return lines

    def rest(self) -> bytes:
        """Give what was begun and never ended, each with an end of line."""
        begun, self._begun = self._begun, {}
        return b"".join(line + b"\n" for line in begun.values())


async def write_output(pieces: AsyncIterator[bytes], descriptor: int) -> None:
    """Write what a container says to its log, until it is silent for ever; a log that takes no more is let be."""
    lines = Lines()
    try:
        async for piece in pieces:
            await _write(descriptor, lines.take(piece))
    finally:
        await _write(descriptor, lines.rest())


async def _write(descriptor: int, content: bytes) -> None:
    # In a thread: the log may be a pipe, and whoever empties it may be in this process.
    while content:
        try:
            written = await asyncio.to_thread(os.write, descriptor, content)
        except OSError as fault:
            log.warning("output of a container is lost: %s", fault)
            return
        content = content[written:]
