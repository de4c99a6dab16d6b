"""A front on real sockets, in this process, with scripted containers behind it."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
from tests.support.gateway import Answer, FakeServer, Script, read_answer

from moorage.base.clock import Clock, SystemClock
from moorage.base.tasks import Tasks
from moorage.front.process import serve
from moorage.front.spec import FrontContainer, FrontSpec, Mode

BODY_BYTES = 1_000_000


class FrontWorld:
    """A front with its containers, its node agent's end of the channel, and callers."""

    def __init__(self, folder: Path, clock: Clock | None = None) -> None:
        self.folder = folder
        self.containers: dict[str, FakeServer] = {}
        self.tasks = Tasks()
        self._clock = clock or SystemClock()
        self._stop = asyncio.Event()
        self._node: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.front: asyncio.Task[None] | None = None

    @property
    def path(self) -> Path:
        return self.folder / "front.sock"

    async def container(self, name: str, *scripts: Script) -> FakeServer:
        server = self.containers[name] = FakeServer(self.folder / f"{name}.sock", *scripts)
        await server.start()
        return server

    def spec(self, mode: Mode = Mode.SERIAL, **changes: Any) -> FrontSpec:
        containers = tuple(FrontContainer(name, server.address) for name, server in self.containers.items())
        values: dict[str, Any] = {
            "body_bytes": BODY_BYTES,
            "buffered_bytes": 10 * BODY_BYTES,
            "timeout_seconds": 10.0,
            "ping_seconds": 2.0,
            **changes,
        }
        return FrontSpec("i-front", mode, containers, **values)

    async def start(self, mode: Mode = Mode.SERIAL, **changes: Any) -> None:
        listening = listen_at(self.path)
        ours, theirs = socket.socketpair()
        self.front = self.tasks.start("front", serve(theirs, listening, self._stop, self._clock))
        reader, writer = self._node = await asyncio.open_unix_connection(sock=ours)
        writer.write(serve_order(self.spec(mode, **changes)))
        assert await asyncio.wait_for(reader.readline(), 10) == b'{"op":"serving"}\n'

    def leave(self) -> None:
        """Close the node agent's end."""
        assert self._node is not None
        self._node[1].close()

    async def close(self) -> None:
        self._stop.set()
        if self.front is not None:
            await self.front
        if self._node is not None:
            self._node[1].close()
        for server in self.containers.values():
            await server.kill()
        await self.tasks.close()

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_unix_connection(str(self.path))
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def invoke(self, body: bytes = b"", **headers: str) -> Answer:
        async with self.connected() as (reader, writer):
            writer.write(request(body, **headers))
            return await asyncio.wait_for(read_answer(reader), 10)

    async def ping(self) -> Answer:
        async with self.connected() as (reader, writer):
            writer.write(b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return await asyncio.wait_for(read_answer(reader), 10)


def listen_at(path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen(100)
    return listening


def serve_order(spec: FrontSpec) -> bytes:
    return orjson.dumps({"op": "serve", "spec": spec.to_message()}) + b"\n"


def request(body: bytes = b"", **headers: str) -> bytes:
    """Make a gateway's request; underscores of names are hyphens."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return (
        f"POST /invocations HTTP/1.1\r\nHost: localhost\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body
    )
