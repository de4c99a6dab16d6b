"""The side of those who call: HTTP/1.1 at the instance's address.

The callers are Moorage's own (gateways, mirrors, the node agent), each with one request at a time on a connection.
What they may not send is not answered finely: their connection is broken.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from typing import cast

from moorage.base.clock import Clock
from moorage.base.tasks import Tasks
from moorage.front.call import Call
from moorage.front.heads import CallHead, KnownHeads, Wanted
from moorage.front.question import Askable
from moorage.front.spec import FrontSpec, Mode
from moorage.gateway.fronts import Fault, FaultKind
from moorage.gateway.requests import BadRequest, RequestHead, RequestReader

log = logging.getLogger(__name__)

TICK_SECONDS = 0.05
"""How often deadlines are looked at."""

WRITE_BUFFER_BYTES = 262_144
BACKLOG = 1_024

_NOTHING: Sequence[Askable] = ()


class Front:
    """One instance's front."""

    def __init__(self, spec: FrontSpec, stations: Sequence[Askable], tasks: Tasks, clock: Clock) -> None:
        self.clock = clock
        self.body_bytes = spec.body_bytes
        self.known = KnownHeads()
        self._spec = spec
        self._stations = tuple(stations)
        self._by_name = {station.name: (station,) for station in stations}
        self._direct = spec.mode is Mode.DIRECT
        self._tasks = tasks
        self._waiting: dict[Call, None] = {}
        """Calls whose answer has not begun, the oldest first: all have the same time."""
        self.buffered_bytes = 0
        """Bodies of calls in memory."""
        self._connections: set[FrontConnection] = set()
        self._server: asyncio.Server | None = None

    def __repr__(self) -> str:
        return f"<Front of {self._spec.instance_id}: {len(self._connections)} connections, {len(self._waiting)} calls>"

    async def open(self, listening: socket.socket) -> None:
        """Answer from now on."""
        self._tasks.start("deadlines", self._watch())
        self._server = await asyncio.get_running_loop().create_unix_server(
            self._accept, sock=listening, backlog=BACKLOG
        )

    def close(self) -> None:
        """End: what is under way is broken off."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.abort()

    def invoke(self, caller: "FrontConnection", head: CallHead, chunks: Sequence[bytes], size: int) -> Call:
        """Begin a call."""
        call = Call(self, caller, head, deadline=self.clock.monotonic() + self._spec.timeout_seconds)
        stations = self._by_name.get(head.target_container or "", _NOTHING) if self._direct else self._stations
        if stations:
            self._waiting[call] = None
            call.begin(stations, chunks, size)
        else:
            call.refuse(Fault(FaultKind.UNKNOWN_CONTAINER, {"name": head.target_container}))
        return call

    def hold(self, size: int) -> bool:
        """Count bytes of bodies in memory; False when they are too many, and counted all the same."""
        self.buffered_bytes += size
        return self.buffered_bytes <= self._spec.buffered_bytes

    def waits_no_longer(self, call: Call) -> None:
        """Watch a call's deadline no more."""
        self._waiting.pop(call, None)

    def start_ping(self, tell: Callable[[str], None]) -> None:
        """Ask all containers whether they are well; then tell what is wrong, or nothing."""
        self._tasks.start("ping", self._ping(tell))

    async def _ping(self, tell: Callable[[str], None]) -> None:
        faults = await asyncio.gather(*(station.look(self._spec.ping_seconds) for station in self._stations))
        tell("\n".join(filter(None, faults)))

    async def _watch(self) -> None:
        while True:
            await self.clock.sleep_until(self.clock.monotonic() + TICK_SECONDS)
            now = self.clock.monotonic()
            for station in self._stations:
                station.sweep(now)
            for call in list(self._waiting):
                if call.deadline > now:
                    break
                call.time_is_up()

    def _accept(self) -> asyncio.Protocol:
        connection = FrontConnection(self, self._connections.discard)
        self._connections.add(connection)
        return connection


class FrontConnection(asyncio.Protocol):
    """One caller's connection."""

    def __init__(self, front: Front, gone: Callable[["FrontConnection"], None]) -> None:
        self._front = front
        self._gone = gone
        self._transport: asyncio.Transport | None = None
        self._reader = RequestReader(self)
        self._call: Call | None = None
        self._answering = False
        """Whether a request has not been answered yet."""
        self._keep_alive = True
        self._head: CallHead | None = None
        self._raw = b""
        """The piece that the present request began with, as long as it may be remembered."""
        self._chunks: list[bytes] = []
        self._size = 0

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """(asyncio) Somebody calls."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)

    def data_received(self, data: bytes) -> None:
        """(asyncio) A request, or a piece of one."""
        if self._answering:
            self.abort()
            return
        if self._reader.between:
            found = self._front.known.find(data)
            if found is not None:
                head, end = found
                self._head = head
                self._begin([data[end:]], head.length)
                return
            self._raw = data
        try:
            self._reader.feed(data)
        except BadRequest as fault:
            log.error("what cannot be read came from one of Moorage's own: %s", fault)
            self.abort()
        self._raw = b""

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """(asyncio) The caller has gone."""
        self._transport = None
        call, self._call = self._call, None
        if call is not None:
            call.caller_gone()
        self._gone(self)

    def pause_writing(self) -> None:
        """(asyncio) The caller reads too slowly."""
        if self._call is not None:
            self._call.caller_writable(writable=False)

    def resume_writing(self) -> None:
        """(asyncio) The caller has read."""
        if self._call is not None:
            self._call.caller_writable(writable=True)

    # RequestSink

    def head_received(self, head: RequestHead) -> None:
        """Take the head of a request."""
        self._head = CallHead(head)
        if self._raw and head.keep_alive and not head.chunked:
            end = self._raw.find(b"\r\n\r\n") + 4
            if end > 3:
                self._front.known.learn(self._raw[:end], self._head)

    def body_received(self, data: bytes) -> None:
        """Take a piece of the body."""
        self._chunks.append(data)
        self._size += len(data)

    def request_ended(self) -> None:
        """Do what the request wants: it is complete."""
        chunks, size = self._chunks, self._size
        self._chunks, self._size = [], 0
        self._begin(chunks, size)

    # Caller

    def send(self, parts: Sequence[bytes]) -> None:
        """Send bytes of the answer."""
        if self._transport is not None:
            self._transport.writelines(parts)

    def finished(self) -> None:
        """Wait for the next request, if there may be one."""
        self._call = None
        self._answering = False
        if not self._keep_alive and self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Break the connection."""
        if self._transport is not None:
            self._transport.abort()

    # Inside

    def _begin(self, chunks: Sequence[bytes], size: int) -> None:
        head = self._head
        assert head is not None  # noqa: S101 - it came before the body
        self._answering = True
        self._keep_alive = head.keep_alive
        if head.wanted is Wanted.INVOCATION:
            call = self._front.invoke(self, head, chunks, size)
            if self._answering:  # it has not ended at once
                self._call = call
        elif head.wanted is Wanted.PING:
            self._front.start_ping(self._answer_ping)
        else:
            self.abort()

    def _answer_ping(self, faults: str) -> None:
        body = faults.encode()
        status = b"503 Service Unavailable" if body else b"200 OK"
        head = b"HTTP/1.1 %b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n\r\n" % (
            status,
            len(body),
        )
        self.send([head + body])
        self.finished()
