"""Small answers are sent when the event loop has done its turn: all of them, in their order, before anything else."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.objects import store_in

from moorage.base.clock import SystemClock
from moorage.base.settings import Settings
from moorage.base.tasks import Tasks
from moorage.gateway import process
from moorage.gateway.connection import MOST_LATE, ClientConnection, LateAnswers
from moorage.gateway.reports import Reports
from moorage.gateway.shared import Shared
from moorage.gateway.snapshots import SnapshotLink
from moorage.telemetry.meters import Meters


class FakeTransport:
    """Keeps what it is given, in its order; ``wire`` is shared by several."""

    def __init__(self, wire: list[bytes]) -> None:
        self.wire = wire
        self.closed = False

    def get_extra_info(self, _: str) -> None:
        return None

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.wire.append(data)

    def writelines(self, parts: list[bytes]) -> None:
        self.write(b"".join(parts))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.wire.append(b"<end>")

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.wire.append(b"<close>")
        self.closed = True

    def abort(self) -> None:
        self.closed = True


class Room:
    """Client connections of one gateway, all on one wire."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.late = LateAnswers()
        self.wire: list[bytes] = []

    def connected(self) -> ClientConnection:
        def refuse(*_: object) -> Any:
            raise AssertionError("nothing is asked here")

        made = ClientConnection(self.shared, self.late, refuse, refuse, lambda _: None)
        transport: Any = FakeTransport(self.wire)
        made.connection_made(transport)
        return made


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    clock, tasks, meters = SystemClock(), Tasks(), Meters()
    store = store_in(tmp_path)
    snapshots = SnapshotLink(tmp_path / "none.sock", clock, lambda _: None, Reports(meters, gateway="one", name="one"))
    settings = Settings(data_dir=tmp_path, run_dir=tmp_path)
    yield Room(process._make_shared(settings, clock, tasks, meters, store=store, snapshots=snapshots))
    await tasks.close()
    await asyncio.to_thread(store.close)


async def test_answers_of_a_turn_are_sent_after_it_in_their_order(room: Room) -> None:
    for name in (b"first", b"second"):
        room.connected().send_whole(name)
    assert (room.wire, repr(room.late)) == ([], "<LateAnswers: 2>")
    await asyncio.sleep(0)
    assert (room.wire, repr(room.late)) == ([b"first", b"second"], "<LateAnswers: 0>")


async def test_many_answers_do_not_wait_for_the_end_of_a_long_turn(room: Room) -> None:
    for _ in range(MOST_LATE + 1):
        room.connected().send_whole(b"x")
    assert room.wire == [b"x"] * MOST_LATE
    await asyncio.sleep(0)
    assert room.wire == [b"x"] * (MOST_LATE + 1)


async def test_nothing_overtakes_an_answer(room: Room) -> None:
    one = room.connected()
    one.send_whole(b"1")
    one.send_whole(b"2")
    one.send([b"3", b"4"])
    one.send_whole(b"5")
    one.send_continue()
    assert room.wire[:-1] == [b"1", b"2", b"34", b"5"]
    one.send_whole(b"6")
    one.finished(close=True)
    assert room.wire[5:] == [b"6", b"<close>"]
    await asyncio.sleep(0)
    assert len(room.wire) == 7


@pytest.mark.parametrize("end", [ClientConnection.stop_when_idle, ClientConnection.eof_received])
async def test_an_answer_is_sent_before_its_connection_ends(room: Room, end: Any) -> None:
    one = room.connected()
    one.send_whole(b"answer")
    one.finished(close=False)
    assert one.busy
    end(one)
    assert room.wire[0] == b"answer"
    assert not one.busy


async def test_an_answer_is_not_sent_on_a_connection_that_is_broken_or_lost(room: Room) -> None:
    broken, lost = room.connected(), room.connected()
    broken.send_whole(b"x")
    lost.send_whole(b"x")
    broken.abort()
    lost.connection_lost(None)
    await asyncio.sleep(0)
    assert room.wire == []


async def test_a_client_who_does_not_read_a_late_answer_is_given_the_time_to_write(room: Room) -> None:
    one = room.connected()
    one.send_whole(b"x")
    one.finished(close=False)
    idle = one.deadline
    one.pause_writing()
    assert one.deadline < idle
