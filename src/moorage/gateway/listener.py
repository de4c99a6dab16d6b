"""The public port: accepts clients, watches their deadlines, and stops in good order."""

import asyncio
import logging
import socket
import weakref
from typing import cast

from moorage.base.descriptors import allow_most_files
from moorage.gateway.certificate import Certificate
from moorage.gateway.connection import ClientConnection, Handling, LateAnswers
from moorage.gateway.invocation import InvocationHandling
from moorage.gateway.openai import ChatHandling, is_openai_path
from moorage.gateway.owners import Owner, owner_of
from moorage.gateway.relay import Refused, Relay
from moorage.gateway.requests import RequestHead
from moorage.gateway.shared import Shared
from moorage.gateway.streaming import ResponseStreamHandling

log = logging.getLogger(__name__)

TICK_SECONDS = 0.1
"""How often deadlines are looked at: the precision of every time-out of the gateway."""

DRAIN_SECONDS = 30.0
"""For requests in flight when the gateway is told to stop."""

HANDSHAKE_SECONDS = 10.0
"""For the client's part of a TLS handshake."""

FAREWELL_SECONDS = 60.0
"""For a TLS client to read the last bytes and to say goodbye (close_notify)."""

LAST_FAREWELL_SECONDS = 1.0
"""The same when the gateway stops: clients that keep connections in a pool do not even look at them."""

BACKLOG = 4_096
SPARE_FILES = 64


class Listener:
    """The client connections of one gateway; with a certificate they speak TLS."""

    def __init__(self, shared: Shared, certificate: Certificate | None = None) -> None:
        self._shared = shared
        self._certificate = certificate
        self._connections: set[ClientConnection] = set()
        self._late_answers = LateAnswers()
        self._handshakes: weakref.WeakSet[_Handshake] = weakref.WeakSet()
        self._most_connections = _most_connections()
        self._refused = 0
        shared.meters.tell("moorage_gateway_connections", lambda: len(self._connections))
        shared.meters.tell("moorage_gateway_connections_refused_total", lambda: self._refused)
        self._server: asyncio.Server | None = None

    def __repr__(self) -> str:
        return f"<Listener: {len(self._connections)} connections, {self._shared.instances!r}>"

    async def open(self, listening: socket.socket) -> None:
        """Accept clients from now on."""
        self._shared.tick(self._shared.clock.monotonic())
        self._shared.tasks.start("deadlines", self._watch_deadlines())
        loop, certificate = asyncio.get_running_loop(), self._certificate
        if certificate is None:
            self._server = await loop.create_server(self._accept, sock=listening, backlog=BACKLOG)
            return
        self._shared.tasks.start("certificate", certificate.watch(self._shared.clock))
        self._server = await loop.create_server(
            self._accept,
            sock=listening,
            backlog=BACKLOG,
            ssl=certificate.context,
            ssl_handshake_timeout=HANDSHAKE_SECONDS,
            ssl_shutdown_timeout=FAREWELL_SECONDS,
        )

    async def close(self) -> None:
        """Accept no more, finish what is in flight, close."""
        shared = self._shared
        if self._server is not None:
            self._server.close()
        shared.stopping = True
        for connection in list(self._connections):
            connection.stop_when_idle()
        await self._drain(shared.clock.monotonic() + DRAIN_SECONDS)
        if broken := sum(1 for connection in self._connections if connection.busy):
            log.warning("%d connections were broken in order to stop", broken)
        for connection in list(self._connections):
            connection.break_off()
        await self._gone_within(LAST_FAREWELL_SECONDS)
        for connection in list(self._connections):
            connection.abort()

    async def _gone_within(self, seconds: float) -> None:
        clock = self._shared.clock
        until = clock.monotonic() + seconds
        while self._connections and clock.monotonic() < until:
            await clock.sleep_until(clock.monotonic() + TICK_SECONDS / 4)

    async def _drain(self, until: float) -> None:
        """Wait until all connections are closed, or only such are left as have nothing to do but to say goodbye."""
        clock = self._shared.clock
        farewell_until = until
        while self._connections and clock.monotonic() < min(until, farewell_until):
            if any(connection.busy for connection in self._connections):
                farewell_until = until
            elif farewell_until == until:
                farewell_until = clock.monotonic() + LAST_FAREWELL_SECONDS
            await clock.sleep_until(clock.monotonic() + TICK_SECONDS / 4)

    def _accept(self) -> asyncio.Protocol:
        if len(self._connections) + len(self._handshakes) >= self._most_connections:
            self._refused += 1
            return _TooMany()
        if self._certificate is None:
            return cast("asyncio.Protocol", self._arrived())  # compiled, it cannot inherit
        handshake = _Handshake(self)
        self._handshakes.add(handshake)
        return handshake

    def handshake_done(self, handshake: "_Handshake", transport: asyncio.Transport) -> None:
        """Go on with a client who has come through the TLS handshake."""
        self._handshakes.discard(handshake)
        connection = self._arrived()
        transport.set_protocol(cast("asyncio.Protocol", connection))
        connection.connection_made(transport)
        if self._shared.stopping:
            connection.stop_when_idle()

    def _arrived(self) -> ClientConnection:
        connection = ClientConnection(
            self._shared, self._late_answers, choose_handling, invoke, self._connections.discard
        )
        self._connections.add(connection)
        return connection

    async def _watch_deadlines(self) -> None:
        clock = self._shared.clock
        while True:
            now = clock.monotonic()
            await clock.sleep_until(now + TICK_SECONDS)
            self._shared.tick(clock.monotonic())
            for connection in [c for c in self._connections if c.deadline <= now]:
                connection.expired()


def choose_handling(client: ClientConnection, head: RequestHead) -> Handling:
    """Give a request to whoever answers it."""
    owner = owner_of(head)
    if owner is Owner.GATEWAY:
        return _handling_of(head.path)(client, head)
    if owner is Owner.NOBODY:
        return Refused(client, head)
    return Relay(client, head, owner)


def invoke(client: ClientConnection, head: RequestHead) -> InvocationHandling:
    """Do an invocation that came whole."""
    return ResponseStreamHandling(client, head) if head.path.endswith("-stream") else InvocationHandling(client, head)


def _handling_of(path: str) -> type[InvocationHandling]:
    """Find who does an invocation; what is none is refused by the stages."""
    if path.endswith("/invocations"):
        return InvocationHandling
    if path.endswith("/invocations-response-stream"):
        return ResponseStreamHandling
    return ChatHandling if is_openai_path(path) else InvocationHandling


class _Handshake(asyncio.Protocol):
    """A client in the TLS handshake.

    One whose handshake fails is never heard of again: the event loop lets go of it, and it is no longer counted.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """(asyncio) The handshake is complete."""
        self._listener.handshake_done(self, cast("asyncio.Transport", transport))


class _TooMany(asyncio.Protocol):
    """A client for whom there is no file descriptor left."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """(asyncio) Say so, and close."""
        refused = cast("asyncio.WriteTransport", transport)  # uvloop's transports are of no class of asyncio's
        refused.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        refused.close()


def _most_connections() -> int:
    """Allow as many files as the system does, and leave half of them for connections to upstreams."""
    return max(SPARE_FILES, (min(allow_most_files(), 1_000_000) - SPARE_FILES) // 2)
