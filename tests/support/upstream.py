"""Connections to an instance over half of a socket pair, without an event loop's transport."""

import socket
from typing import Any

from moorage.base.clock import SystemClock
from moorage.base.tasks import Tasks
from moorage.gateway.upstream import Pool, UpstreamConnection


class FakeTransport:
    """Has a socket, and keeps what it is given to write."""

    def __init__(self, own: socket.socket) -> None:
        self.own = own
        self.written = b""

    def get_extra_info(self, _: str) -> socket.socket:
        return self.own

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return False


async def connected(own: socket.socket) -> tuple[UpstreamConnection, FakeTransport]:
    connection = UpstreamConnection(Pool("unix:x", Tasks(), SystemClock(), dial_seconds=1.0, dial_again=()))
    transport: Any = FakeTransport(own)
    connection.connection_made(transport)
    return connection, transport
