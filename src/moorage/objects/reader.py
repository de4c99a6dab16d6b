"""An opened object of a folder store."""

import os
from collections.abc import AsyncIterator
from functools import partial

from moorage.objects.store import ObjectInfo
from moorage.objects.workshop import PIECE_BYTES, Workshop


class FileReader:
    """Reads a blob through a descriptor of its own, so that it can be removed meanwhile."""

    def __init__(self, info: ObjectInfo, descriptor: int, workshop: Workshop) -> None:
        self._info = info
        self._descriptor = descriptor
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
            piece = await self._workshop.work(
                partial(os.pread, self._descriptor, min(PIECE_BYTES, stop - position), position)
            )
            if not piece:
                raise OSError(f"the file of {self._info.key!r} is shorter than its index says")
            position += len(piece)
            yield piece

    async def close(self) -> None:
        """Let it go."""
        await self._workshop.work(partial(os.close, self._descriptor))
