"""Queues and their messages in the store: tables and statements. Times are seconds since the epoch.

message     visible_at        handle
─────────   ───────────────   ──────────────────────────────────────────────
waiting     in the past       of whoever had it last, if anybody
delayed     in the future     None
in flight   in the future     of whoever has it; another look makes another
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import (
    JSON,
    Column,
    Connection,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    and_,
    delete,
    func,
    insert,
    select,
    update,
)

from moorage.neighbours.sqs.attributes import with_defaults

METADATA = MetaData()

QUEUES = Table(
    "queues",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("account", String, nullable=False),
    Column("region", String, nullable=False),
    Column("name", String, nullable=False),
    Column("attributes", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("modified_at", Float, nullable=False),
)

MESSAGES = Table(
    "messages",
    METADATA,
    Column("number", Integer, primary_key=True),
    Column("queue", Integer, nullable=False),
    Column("message_id", String, nullable=False),
    Column("sender", String, nullable=False),
    Column("body", String, nullable=False),
    Column("attributes", JSON, nullable=False),
    Column("system", JSON, nullable=False),
    Column("sent_at", Float, nullable=False),
    Column("visible_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("receives", Integer, nullable=False),
    Column("first_received_at", Float),
    Column("handle", String),
)

STEPS = (
    (
        1,
        (
            """
            CREATE TABLE queues (
                id INTEGER PRIMARY KEY,
                account VARCHAR NOT NULL,
                region VARCHAR NOT NULL,
                name VARCHAR NOT NULL,
                attributes JSON NOT NULL,
                created_at FLOAT NOT NULL,
                modified_at FLOAT NOT NULL,
                UNIQUE (account, region, name)
            )
            """,
            """
            CREATE TABLE messages (
                number INTEGER PRIMARY KEY,
                queue INTEGER NOT NULL,
                message_id VARCHAR NOT NULL,
                sender VARCHAR NOT NULL,
                body VARCHAR NOT NULL,
                attributes JSON NOT NULL,
                system JSON NOT NULL,
                sent_at FLOAT NOT NULL,
                visible_at FLOAT NOT NULL,
                expires_at FLOAT NOT NULL,
                receives INTEGER NOT NULL,
                first_received_at FLOAT,
                handle VARCHAR
            )
            """,
            "CREATE INDEX messages_by_visibility ON messages (queue, visible_at)",
            "CREATE INDEX messages_by_handle ON messages (handle)",
            "CREATE INDEX messages_by_end ON messages (expires_at)",
        ),
    ),
)
"""What makes the store (``state.migrations``)."""


class QueueKey(NamedTuple):
    """What identifies a queue for those who use it."""

    account: str
    region: str
    name: str


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue as it is recorded."""

    id: int
    """None is given twice: the messages of a deleted queue are not those of one that is named like it."""
    key: QueueKey
    attributes: Mapping[str, str]
    created_at: float
    modified_at: float


@dataclass(frozen=True, slots=True)
class Message:
    """A message that somebody has received."""

    message_id: str
    handle: str
    sender: str
    body: str
    attributes: Mapping[str, Any]
    system: Mapping[str, Any]
    sent_at: float
    receives: int
    first_received_at: float


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that is to be put into a queue."""

    message_id: str
    sender: str
    body: str
    attributes: Mapping[str, Any]
    system: Mapping[str, Any]
    delay_seconds: float | None
    """None: as long as the queue has it."""


def find(connection: Connection, key: QueueKey) -> Queue | None:
    """Give a queue."""
    columns = QUEUES.c
    same = and_(columns.account == key.account, columns.region == key.region, columns.name == key.name)
    row = connection.execute(select(QUEUES).where(same)).mappings().first()
    return None if row is None else Queue(row["id"], key, row["attributes"], row["created_at"], row["modified_at"])


def add(connection: Connection, key: QueueKey, attributes: Mapping[str, str], now: float) -> None:
    """Make a queue."""
    last = connection.execute(select(func.max(QUEUES.c.id))).scalar() or 0
    orphan = connection.execute(select(func.max(MESSAGES.c.queue))).scalar() or 0
    values = {**key._asdict(), "attributes": dict(attributes), "created_at": now, "modified_at": now}
    connection.execute(insert(QUEUES).values(id=max(last, orphan) + 1, **values))


def change(connection: Connection, queue: Queue, attributes: Mapping[str, str], now: float) -> None:
    """Give a queue other attributes."""
    values = {"attributes": dict(attributes), "modified_at": now}
    connection.execute(update(QUEUES).where(QUEUES.c.id == queue.id).values(**values))


def remove(connection: Connection, queue: Queue) -> None:
    """Delete a queue and its messages."""
    purge(connection, queue)
    connection.execute(delete(QUEUES).where(QUEUES.c.id == queue.id))


def purge(connection: Connection, queue: Queue) -> None:
    """Delete a queue's messages."""
    connection.execute(delete(MESSAGES).where(MESSAGES.c.queue == queue.id))


def names(connection: Connection, after: QueueKey, *, prefix: str, limit: int) -> list[str]:
    """Give the names of an account's queues, in order, that begin with a prefix and come after a name."""
    column = QUEUES.c.name
    mine = and_(QUEUES.c.account == after.account, QUEUES.c.region == after.region)
    wanted = and_(mine, column.startswith(prefix, autoescape=True), column > after.name)
    return list(connection.execute(select(column).where(wanted).order_by(column).limit(limit)).scalars())


def put(connection: Connection, queue: Queue, sent: Sent, now: float) -> None:
    """Put a message into a queue, which keeps it for its retention period."""
    settings = with_defaults(queue.attributes)
    delay = float(settings["DelaySeconds"]) if sent.delay_seconds is None else sent.delay_seconds
    connection.execute(
        insert(MESSAGES).values(
            queue=queue.id,
            message_id=sent.message_id,
            sender=sent.sender,
            body=sent.body,
            attributes=dict(sent.attributes),
            system=dict(sent.system),
            sent_at=now,
            visible_at=now + delay,
            expires_at=now + float(settings["MessageRetentionPeriod"]),
            receives=0,
        )
    )


def next_visible_at(connection: Connection, queue: Queue, now: float) -> float | None:
    """Say when a queue's next message can be received, which may be in the past; None: there is none."""
    columns = MESSAGES.c
    living = and_(columns.queue == queue.id, columns.expires_at > now)
    first = select(columns.visible_at).where(living).order_by(columns.visible_at).limit(1)
    found: float | None = connection.execute(first).scalar()
    return found


def take(
    connection: Connection, queue: Queue, handles: Sequence[str], visibility_seconds: float, now: float
) -> list[Message]:
    """Take as many messages as there are handles, if there are; nobody else sees them for a time."""
    columns = MESSAGES.c
    due = and_(columns.queue == queue.id, columns.visible_at <= now, columns.expires_at > now)
    oldest = select(MESSAGES).where(due).order_by(columns.visible_at, columns.number).limit(len(handles))
    taken = []
    for row, handle in zip(connection.execute(oldest).mappings().all(), handles, strict=False):
        first = row["first_received_at"] or now
        changed = {"handle": handle, "visible_at": now + visibility_seconds, "first_received_at": first}
        receives = row["receives"] + 1
        connection.execute(update(MESSAGES).where(columns.number == row["number"]).values(receives=receives, **changed))
        kept = {name: row[name] for name in ("message_id", "sender", "body", "attributes", "system", "sent_at")}
        taken.append(Message(handle=handle, receives=receives, first_received_at=first, **kept))
    return taken


def drop(connection: Connection, queue: Queue, handle: str) -> None:
    """Delete a message, if it was received last with this handle."""
    connection.execute(delete(MESSAGES).where(MESSAGES.c.handle == handle, MESSAGES.c.queue == queue.id))


def show_again(connection: Connection, queue: Queue, handle: str, seconds: float, now: float) -> bool:
    """Let a message in flight be seen after a time; False when it is not in flight with this handle."""
    columns = MESSAGES.c
    mine = and_(columns.handle == handle, columns.queue == queue.id, columns.visible_at > now)
    return connection.execute(update(MESSAGES).where(mine).values(visible_at=now + seconds)).rowcount > 0


def counts(connection: Connection, queue: Queue, now: float) -> tuple[int, int, int]:
    """Count a queue's messages that wait, are in flight and are delayed."""
    columns = MESSAGES.c
    living = and_(columns.queue == queue.id, columns.expires_at > now)
    hidden = and_(living, columns.visible_at > now)

    def count(*conditions: Any) -> int:
        return connection.execute(select(func.count()).select_from(MESSAGES).where(*conditions)).scalar_one()

    waiting = count(living, columns.visible_at <= now)
    return waiting, count(hidden, columns.handle.is_not(None)), count(hidden, columns.handle.is_(None))


def sweep(connection: Connection, now: float) -> int:
    """Delete the messages that nobody has taken for as long as their queue keeps them; gives how many."""
    return connection.execute(delete(MESSAGES).where(MESSAGES.c.expires_at <= now)).rowcount
