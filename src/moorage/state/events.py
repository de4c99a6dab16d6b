"""The journal of events, in order and bounded; what was last told of each endpoint; how far a consumer has come.

A position is a number that is given once and never again, also after the events of all smaller ones have gone: who
has come to position 7 asks for what comes after 7.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, or_, select, update

from moorage.state.records import EndpointKey
from moorage.state.tables import EVENT_CURSORS, EVENT_MARKS, EVENTS

_JOURNAL = "journal"


@dataclass(frozen=True, slots=True)
class EventRecord:
    """One event as it is kept."""

    position: int
    recorded_at: float
    document: Mapping[str, Any]
    """EventBridge's envelope."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What was last told of an endpoint."""

    status: str
    deployment: Mapping[str, Any]
    """VariantStatus by variant."""
    detail: Mapping[str, Any]
    """Detail of the last event about the endpoint's status."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a consumer has come."""

    position: int
    """Of the last event that it has taken or given up."""
    dropped: int
    """How many it has given up, ever."""


@dataclass(frozen=True, slots=True)
class Retention:
    """What is kept of the journal; the newest event always is."""

    count: int
    seconds: float


def append(
    connection: Connection, key: EndpointKey, now: float, documents: Sequence[Mapping[str, Any]], keep: Retention
) -> None:
    """Write events at the end and let go of what is too much or too old."""
    if not documents:
        return
    before = newest_position(connection)
    newest = before + len(documents)
    connection.execute(update(EVENT_CURSORS).where(EVENT_CURSORS.c.consumer == _JOURNAL).values(position=newest))
    place = {"account": key.account, "region": key.region, "endpoint": key.name, "recorded_at": now}
    rows = [{**place, "position": before + n, "document": document} for n, document in enumerate(documents, start=1)]
    connection.execute(insert(EVENTS), rows)
    too_old = and_(EVENTS.c.recorded_at < now - keep.seconds, EVENTS.c.position < newest)
    connection.execute(delete(EVENTS).where(or_(EVENTS.c.position <= newest - max(1, keep.count), too_old)))


def newest_position(connection: Connection) -> int:
    """Give the last position that was given; 0 before the first."""
    return read_cursor(connection, _JOURNAL).position  # type: ignore[union-attr]  # made with the table


def oldest_position(connection: Connection) -> int:
    """Give the position of the oldest event that is kept; that of the next event when none is."""
    found = connection.execute(select(func.min(EVENTS.c.position))).scalar()
    return found if found is not None else newest_position(connection) + 1


def read_after(connection: Connection, position: int, limit: int) -> list[EventRecord]:
    """Give the events after a position, of all accounts, oldest first."""
    return _read(connection, EVENTS.c.position > position, limit)


def read_after_of(
    connection: Connection, position: int, limit: int, place: tuple[str, str], endpoint: str | None
) -> list[EventRecord]:
    """Give the events after a position of one account and region, and of one endpoint if it is named."""
    columns = EVENTS.c
    wanted = and_(columns.position > position, columns.account == place[0], columns.region == place[1])
    if endpoint is not None:
        wanted = and_(wanted, columns.endpoint == endpoint)
    return _read(connection, wanted, limit)


def _read(connection: Connection, wanted: ColumnElement[bool], limit: int) -> list[EventRecord]:
    columns = EVENTS.c
    statement = select(columns.position, columns.recorded_at, columns.document).where(wanted)
    return [EventRecord(*row) for row in connection.execute(statement.order_by(columns.position).limit(limit))]


def read_cursor(connection: Connection, consumer: str) -> Cursor | None:
    """Say how far a consumer has come; None when it has never been heard of."""
    columns = EVENT_CURSORS.c
    statement = select(columns.position, columns.dropped).where(columns.consumer == consumer)
    row = connection.execute(statement).first()
    return Cursor(*row) if row is not None else None


def write_cursor(connection: Connection, consumer: str, cursor: Cursor) -> None:
    """Note how far a consumer has come."""
    connection.execute(delete(EVENT_CURSORS).where(EVENT_CURSORS.c.consumer == consumer))
    connection.execute(insert(EVENT_CURSORS).values(consumer=consumer, **asdict(cursor)))


def _at(key: EndpointKey) -> ColumnElement[bool]:
    columns = EVENT_MARKS.c
    return and_(columns.account == key.account, columns.region == key.region, columns.endpoint == key.name)


def read_mark(connection: Connection, key: EndpointKey) -> Mark | None:
    """Give what was last told of an endpoint; None when nothing was."""
    columns = EVENT_MARKS.c
    statement = select(columns.status, columns.deployment, columns.detail).where(_at(key))
    row = connection.execute(statement).first()
    return Mark(*row) if row is not None else None


def write_mark(connection: Connection, key: EndpointKey, mark: Mark | None) -> None:
    """Note what was last told of an endpoint; None: it is gone."""
    connection.execute(delete(EVENT_MARKS).where(_at(key)))
    if mark is not None:
        place = {"account": key.account, "region": key.region, "endpoint": key.name}
        connection.execute(insert(EVENT_MARKS).values(**place, **asdict(mark)))
