"""Carries events to a webhook: each at least once, in order, across restarts.

The journal itself is the back-log, so it is bounded, and how far the webhook has come is a cursor in the same
database. An event that the receiver does not take holds up those behind it; it is tried again after growing delays,
until it has been tried for a day or has left the journal. What is given up is counted.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from sqlalchemy import Connection

from moorage.base.clock import Clock
from moorage.state import events
from moorage.state.events import Cursor, EventRecord
from moorage.state.store import Store
from moorage.telemetry.webhook import NotDelivered

log = logging.getLogger(__name__)

CONSUMER = "webhook"

_AT_ONCE = 100
"""Events in memory."""
_FIRST_DELAY_SECONDS = 1.0
_LONGEST_DELAY_SECONDS = 60.0
_GIVE_UP_SECONDS = 86_400.0
"""EventBridge tries for a day as well (control-plane.md section 11)."""

Post = Callable[[bytes], Awaitable[None]]
"""Delivers a document; raises NotDelivered."""


def delay_after(failures: int) -> float:
    """Give the seconds between the last of so many failures in a row and the next attempt."""
    return min(_FIRST_DELAY_SECONDS * 2.0 ** min(failures - 1, 32), _LONGEST_DELAY_SECONDS)


def gives_up(record: EventRecord, now: float) -> bool:
    """Say whether an event that has just not been taken has been tried for long enough."""
    return now >= record.recorded_at + _GIVE_UP_SECONDS


class Courier:
    """The way to one webhook."""

    def __init__(self, store: Store, clock: Clock, post: Post, origin: str) -> None:
        self._store = store
        self._clock = clock
        self._post = post
        self._origin = origin
        self._news = asyncio.Event()
        self._cursor = Cursor(0, 0)
        self._failures = 0
        self._last_failure: str | None = None
        store.listen(lambda _changed: self._news.set())

    def __repr__(self) -> str:
        return f"<Courier: to {self._origin}, at {self._cursor.position}, {self._cursor.dropped} dropped>"

    def status(self, newest: int) -> dict[str, Any]:
        """Tell how it goes; ``newest`` is the journal's last position."""
        return {
            "origin": self._origin,
            "position": self._cursor.position,
            "waiting": max(0, newest - self._cursor.position),
            "dropped": self._cursor.dropped,
            "failures_in_a_row": self._failures,
            "last_failure": self._last_failure,
        }

    async def run(self) -> None:
        """Carry events, for ever."""
        self._cursor = await self._store.transact(_begin)
        while True:
            self._news.clear()
            waiting = await self._store.read(self._read_next)
            if not waiting:
                await self._news.wait()
            for record in waiting:
                await self._carry(record)

    def _read_next(self, connection: Connection) -> list[EventRecord]:
        return events.read_after(connection, self._cursor.position, _AT_ONCE)

    async def _carry(self, record: EventRecord) -> None:
        """Deliver one event, or give it up."""
        # Positions have no gaps: what lies between has left the journal before its turn came.
        lost = record.position - self._cursor.position - 1
        if lost:
            log.warning("webhook %s: %d events left the journal before they were taken", self._origin, lost)
        taken = await self._deliver(record)
        await self._move(Cursor(record.position, self._cursor.dropped + lost + (not taken)))

    async def _deliver(self, record: EventRecord) -> bool:
        document = orjson.dumps(record.document)
        while True:
            try:
                await self._post(document)
            except NotDelivered as fault:
                self._note_failure(str(fault))
            else:
                self._failures, self._last_failure = 0, None
                return True
            if gives_up(record, self._clock.now()) or await self._has_left(record):
                log.warning("webhook %s: event %d is given up", self._origin, record.position)
                return False
            await self._clock.sleep_until(self._clock.monotonic() + delay_after(self._failures))

    def _note_failure(self, reason: str) -> None:
        if not self._failures:
            log.warning("webhook: %s; it will be tried again", reason)
        self._failures += 1
        self._last_failure = reason

    async def _has_left(self, record: EventRecord) -> bool:
        return record.position < await self._store.read(events.oldest_position)

    async def _move(self, cursor: Cursor) -> None:
        await self._store.transact(lambda connection: events.write_cursor(connection, CONSUMER, cursor))
        self._cursor = cursor


def _begin(connection: Connection) -> Cursor:
    """Give the place to go on from; a webhook that is new hears of what happens from now on."""
    if (cursor := events.read_cursor(connection, CONSUMER)) is None:
        cursor = Cursor(events.newest_position(connection), 0)
        events.write_cursor(connection, CONSUMER, cursor)
    return cursor
