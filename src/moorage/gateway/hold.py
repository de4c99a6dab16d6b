"""Invocations that wait for capacity that is on its way: bounded in number here, in time by their own deadlines.

Who waits is asked again when something has changed that may help: all of an endpoint when there is a new snapshot or
an instance takes connections again, one when an invocation has ended and left a place. So a whole queue is never
dumped on the first instance that is ready: each decides anew, and what finds everything full goes on waiting.
"""

from typing import Protocol

_ASKED_FOR_ONE_PLACE = 16
"""Who waits behind so many that could not use the place is not asked for it."""


class Held(Protocol):
    """Who waits."""

    def try_again(self) -> bool:
        """Go on if that is possible now; True: it no longer waits, and has left."""


class Hold:
    """The waiting invocations of one gateway, by their endpoint's ARN, in the order in which they came."""

    def __init__(self, most: int) -> None:
        """Make it empty; ``most`` is for each endpoint."""
        self._most = most
        self._waiting: dict[str, dict[Held, None]] = {}

    def __repr__(self) -> str:
        return f"<Hold: {len(self)} waiting at {len(self._waiting)} endpoints>"

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    @property
    def occupied(self) -> bool:
        """Whether anybody waits."""
        return bool(self._waiting)

    def enter(self, arn: str, held: Held) -> bool:
        """Let an invocation wait; False when as many wait as may."""
        waiting = self._waiting.setdefault(arn, {})
        if len(waiting) >= self._most:
            return False
        waiting[held] = None
        return True

    def leave(self, arn: str, held: Held) -> None:
        """Note that an invocation waits no longer."""
        waiting = self._waiting.get(arn)
        if waiting is not None:
            waiting.pop(held, None)
            if not waiting:
                del self._waiting[arn]

    def release_one(self, arn: str) -> None:
        """Give a place that has become free to the first who can use it."""
        for held in list(self._waiting.get(arn, ()))[:_ASKED_FOR_ONE_PLACE]:
            if held.try_again():
                return

    def release_all(self) -> None:
        """Ask everybody again."""
        for waiting in list(self._waiting.values()):
            for held in list(waiting):
                held.try_again()
