"""The outbox: copies are gathered for a moment, a bounded number of them, and sent in their order."""

import asyncio
import socket
from collections.abc import Iterator

import pytest
from tests.support.gateway import until
from tests.support.upstream import connected

from moorage.gateway.shadow import outbox as shadow_outbox
from moorage.gateway.shadow.outbox import MOST_GATHERED, Outbox


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    own, other = socket.socketpair()
    own.setblocking(False)
    other.setblocking(False)
    with own, other:
        yield own, other


def waits(other: socket.socket) -> bytes:
    """Give what has come and is not read yet."""
    try:
        return other.recv(1_000, socket.MSG_PEEK)
    except BlockingIOError:
        return b""


async def test_copies_are_sent_together_after_a_moment(pair: tuple[socket.socket, socket.socket]) -> None:
    connection, _ = await connected(pair[0])
    outbox = Outbox()
    outbox.add(connection, b"first ")
    await asyncio.sleep(0)
    outbox.add(connection, b"second")
    assert (waits(pair[1]), repr(outbox)) == (b"", "<Outbox: 2 to send>")
    await until(lambda: waits(pair[1]))
    assert (waits(pair[1]), repr(outbox)) == (b"first second", "<Outbox: 0 to send>")


async def test_many_copies_do_not_wait(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow_outbox, "GATHER_SECONDS", 3600.0)
    connection, _ = await connected(pair[0])
    outbox = Outbox()
    for _ in range(MOST_GATHERED + 1):
        outbox.add(connection, b"x")
    await asyncio.sleep(0)
    assert waits(pair[1]) == b"x" * (MOST_GATHERED + 1)
    monkeypatch.setattr(shadow_outbox, "GATHER_SECONDS", 0.0)
    outbox.add(connection, b"y")
    await until(lambda: waits(pair[1]).endswith(b"y"))


async def test_a_copy_whose_connection_has_closed_is_not_sent(pair: tuple[socket.socket, socket.socket]) -> None:
    connection, transport = await connected(pair[0])
    outbox = Outbox()
    outbox.add(connection, b"request")
    connection.connection_lost(None)
    await until(lambda: repr(outbox) == "<Outbox: 0 to send>")
    assert (waits(pair[1]), transport.written) == (b"", b"")
