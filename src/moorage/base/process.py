"""What every process of Moorage does alike: its loop, its log, its end."""

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable

import uvloop


def run_process(role: str, main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run one process until it is told to stop.

    ``main`` is given an event that SIGTERM sets; it then ends in good order and returns. SIGINT is ignored: Ctrl-C
    reaches the whole process group, but only the supervisor decides in which order its processes stop.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=f"%(asctime)s {role}: %(message)s", force=True)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    uvloop.run(_until_stopped(main))


async def _until_stopped(main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await main(stop)
