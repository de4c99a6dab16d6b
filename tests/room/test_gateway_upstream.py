"""A connection to an instance: what does not fit into the socket at once is left to the transport."""

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.upstream import connected

from moorage.gateway.upstream import UpstreamConnection


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    own, other = socket.socketpair()
    own.setblocking(False)
    with own, other:
        yield own, other


async def test_requests_of_a_turn_are_sent_after_it_in_their_order(pair: tuple[socket.socket, socket.socket]) -> None:
    connection, transport = await connected(pair[0])
    other = UpstreamConnection(connection._pool)
    unsent: Any = transport
    other.connection_made(unsent)
    connection.send_whole(b"first ")
    other.send_whole(b"second")
    with pytest.raises(BlockingIOError):
        pair[1].recv(100, socket.MSG_DONTWAIT)
    await asyncio.sleep(0)
    assert (pair[1].recv(100), transport.written) == (b"first second", b"")


async def test_a_request_on_a_connection_that_closes_before_its_turn_is_over_is_not_sent(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    connection, transport = await connected(pair[0])
    connection.send_whole(b"request")
    connection.connection_lost(None)
    await asyncio.sleep(0)
    pair[0].close()
    assert (pair[1].recv(100), transport.written) == (b"", b"")


async def test_a_request_is_sent_at_once(pair: tuple[socket.socket, socket.socket]) -> None:
    connection, transport = await connected(pair[0])
    connection.send_now(b"request")
    assert (pair[1].recv(100), transport.written) == (b"request", b"")


async def test_what_does_not_fit_into_the_socket_waits_in_the_transport(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    own, other = pair
    connection, transport = await connected(own)
    request = bytes(range(256)) * 20_000
    connection.send_now(request)
    assert 0 < len(transport.written) < len(request)
    sent = other.recv(len(request), socket.MSG_WAITALL | socket.MSG_DONTWAIT)
    assert sent + transport.written == request


async def test_a_socket_that_is_full_or_broken_is_the_transport_s_to_deal_with(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    own, other = pair
    connection, transport = await connected(own)
    own.send(b"x" * 10_000_000)  # as much as there is room for
    connection.send_now(b"full")
    other.close()
    connection.send_now(b"broken")
    assert transport.written == b"fullbroken"


async def test_nothing_is_sent_on_a_connection_that_is_closed(pair: tuple[socket.socket, socket.socket]) -> None:
    connection, transport = await connected(pair[0])
    connection.connection_lost(None)
    connection.send_now(b"request")
    pair[0].close()
    assert (pair[1].recv(100), transport.written) == (b"", b"")
