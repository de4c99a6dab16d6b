"""Those who list events and those who wait for new ones."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from moorage.base.clock import SystemClock
from moorage.base.tasks import Tasks
from moorage.control.events import LONGEST_WAIT_SECONDS, EventFeed
from moorage.state import events
from moorage.state.events import Retention
from moorage.state.records import EndpointKey
from moorage.state.store import FileStore, mark_changed
from moorage.testing.builders import ACCOUNT, REGION

PLACE = (ACCOUNT, REGION)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FileStore]:
    opened = FileStore(tmp_path / "state.db")
    yield opened
    opened.close()


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    made = Tasks()
    yield made
    await made.close()


async def happen(store: FileStore, *numbers: int, name: str = "ep", keep: int = 1000) -> None:
    key = EndpointKey(ACCOUNT, REGION, name)

    def work(connection: Any) -> None:
        events.append(connection, key, 1.0, [{"number": number} for number in numbers], Retention(keep, 1e9))
        mark_changed(connection, key)

    await store.transact(work)


async def read(
    feed: EventFeed, after: int = 0, *, endpoint: str | None = None, limit: int = 100, wait: float = 0.0
) -> tuple[list[int], int, int]:
    """Give the numbers, the position to go on from, and how many are gone."""
    answer = await asyncio.wait_for(
        feed.read(PLACE, after=after, endpoint=endpoint, limit=limit, wait_seconds=wait), 10
    )
    return [entry["event"]["number"] for entry in answer["events"]], answer["position"], answer["gone"]


async def test_pages_go_on_where_the_last_one_ended(store: FileStore) -> None:
    feed = EventFeed(store, SystemClock(), None)
    await happen(store, 1, 2)
    await happen(store, 7, name="other")
    await happen(store, 3)
    assert await read(feed, limit=2) == ([1, 2], 2, 0)
    assert await read(feed, 2, limit=2) == ([7, 3], 4, 0)
    assert await read(feed, 4) == ([], 4, 0)
    # Events of others are passed over, and not looked at again.
    assert await read(feed, endpoint="other") == ([7], 4, 0)


async def test_events_that_are_gone_are_counted(store: FileStore) -> None:
    feed = EventFeed(store, SystemClock(), None)
    await happen(store, 1, 2, 3, 4, 5, keep=2)
    assert await read(feed, 1) == ([4, 5], 5, 2)


async def test_who_waits_is_answered_at_once_when_something_happens(store: FileStore, tasks: Tasks) -> None:
    feed = EventFeed(store, SystemClock(), None)
    waiting = tasks.start("wait", read(feed, wait=LONGEST_WAIT_SECONDS))
    await _until_waiting(feed)
    await happen(store, 1)
    assert await asyncio.wait_for(waiting, LONGEST_WAIT_SECONDS - 1) == ([1], 1, 0)


async def test_news_of_another_endpoint_lets_nobody_go(store: FileStore, tasks: Tasks) -> None:
    feed = EventFeed(store, SystemClock(), None)
    waiting = tasks.start("wait", read(feed, endpoint="ep", wait=LONGEST_WAIT_SECONDS))
    await _until_waiting(feed)
    await happen(store, 1, name="other")
    await happen(store, 2)
    assert (await waiting)[0] == [2]


async def test_stop_of_the_server_waits_for_nobody(store: FileStore, tasks: Tasks) -> None:
    feed = EventFeed(store, SystemClock(), None)
    waiting = tasks.start("wait", read(feed, wait=LONGEST_WAIT_SECONDS))
    await _until_waiting(feed)
    feed.close()
    assert await asyncio.wait_for(waiting, LONGEST_WAIT_SECONDS - 1) == ([], 0, 0)


async def _until_waiting(feed: EventFeed) -> None:
    async with asyncio.timeout(5):
        while repr(feed) != "<EventFeed: 1 waiting>":
            await asyncio.sleep(0.005)
