"""Events of endpoints: recorded with what they tell of, listed, followed.

``Recorder`` is the store's witness: whoever changes an endpoint, in whatever operation or loop, has the event written
in the same transaction. ``EventFeed`` answers ``GET /_moorage/events``.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection

from moorage.base.clock import Clock
from moorage.base.ids import Ids
from moorage.control.node_link import NodeLink
from moorage.control.planning import summary
from moorage.control.publish import Publisher
from moorage.state import endpoints, events, instances, tags
from moorage.state.events import Mark, Retention
from moorage.state.records import EndpointKey, Kind, ResourceKey
from moorage.state.store import Store
from moorage.telemetry.changes import Moment, changes, is_news, notice
from moorage.telemetry.courier import Courier

LONGEST_WAIT_SECONDS = 5.0
"""A client that follows asks again after so long: no stop of the server waits for it longer."""
MOST_EVENTS = 1000
"""In one answer."""
_MOST_WAITING = 200
"""Clients that wait at the same time; further ones are answered at once."""


class Recorder:
    """Writes what has changed about endpoints into the journal."""

    def __init__(self, node: NodeLink, publisher: Publisher, clock: Clock, ids: Ids, keep: Retention) -> None:
        self._node = node
        self._publisher = publisher
        self._clock = clock
        self._ids = ids
        self._keep = keep
        self._told: dict[EndpointKey, Mark] = {}

    def witness(self, connection: Connection, changed: frozenset[EndpointKey]) -> None:
        """Record what a transaction has changed, before it ends; runs in the writer's thread."""
        for key in sorted(changed):
            self.record(connection, key)

    def record(self, connection: Connection, key: EndpointKey) -> None:
        """Record what has changed about one endpoint since the last time."""
        before = events.read_mark(connection, key)
        moment = Moment(key, round(self._clock.now(), 3), self._ids.request_id)
        described = self._describe(connection, key)
        labels = tags.read(connection, ResourceKey(key.account, key.region, Kind.ENDPOINT, key.name))
        after, documents = changes(before, described, labels, moment)
        if after != before:
            events.write_mark(connection, key, after)
        events.append(connection, key, moment.now, documents, self._keep)
        if after is None:
            self._told.pop(key, None)
        else:
            self._told[key] = after

    def tell(self, connection: Connection, key: EndpointKey, messages: Iterable[str]) -> None:
        """Record what people should know of an endpoint."""
        moment = Moment(key, round(self._clock.now(), 3), self._ids.request_id)
        events.append(connection, key, moment.now, [notice(text, moment) for text in messages], self._keep)

    def is_news(self, key: EndpointKey, described: Mapping[str, Any]) -> bool:
        """Say whether an endpoint is no longer what was last told of it, without looking into the store."""
        return is_news(self._told.get(key), described)

    def _describe(self, connection: Connection, key: EndpointKey) -> Mapping[str, Any] | None:
        if (endpoint := endpoints.find(connection, key)) is None:
            return None
        recorded = instances.of_endpoint(connection, key)
        # Both are read from another thread: each gives a value that the event loop replaces whole.
        reports = self._node.reports_of(key) if self._node.known else None
        return summary.describe(endpoint, recorded, reports, self._publisher.route_of(key))


class EventFeed:
    """Answers those who list events or wait for new ones."""

    def __init__(self, store: Store, clock: Clock, courier: Courier | None) -> None:
        self._store = store
        self._clock = clock
        self._courier = courier
        self._bell = asyncio.Event()
        self._waiting = 0
        self._closed = False
        store.listen(lambda _changed: self._ring())

    def __repr__(self) -> str:
        return f"<EventFeed: {self._waiting} waiting>"

    def close(self) -> None:
        """Let nobody wait any longer."""
        self._closed = True
        self._ring()

    def _ring(self) -> None:
        bell, self._bell = self._bell, asyncio.Event()
        bell.set()

    async def read(
        self, place: tuple[str, str], *, after: int, endpoint: str | None, limit: int, wait_seconds: float
    ) -> dict[str, Any]:
        """Give the events after a position; when there are none yet, wait for some."""
        deadline = self._clock.monotonic() + min(wait_seconds, LONGEST_WAIT_SECONDS)
        while True:
            bell = self._bell

            def look(connection: Connection) -> dict[str, Any]:
                return _read(connection, place, after, endpoint, limit)

            found = await self._store.read(look)
            left = deadline - self._clock.monotonic()
            if found["events"] or left <= 0 or self._closed or self._waiting >= _MOST_WAITING:
                newest = found.pop("newest")
                return {**found, "webhook": self._courier.status(newest) if self._courier is not None else None}
            self._waiting += 1
            try:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await bell.wait()
            finally:
                self._waiting -= 1


def _read(
    connection: Connection, place: tuple[str, str], after: int, endpoint: str | None, limit: int
) -> dict[str, Any]:
    found = events.read_after_of(connection, after, limit, place, endpoint)
    newest = events.newest_position(connection)
    return {
        "events": [{"position": record.position, "event": record.document} for record in found],
        # Where to go on: behind the last one shown, or behind all when nothing was left out.
        "position": found[-1].position if len(found) == limit else max(newest, after),
        "gone": max(0, events.oldest_position(connection) - 1 - after),
        "newest": newest,
    }
