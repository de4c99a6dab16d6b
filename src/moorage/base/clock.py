"""Time is passed in. Nobody else imports ``time``."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Where a room gets the time from."""

    def now(self) -> float:
        """Give the wall-clock time in seconds since the epoch."""

    def monotonic(self) -> float:
        """Give seconds that never jump, for deadlines."""

    async def sleep_until(self, deadline: float) -> None:
        """Wait until ``monotonic()`` has reached the deadline; returns at once when it has."""


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        """Give the wall-clock time in seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Give seconds that never jump, for deadlines."""
        return time.monotonic()

    async def sleep_until(self, deadline: float) -> None:
        """Wait until ``monotonic()`` has reached the deadline."""
        await asyncio.sleep(max(0.0, deadline - time.monotonic()))

    def pause(self, seconds: float) -> None:
        """Wait, in a program that has no event loop."""
        time.sleep(seconds)
