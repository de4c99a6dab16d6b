"""The node agent's side of a process that was forked from a zygote (``serving/embryo.py`` is the other side).

It waits for its order, and is an instance from then on.
"""

import array
import asyncio
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from moorage.engine.child import Child

ANSWER_SECONDS = 20.0
"""For it to take its order: less than a millisecond, unless the machine is out of memory."""


class Embryo(Child):
    """One such process."""

    def __init__(self, pid: int, channel: socket.socket, zygote_gone: "asyncio.Future[None]") -> None:
        """``channel`` is this end of the process's: when it is closed, one without an order ends."""
        super().__init__(pid)
        self.zygote_gone = zygote_gone
        """The zygote that it comes from has ended; one that has its order lives on."""
        self._channel = channel

    async def give(self, order: Mapping[str, Any], descriptors: Sequence[int]) -> None:
        """Let it become what the order says; returns when it has it.

        Raises OSError: a ConnectionError when it ended before, and then nothing of the order was done.
        """
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        self._channel.sendmsg([orjson.dumps(order)], rights)
        async with asyncio.timeout(ANSWER_SECONDS):
            if not await asyncio.get_running_loop().sock_recv(self._channel, 1):
                raise ConnectionAbortedError("the process ended before it had its order")

    def reap(self) -> int:
        """Take note of the dead process's exit code, and let go of it."""
        self._channel.close()
        return super().reap()
