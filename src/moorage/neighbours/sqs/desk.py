"""What the operations of SQS share: the store, the bells that wake who waits, and finding the queue of a URL."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from sqlalchemy import Connection

from moorage.base.clock import Clock
from moorage.base.ids import Ids
from moorage.neighbours.json_app import Call
from moorage.neighbours.sqs import rows
from moorage.neighbours.sqs.faults import invalid_value, no_queue
from moorage.neighbours.sqs.rows import Queue, QueueKey
from moorage.state.store import Store


class Bells:
    """Wakes those who wait for a queue's messages, when one has come or will be seen again sooner."""

    def __init__(self) -> None:
        self._waiting: defaultdict[QueueKey, set[asyncio.Event]] = defaultdict(set)

    def ring(self, key: QueueKey) -> None:
        """Wake all who wait."""
        for event in self._waiting.get(key, ()):
            event.set()

    @contextlib.contextmanager
    def listening(self, key: QueueKey) -> Iterator[asyncio.Event]:
        """Give an event that is set when the bell rings."""
        event = asyncio.Event()
        self._waiting[key].add(event)
        try:
            yield event
        finally:
            self._waiting[key].discard(event)
            if not self._waiting[key]:
                del self._waiting[key]


@dataclass(frozen=True, slots=True)
class Desk:
    """What the operations use."""

    store: Store
    clock: Clock
    ids: Ids
    bells: Bells = field(default_factory=Bells)


def url_of(call: Call, key: QueueKey) -> str:
    """Give a queue's URL, at the host that the caller knows."""
    return f"{call.url}/{key.account}/{key.name}"


def arn_of(key: QueueKey) -> str:
    """Give a queue's ARN."""
    return f"arn:aws:sqs:{key.region}:{key.account}:{key.name}"


def key_of(call: Call, url: str, action: str) -> QueueKey:
    """Read a queue's URL, of whatever host, and ask whether the caller may do this; a queue is its account's alone."""
    account, _, name = url.rstrip("/").rpartition("/")
    account = account.rpartition("/")[2]
    if not name or not account:
        raise invalid_value("QueueUrl", url[:200], "It is not the URL of a queue.")
    key = QueueKey(account, call.region, name)
    call.require(f"sqs:{action}", arn_of(key))
    if account != call.account:
        raise no_queue()
    return key


def find(connection: Connection, key: QueueKey) -> Queue:
    """Find a queue, or say that there is none."""
    if (queue := rows.find(connection, key)) is None:
        raise no_queue()
    return queue
