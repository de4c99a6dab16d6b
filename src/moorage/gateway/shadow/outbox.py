"""Gathers copies for a moment, and sends them one after the other.

To write to the socket of a process that sleeps costs several times what it costs while that process is awake: the
core where it sleeps has to be interrupted. So the process that gets the copies is woken once for many. Nobody waits
for a copy, so a thousandth of a second more or less does not matter; production's requests wait for nothing.
"""

import asyncio

from moorage.gateway.upstream import UpstreamConnection

GATHER_SECONDS = 0.001
"""From the first copy to the sending of all that have come since."""

MOST_GATHERED = 32
"""Copies; with so many they are sent after this turn of the event loop."""


class Outbox:
    """The copies of a gateway that are about to be sent."""

    __slots__ = ("_timer", "_unsent")

    def __init__(self) -> None:
        self._unsent: list[tuple[UpstreamConnection, bytes]] = []
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Outbox: {len(self._unsent)} to send>"

    def add(self, connection: UpstreamConnection, request: bytes) -> None:
        """Send a request in a moment, unless its connection is closed by then."""
        unsent = self._unsent
        unsent.append((connection, request))
        if len(unsent) == 1:
            self._timer = asyncio.get_running_loop().call_later(GATHER_SECONDS, self._send)
        elif len(unsent) == MOST_GATHERED:
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        unsent, self._unsent = self._unsent, []
        for connection, request in unsent:
            connection.send_now(request)
