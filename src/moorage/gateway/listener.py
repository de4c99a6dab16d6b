"""The public port: accepts clients, watches their deadlines, and stops in good order."""

import asyncio
import contextlib
import logging
import resource
import socket
from typing import cast

from moorage.gateway.connection import ClientConnection, Handling
from moorage.gateway.invocation import InvocationHandling
from moorage.gateway.owners import Owner, owner_of
from moorage.gateway.relay import Refused, Relay
from moorage.gateway.requests import RequestHead
from moorage.gateway.shared import Shared

log = logging.getLogger(__name__)

TICK_SECONDS = 0.1
"""How often deadlines are looked at: the precision of every time-out of the gateway."""

DRAIN_SECONDS = 30.0
"""For requests in flight when the gateway is told to stop."""

BACKLOG = 4_096
SPARE_FILES = 64


class Listener:
    """The client connections of one gateway."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._connections: set[ClientConnection] = set()
        self._most_connections = _most_connections()
        self._server: asyncio.Server | None = None

    def __repr__(self) -> str:
        return f"<Listener: {len(self._connections)} connections, {self._shared.instances!r}>"

    async def open(self, listening: socket.socket) -> None:
        """Accept clients from now on."""
        self._shared.tick(self._shared.clock.monotonic())
        self._shared.tasks.start("deadlines", self._watch_deadlines())
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, sock=listening, backlog=BACKLOG)

    async def close(self) -> None:
        """Accept no more, finish what is in flight, close."""
        shared = self._shared
        if self._server is not None:
            self._server.close()
        shared.stopping = True
        for connection in list(self._connections):
            connection.stop_when_idle()
        until = shared.clock.monotonic() + DRAIN_SECONDS
        while self._connections and shared.clock.monotonic() < until:
            await shared.clock.sleep_until(shared.clock.monotonic() + TICK_SECONDS / 4)
        if self._connections:
            log.warning("%d connections were broken in order to stop", len(self._connections))
        for connection in list(self._connections):
            connection.abort()

    def _accept(self) -> asyncio.Protocol:
        if len(self._connections) >= self._most_connections:
            return _TooMany()
        connection = ClientConnection(self._shared, choose_handling, self._connections.discard)
        self._connections.add(connection)
        return connection

    async def _watch_deadlines(self) -> None:
        clock = self._shared.clock
        while True:
            now = clock.monotonic()
            await clock.sleep_until(now + TICK_SECONDS)
            self._shared.tick(now)
            for connection in [c for c in self._connections if c.deadline <= now]:
                connection.expired()


def choose_handling(client: ClientConnection, head: RequestHead) -> Handling:
    """Give a request to whoever answers it."""
    owner = owner_of(head)
    if owner is Owner.GATEWAY:
        return InvocationHandling(client, head)
    if owner is Owner.NOBODY:
        return Refused(client, head)
    return Relay(client, head, owner)


class _TooMany(asyncio.Protocol):
    """A client for whom there is no file descriptor left."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """(asyncio) Say so, and close."""
        refused = cast("asyncio.WriteTransport", transport)  # uvloop's transports are of no class of asyncio's
        refused.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        refused.close()


def _most_connections() -> int:
    """Allow as many files as the system does, and leave half of them for connections to upstreams."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return max(SPARE_FILES, (min(soft, 1_000_000) - SPARE_FILES) // 2)
