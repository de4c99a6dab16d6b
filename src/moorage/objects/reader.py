"""An opened object of a folder store."""

import os
from collections.abc import AsyncIterator, Iterator
from functools import partial

from moorage.kms.frames import HEAD_BYTES, FrameOpener
from moorage.objects.store import ObjectInfo
from moorage.objects.workshop import PIECE_BYTES, Workshop


class BlobBytes:
    """The content of a blob's file, decrypted when it is encrypted. Blocks."""

    def __init__(self, descriptor: int, size: int, data_key: bytes | None) -> None:
        """``size`` is that of the content; without a data key the file is the content."""
        self._descriptor = descriptor
        self._opener = None
        if data_key is not None:
            self._opener = FrameOpener(data_key, os.pread(descriptor, HEAD_BYTES, 0), size)

    def read(self, start: int, end: int) -> bytes:
        """Give some of it, less or nothing when the file is too short; raises InvalidCiphertext."""
        if self._opener is None:
            return os.pread(self._descriptor, end - start, start)
        first, behind = self._opener.span(start, end)
        return self._opener.open(os.pread(self._descriptor, behind - first, first), start, end)


class FileReader:
    """Reads a blob through a descriptor of its own, so that it can be removed meanwhile."""

    def __init__(self, info: ObjectInfo, descriptor: int, content: BlobBytes, workshop: Workshop) -> None:
        self._info = info
        self._descriptor = descriptor
        self._content = content
        self._workshop = workshop

    @property
    def info(self) -> ObjectInfo:
        """What is being read."""
        return self._info

    async def chunks(self, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Give the bytes from ``start`` up to and without ``end``, a bounded piece at a time."""
        position = start
        stop = self._info.size if end is None else min(end, self._info.size)
        while position < stop:
            piece = await self._workshop.work(partial(self._content.read, position, min(position + PIECE_BYTES, stop)))
            if not piece:
                raise OSError(f"the file of {self._info.key!r} is shorter than its index says")
            position += len(piece)
            yield piece

    async def close(self) -> None:
        """Let it go."""
        await self._workshop.work(partial(os.close, self._descriptor))


def read_pieces(descriptor: int, size: int, data_key: bytes | None) -> Iterator[bytes]:
    """Give the whole content of a blob's file, a bounded piece at a time. Blocks."""
    content, position = BlobBytes(descriptor, size, data_key), 0
    while piece := content.read(position, min(position + PIECE_BYTES, size)):
        position += len(piece)
        yield piece
