"""Connections to instances and to Moorage's other processes, kept alive and lent one request at a time.

A kept connection can have been closed by the other side a moment ago. Whoever sends on it and gets a reset cannot
know whether the request was seen, and may not send it again elsewhere. So a kept connection is looked at (``poll``,
one system call) just before it is lent, and is not kept for long: 4 seconds are less than the keep-alive of common
servers (uvicorn and Node 5 s).
"""

import asyncio
import os
import select
import sys
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol, cast

from moorage.base.clock import Clock
from moorage.base.dial import connect_through
from moorage.base.tasks import Tasks
from moorage.gateway.exchange import Exchange, Heads, State

KEPT_SECONDS = 4.0
KEPT_CONNECTIONS = 512
"""Per pool; a connection more is closed when its answer is complete."""

DIAL_PAUSE_SECONDS = 0.02
WRITE_BUFFER_BYTES = 262_144


class Borrower(Protocol):
    """Who wants a connection."""

    def upstream_ready(self, connection: "UpstreamConnection") -> None:
        """Take the connection; it must be given back."""

    def upstream_refused(self, reason: str) -> None:
        """There is no connection to be had, and no byte has been sent."""

    def upstream_writable(self, *, writable: bool) -> None:
        """Note that the connection's buffer is full, or no longer full."""


class UpstreamConnection:
    """One connection, a protocol of asyncio: moves bytes between its socket and its exchange."""

    def __init__(self, pool: "Pool") -> None:
        self.exchange = Exchange(pool.heads)
        self.borrower: Borrower | None = None
        self.kept_since = 0.0
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._poll = select.poll()
        self._descriptor = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """(asyncio) The socket is connected."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self._descriptor = transport.get_extra_info("socket").fileno()
        self._poll.register(self._descriptor, select.POLLIN)

    def data_received(self, data: bytes) -> None:
        """(asyncio) The other side has sent something."""
        self.exchange.feed(data)
        if self.borrower is None and not self.exchange.reusable:
            self.close()

    def eof_received(self) -> None:
        """(asyncio) The other side sends no more: it has gone."""

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """(asyncio) The socket is closed."""
        self._transport = None
        self._pool.lost(self)
        self.exchange.closed()

    def pause_writing(self) -> None:
        """(asyncio) The buffer is full."""
        if self.borrower is not None:
            self.borrower.upstream_writable(writable=False)

    def resume_writing(self) -> None:
        """(asyncio) The buffer has room."""
        if self.borrower is not None:
            self.borrower.upstream_writable(writable=True)

    def request_head(self, forwarded: bytes, size: int) -> bytes:
        """Make the head of an invocation that the container sees, with these lines of the client's."""
        return b"POST /invocations HTTP/1.1\r\nHost: %b\r\n%bContent-Length: %d\r\n\r\n" % (
            self._pool.host,
            forwarded,
            size,
        )

    def send(self, parts: Iterable[bytes]) -> None:
        """Send bytes, in one system call where possible."""
        if self._transport is not None:
            self._transport.writelines(parts)

    def send_whole(self, request: bytes) -> None:
        """Send a request that is one piece, when the event loop has done its turn; nothing may wait before it."""
        self._pool.send_soon(self, request)

    def send_now(self, request: bytes) -> None:
        """Send it."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        try:
            sent = os.write(self._descriptor, request)
        except OSError:  # the socket is full, or broken: the transport waits, or finds it out
            sent = 0
        if sent < len(request):
            transport.write(request[sent:])

    def pause_reading(self) -> None:
        """Leave what comes in the socket for now."""
        if self._transport is not None and self._transport.is_reading():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if self._transport is not None and not self._transport.is_reading():
            self._transport.resume_reading()

    def keepable(self) -> bool:
        """Say whether another request may follow on this connection."""
        transport = self._transport
        return (
            transport is not None
            and not transport.is_closing()
            and self.exchange.reusable
            and self.exchange.state is State.IDLE
            and transport.get_write_buffer_size() == 0
        )

    def alive(self, *, look: bool = True) -> bool:
        """Look whether the other side has closed, or sent what nobody asked for, since the loop last looked."""
        transport = self._transport
        if transport is None or transport.is_closing() or not self.exchange.reusable:
            return False
        return not look or not self._poll.poll(0)

    def give_back(self) -> None:
        """Return to the pool: kept when the answer is complete, else closed."""
        self._pool.give_back(self)

    def close(self) -> None:
        """End the connection now; what is not sent yet is dropped."""
        if self._transport is not None:
            self._transport.abort()


def _nobody_asks(*, full: bool) -> None:
    """Do nothing: nobody is interested in whether a pool is full."""


class Pool:
    """The connections to one address."""

    def __init__(  # noqa: PLR0913 - how long, how many, and who hears of it
        self,
        address: str,
        tasks: Tasks,
        clock: Clock,
        *,
        dial_seconds: float,
        dial_again: tuple[type[OSError], ...],
        most_outstanding: int = sys.maxsize,
        on_full: Callable[..., None] = _nobody_asks,
    ) -> None:
        """Make a pool for ``unix:PATH``, ``dial:PATH`` (``base.dial``) or ``host:port``.

        Dialling takes at most ``dial_seconds``; an error of ``dial_again`` is waited out within them. ``on_full`` is
        called with ``full=True`` when ``most_outstanding`` connections are lent, with False when one has come back.
        """
        self.address = address
        self.host = b"localhost" if address.startswith(("unix:", "dial:")) else address.encode()
        """What the other side is called in the requests that it is sent."""
        self.outstanding = 0
        """Connections that are lent, or being made for somebody."""
        self.on_drained: Callable[[], None] | None = None
        self.heads = Heads()
        """The heads of answers that come again and again."""
        self._tasks = tasks
        self._clock = clock
        self._dial_seconds = dial_seconds
        self._dial_again = dial_again
        self._most_outstanding = most_outstanding
        self._on_full = on_full
        self._swept_at = clock.monotonic()
        self._kept: deque[UpstreamConnection] = deque()
        self._retired = False
        self._unsent: list[tuple[UpstreamConnection, bytes]] = []

    def __repr__(self) -> str:
        return f"<Pool {self.address}: {self.outstanding} outstanding, {len(self._kept)} kept>"

    @property
    def is_empty(self) -> bool:
        """Whether there is no connection, lent or kept."""
        return not self.outstanding and not self._kept

    def borrow(self, borrower: Borrower, *, look: bool = True) -> None:
        """Lend a kept connection at once, or a new one when it is made.

        A borrower who has changed its mind by then gives it back. Who can do without an answer saves the ``look``.
        """
        self._lend()
        while self._kept:
            connection = self._kept.pop()
            if connection.alive(look=look):
                connection.borrower = borrower
                borrower.upstream_ready(connection)
                return
            connection.close()
        self._tasks.start(f"dial {self.address}", self._dial_for(borrower))

    def dial(self, borrower: Borrower) -> None:
        """Lend a new connection when it is made, even if there is a kept one."""
        self._lend()
        self._tasks.start(f"dial {self.address}", self._dial_for(borrower))

    def give_back(self, connection: UpstreamConnection) -> None:
        """Take a connection back; it is kept when its answer is complete, else closed."""
        connection.borrower = None
        if connection.keepable() and not self._retired and len(self._kept) < KEPT_CONNECTIONS:
            connection.kept_since = self._swept_at
            connection.resume_reading()
            self._kept.append(connection)
        else:
            connection.exchange.abandon()
            connection.close()
        self._returned()

    def lost(self, connection: UpstreamConnection) -> None:
        """Note that a connection is closed; if it was kept, it is no longer."""
        if connection.borrower is None and connection in self._kept:
            self._kept.remove(connection)

    def send_soon(self, connection: UpstreamConnection, request: bytes) -> None:
        """Send a request after this turn of the event loop."""
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._send)
        self._unsent.append((connection, request))

    def _send(self) -> None:
        unsent, self._unsent = self._unsent, []
        for connection, request in unsent:
            connection.send_now(request)

    def sweep(self, now: float) -> None:
        """Close what has been kept for too long (the oldest are at the left); called ten times a second."""
        self._swept_at = now
        while self._kept and self._kept[0].kept_since + KEPT_SECONDS < now:
            self._kept.popleft().close()

    def retire(self, on_drained: Callable[[], None]) -> None:
        """Lend no more; tell when the last connection has come back."""
        self._retired = True
        self.on_drained = on_drained
        while self._kept:
            self._kept.pop().close()
        if self.outstanding == 0:
            on_drained()

    def _lend(self) -> None:
        self.outstanding += 1
        if self.outstanding == self._most_outstanding:
            self._on_full(full=True)

    def _returned(self) -> None:
        if self.outstanding == self._most_outstanding:
            self._on_full(full=False)
        self.outstanding -= 1
        if self._retired and self.outstanding == 0 and self.on_drained is not None:
            self.on_drained()

    async def _dial_for(self, borrower: Borrower) -> None:
        try:
            connection = await self._dial()
        except (OSError, ValueError) as fault:  # TimeoutError is an OSError; ValueError: not an address
            self._returned()
            borrower.upstream_refused(str(fault) or "no connection in time")
        else:
            connection.borrower = borrower
            borrower.upstream_ready(connection)

    async def _dial(self) -> UpstreamConnection:
        until = self._clock.monotonic() + self._dial_seconds
        while True:
            try:
                async with asyncio.timeout(self._dial_seconds):
                    return await _connect(self.address, UpstreamConnection(self))
            except self._dial_again:
                if self._clock.monotonic() >= until:
                    raise
            await self._clock.sleep_until(self._clock.monotonic() + DIAL_PAUSE_SECONDS)


async def _connect(address: str, connection: UpstreamConnection) -> UpstreamConnection:
    loop = asyncio.get_running_loop()
    # A class that is compiled cannot inherit from asyncio.Protocol; it has its methods.
    protocol = cast("asyncio.Protocol", connection)
    if address.startswith("unix:"):
        await loop.create_unix_connection(lambda: protocol, address.removeprefix("unix:"))
    elif address.startswith("dial:"):
        connected = await connect_through(address.removeprefix("dial:"))
        await loop.create_connection(lambda: protocol, sock=connected)
    else:
        host, _, port = address.rpartition(":")
        await loop.create_connection(lambda: protocol, host.strip("[]"), int(port))
    return connection
