"""Long blocking work in threads that ends soon after whoever waits for it was cancelled."""

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Interrupted(Exception):
    """The work was told to end."""


class Interrupt:
    """Tells work in a thread to end."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Tell it."""
        self._event.set()

    def check(self) -> None:
        """Raise Interrupted if it was told."""
        if self._event.is_set():
            raise Interrupted

    def pause(self, seconds: float) -> None:
        """Wait; raises Interrupted if it was told before or meanwhile."""
        if self._event.wait(seconds):
            raise Interrupted


async def in_thread(work: Callable[[Interrupt], T]) -> T:
    """Do work in a thread; a cancellation tells it to end, and waits for that."""
    interrupt = Interrupt()
    running = asyncio.get_running_loop().run_in_executor(None, work, interrupt)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        interrupt.set()
        await asyncio.gather(running, return_exceptions=True)
        raise
