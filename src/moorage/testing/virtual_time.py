"""An event loop whose time is a number: when nothing can happen before the next timer, it jumps there.

Everything must run in this one loop: a thread or another process is not seen, and time would jump past it. When all
wait and there is no timer, nothing can ever happen again: that is a ``Deadlock``, raised instead of a test that hangs.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_EPOCH = 1_700_000_000.0


class Deadlock(RuntimeError):
    """Everything waits, and nothing will ever happen."""


class _JumpingSelector(selectors.DefaultSelector):
    """Moves the time on instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Give what is ready now; when nothing is, jump to the next timer."""
        ready: list[tuple[selectors.SelectorKey, int]] = super().select(0)
        if not ready:
            if timeout is None:
                raise Deadlock("everything waits, and there is no timer")
            self.now += max(0.0, timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """The event loop of virtual time, which starts at 0."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Give the virtual time in seconds."""
        return self._jumping.now


class VirtualClock:
    """A clock that shows the running loop's virtual time."""

    def now(self) -> float:
        """Give the wall-clock time in seconds since the epoch."""
        return _EPOCH + self.monotonic()

    def monotonic(self) -> float:
        """Give the seconds since the loop was made."""
        return asyncio.get_running_loop().time()

    async def sleep_until(self, deadline: float) -> None:
        """Wait until ``monotonic()`` has reached the deadline."""
        await asyncio.sleep(max(0.0, deadline - self.monotonic()))


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
