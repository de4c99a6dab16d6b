"""Events on their way to a webhook: a real receiver on a socket, a real store, and time that a test moves."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from moorage.base.clock import SystemClock
from moorage.base.tasks import Tasks
from moorage.state import endpoints, events
from moorage.state.events import EventRecord, Retention
from moorage.state.records import EndpointStatus
from moorage.state.store import FileStore, mark_changed
from moorage.telemetry.courier import CONSUMER, Courier, delay_after, gives_up
from moorage.telemetry.webhook import NotDelivered, Webhook
from moorage.testing.builders import an_endpoint

KEY = an_endpoint(status=EndpointStatus.CREATING).key
KEEP = Retention(1000, 1e9)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Receiver:
    """A webhook that answers as it is told to, and then 200 for ever."""

    def __init__(self) -> None:
        self.answers: list[bytes | None] = []
        """None closes the connection without a word."""
        self.heads: list[bytes] = []
        self.received: list[Any] = []
        self.url = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        self.heads.append(head)
        self.received.append(orjson.loads(await reader.readexactly(length)))
        if (answer := self.answers.pop(0) if self.answers else OK) is not None:
            writer.write(answer)
        writer.close()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    server = await asyncio.start_server(made.answer, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook?a=b"
    yield made
    server.close()
    await server.wait_closed()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FileStore]:
    opened = FileStore(tmp_path / "state.db")
    yield opened
    opened.close()


class HastyClock(SystemClock):
    """Remembers what was waited for, and does not wait."""

    def __init__(self, *, ahead: float = 0.0) -> None:
        self.waits: list[float] = []
        self._ahead = ahead

    def now(self) -> float:
        return super().now() + self._ahead

    async def sleep_until(self, deadline: float) -> None:
        self.waits.append(round(deadline - self.monotonic()))
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def carrying(store: FileStore, post: Any, clock: HastyClock | None = None) -> AsyncIterator[Courier]:
    tasks = Tasks()
    courier = Courier(store, clock or HastyClock(), post, "http://hook")
    tasks.start("courier", courier.run())
    await until_async(lambda: store.read(lambda c: events.read_cursor(c, CONSUMER)))
    try:
        yield courier
    finally:
        await tasks.close()


async def until_async(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not await condition():
            await asyncio.sleep(0.005)


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def happen(store: FileStore, *numbers: int, keep: Retention = KEEP) -> None:
    """Have events recorded, each with its number."""
    now = SystemClock().now()

    def work(connection: Any) -> None:
        events.append(connection, KEY, now, [{"number": number} for number in numbers], keep)
        mark_changed(connection, KEY)

    await store.transact(work)


def numbers(receiver: Receiver) -> list[int]:
    return [document["number"] for document in receiver.received]


async def test_events_arrive_in_order_as_json(store: FileStore, receiver: Receiver) -> None:
    async with carrying(store, Webhook(receiver.url).post) as courier:
        await happen(store, 1, 2)
        await happen(store, 3)
        await until(lambda: courier.status(3)["waiting"] == 0)
    assert numbers(receiver) == [1, 2, 3]
    head = receiver.heads[0].decode().lower()
    assert head.startswith("post /hook?a=b http/1.1\r\nhost: 127.0.0.1:")
    assert "\r\ncontent-type: application/json\r\n" in head
    assert courier.status(5) == {
        "origin": "http://hook",
        "position": 3,
        "waiting": 2,
        "dropped": 0,
        "failures_in_a_row": 0,
        "last_failure": None,
    }


async def test_what_is_not_taken_is_sent_again_before_anything_else(store: FileStore, receiver: Receiver) -> None:
    clock = HastyClock()
    receiver.answers = [
        b"HTTP/1.1 500 No\r\n\r\n",
        None,
        b"HTTP/1.1 302 Elsewhere\r\nLocation: http://127.0.0.1:1/\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    ]
    async with carrying(store, Webhook(receiver.url).post, clock) as courier:
        await happen(store, 1, 2)
        await until(lambda: courier.status(2)["waiting"] == 0)
    assert numbers(receiver) == [1, 1, 1, 1, 1, 2]
    assert clock.waits == [1, 2, 4, 8]
    assert courier.status(2)["dropped"] == 0


async def test_position_survives_a_restart(store: FileStore, receiver: Receiver) -> None:
    await happen(store, 1)
    async with carrying(store, Webhook(receiver.url).post) as courier:
        await happen(store, 2)
        await until(lambda: courier.status(2)["waiting"] == 0)
    await happen(store, 3)
    async with carrying(store, Webhook(receiver.url).post) as courier:
        await until(lambda: courier.status(3)["waiting"] == 0)
    # The first one happened before there was a webhook.
    assert numbers(receiver) == [2, 3]


async def test_what_left_the_journal_is_counted_and_the_count_survives(store: FileStore, receiver: Receiver) -> None:
    async with carrying(store, Webhook(receiver.url).post) as courier:
        await happen(store, 1)
        await until(lambda: courier.status(1)["waiting"] == 0)
    await happen(store, 2, 3, 4, 5, keep=Retention(2, 1e9))
    async with carrying(store, Webhook(receiver.url).post) as courier:
        await until(lambda: courier.status(5)["waiting"] == 0)
    assert numbers(receiver) == [1, 4, 5]
    async with carrying(store, Webhook(receiver.url).post) as courier:
        await until(lambda: courier.status(5)["dropped"] == 2)


async def test_event_that_nobody_takes_is_given_up_when_it_leaves_the_journal(
    store: FileStore, receiver: Receiver
) -> None:
    def refuses_the_first() -> Any:
        async def post(document: bytes) -> None:
            if orjson.loads(document)["number"] == 1:
                raise NotDelivered("not this one")
            await Webhook(receiver.url).post(document)

        return post

    async with carrying(store, refuses_the_first()) as courier:
        await happen(store, 1)
        await until(lambda: courier.status(1)["failures_in_a_row"] > 3)
        assert courier.status(1)["last_failure"] == "not this one"
        await happen(store, 2, keep=Retention(1, 1e9))
        await until(lambda: courier.status(2)["waiting"] == 0)
    assert numbers(receiver) == [2]
    assert courier.status(2)["dropped"] == 1


async def test_event_that_nobody_takes_is_given_up_after_a_day(store: FileStore, receiver: Receiver) -> None:
    receiver.answers = [b"HTTP/1.1 410 Gone\r\n\r\n"]
    async with carrying(store, Webhook(receiver.url).post, HastyClock(ahead=86_401.0)) as courier:
        await happen(store, 1, 2)
        await until(lambda: courier.status(2)["waiting"] == 0)
    assert numbers(receiver) == [1, 2]
    assert courier.status(2)["dropped"] == 1


async def test_receiver_that_says_nothing_delays_no_transaction(store: FileStore) -> None:
    asked = asyncio.Event()

    async def never(_document: bytes) -> None:
        asked.set()
        await asyncio.Event().wait()

    async with carrying(store, never):
        await happen(store, 1)
        await asyncio.wait_for(asked.wait(), 5)
        await asyncio.wait_for(
            store.transact(lambda c: endpoints.add(c, an_endpoint(status=EndpointStatus.CREATING))), 5
        )


async def test_nobody_there_is_no_delivery() -> None:
    with pytest.raises(NotDelivered, match=r"http://127\.0\.0\.1:1 cannot be reached"):
        await Webhook("http://127.0.0.1:1/secret").post(b"{}")


def test_delays_grow_to_a_minute() -> None:
    assert [delay_after(failures) for failures in (1, 2, 6, 7, 10_000)] == [1.0, 2.0, 32.0, 60.0, 60.0]


def test_day_is_counted_from_the_recording() -> None:
    record = EventRecord(1, 1000.0, {})
    assert not gives_up(record, 87_399.0)
    assert gives_up(record, 87_400.0)
