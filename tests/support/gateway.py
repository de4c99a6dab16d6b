"""A gateway on real sockets, with scripted instances behind it and a small control plane that publishes snapshots."""

import asyncio
import contextlib
import functools
import hashlib
import json
import shutil
import socket
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import uvloop

from moorage.aws.credentials import Credential
from moorage.aws.sigv4 import HttpRequest, sign
from moorage.base import link
from moorage.base.settings import Limits, Settings
from moorage.base.tasks import Tasks
from moorage.gateway.certificate import Certificate
from moorage.gateway.process import serve
from moorage.routing.snapshot import Endpoint, Instance, Snapshot, Variant

ACCOUNT = "000000000000"
REGION = "us-east-1"
KEY = Credential("AKIAEXAMPLEEXAMPLE00", "secret/secret", ACCOUNT, "tester")


@dataclass
class Request:
    """What arrived at an instance or an owner."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, wanted: str) -> str | None:
        return next((value for name, value in self.headers if name.lower() == wanted.lower()), None)


@dataclass
class Answer:
    """What a client was answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Script = Callable[[Request, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def says(raw: bytes) -> Script:
    """Make a script that sends these bytes."""

    async def script(_: Request, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)

    return script


def answers(body: bytes, status: int = 200, headers: str = "") -> Script:
    """Make a script that sends an answer."""
    head = f"HTTP/1.1 {status} Reason\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return says(head.encode() + body)


def cuts(raw: bytes) -> Script:
    """Make a script that sends these bytes and closes the connection."""

    async def script(_: Request, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        writer.close()

    return script


async def hangs(_: Request, reader: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    """Be a script that never answers, and ends when the connection is closed."""
    await reader.read()


class FakeServer:
    """A server at a Unix socket, with a script for each request; the last one is used again."""

    def __init__(self, path: Path, *scripts: Script) -> None:
        self.path = path
        self.scripts = list(scripts)
        self.requests: list[Request] = []
        self.connections = 0
        self.open_connections = 0
        self.reads_bodies = True
        """Whether the body is read before the script runs."""
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> str:
        return f"unix:{self.path}"

    async def start(self) -> None:
        self.path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def kill(self) -> None:
        """End as SIGKILL ends it: no more accepting, every connection closed, the socket's file left behind."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        if not self.path.exists():  # asyncio takes the file away from Python 3.13 on; SIGKILL does not
            with socket.socket(socket.AF_UNIX) as unheard:
                unheard.bind(str(self.path))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open_connections += 1
        self._writers.add(writer)
        try:
            while (request := await read_request(reader, body=self.reads_bodies)) is not None:
                self.requests.append(request)
                script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
                await script(request, reader, writer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open_connections -= 1
            self._writers.discard(writer)
            writer.close()


async def read_request(reader: asyncio.StreamReader, *, body: bool = True) -> Request | None:
    """Read a request; None when there is none."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    line, headers = _split_head(head)
    fields = {name.lower(): value for name, value in headers}
    return Request(line, headers, await _read_body(reader, fields) if body else b"")


async def read_answer(reader: asyncio.StreamReader, *, head_only: bool = False) -> Answer:
    """Read an answer, passing over interim ones."""
    while True:
        line, headers = _split_head(await reader.readuntil(b"\r\n\r\n"))
        status = int(line.split(" ")[1])
        if status >= 200:
            break
    fields = {name.lower(): value for name, value in headers}
    body = b"" if head_only or status in {204, 304} else await _read_body(reader, fields, until_close=True)
    return Answer(status, fields, body)


def _split_head(head: bytes) -> tuple[str, list[tuple[str, str]]]:
    line, *lines = head.decode("latin-1").split("\r\n")[:-2]
    return line, [(name, value.strip()) for name, _, value in (entry.partition(":") for entry in lines)]


async def _read_body(reader: asyncio.StreamReader, fields: dict[str, str], *, until_close: bool = False) -> bytes:
    if "content-length" in fields:
        return await reader.readexactly(int(fields["content-length"]))
    if fields.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readline()
        return body
    return await reader.read() if until_close else b""


@dataclass
class FakeControl:
    """Publishes snapshots; remembers what gateways say."""

    path: Path
    snapshot: Snapshot
    messages: list[dict[str, Any]] = field(default_factory=list)
    links: list[link.Link] = field(default_factory=list)
    held: asyncio.Event | None = None
    """What to wait for before the first snapshot is sent."""

    async def serve(self, opened: link.Link) -> None:
        self.links.append(opened)
        async for message in opened.messages():
            self.messages.append(message)
            if message["op"] == "hello":
                if self.held is not None:
                    await self.held.wait()
                await self._tell(opened)
        self.links.remove(opened)

    async def publish(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        for opened in list(self.links):
            await self._tell(opened)
        await until(lambda: {"op": "applied", "version": snapshot.version} in self.messages)

    async def _tell(self, opened: link.Link) -> None:
        await opened.send({"op": "snapshot", "snapshot": self.snapshot.to_message()})

    def said(self, op: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["op"] == op]


def on_uvloop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test on the event loop that gateways have; its TLS is not asyncio's."""

    @functools.wraps(test)
    def run(*args: Any, **keywords: Any) -> None:
        uvloop.run(test(*args, **keywords))

    return run


async def until(true: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "the condition did not come true"
        await asyncio.sleep(0.005)


class RacingClock:
    """A clock whose monotonic seconds are shorter than real ones."""

    def __init__(self, speed: float) -> None:
        self._speed = speed

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic() * self._speed

    async def sleep_until(self, deadline: float) -> None:
        await asyncio.sleep(max(0.0, (deadline - self.monotonic()) / self._speed))


class World:
    """A gateway with everything around it."""

    def __init__(self, folder: Path, limits: Limits, speed: float) -> None:
        self.folder = folder
        self.clock = RacingClock(speed)
        (folder / "data").mkdir()
        self.settings = Settings(data_dir=folder / "data", run_dir=folder, limits=limits)
        self.control = FakeControl(folder / "snapshots.sock", Snapshot(0))
        self.servers: dict[str, FakeServer] = {}
        self.port = 0
        self.certificate: Certificate | None = None
        """What the gateway is to be started with."""
        self.gateway: asyncio.Task[None] | None = None
        self.tasks = Tasks()
        self._stop = asyncio.Event()
        self._links: asyncio.Server | None = None

    async def instance(self, name: str, *scripts: Script) -> FakeServer:
        server = self.servers[name] = FakeServer(self.folder / f"{name}.sock", *scripts)
        await server.start()
        return server

    async def owner(self, name: str, *scripts: Script) -> FakeServer:
        """Start a process that requests are relayed to: ``control`` or ``neighbours``."""
        return await self.instance(name, *scripts)

    async def start(self, *endpoints: Endpoint) -> None:
        self.control.snapshot = snapshot(1, *endpoints)
        self._links = await link.listen(self.control.path, self.control.serve)
        await self.start_gateway()
        await until(lambda: self.control.said("applied"))

    async def start_gateway(self) -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        self.port = listening.getsockname()[1]
        self._stop = asyncio.Event()
        self.gateway = self.tasks.start(
            "gateway", serve(self.settings, listening, self._stop, self.clock, self.certificate)
        )

    async def stop_gateway(self) -> None:
        self._stop.set()
        if self.gateway is not None:
            await self.gateway

    async def close(self) -> None:
        for server in self.servers.values():
            await server.kill()
        await self.stop_gateway()
        if self._links is not None:
            self._links.close()
        for opened in list(self.control.links):
            await opened.close()
        await self.tasks.close()

    @contextlib.asynccontextmanager
    async def connected(
        self, tls: ssl.SSLContext | None = None
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=tls)
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def raw(self, request: bytes) -> Answer:
        """Send bytes on a connection of their own and read the answer."""
        async with self.connected() as (reader, writer):
            writer.write(request)
            return await asyncio.wait_for(read_answer(reader), 10)

    async def invoke(self, endpoint: str, body: bytes = b"", **headers: str) -> Answer:
        return await self.raw(self.invocation(endpoint, body, **headers))

    async def one_instance(self, *scripts: Script) -> None:
        """Start with one endpoint, ``ep``, of one instance, ``a``."""
        await self.start(endpoint("ep", variant("v1", await self.instance("a", *scripts))))

    def invocation(self, endpoint: str, body: bytes = b"", **headers: str) -> bytes:
        """Make the bytes of a signed invocation; ``content_type`` in ``headers`` is Content-Type."""
        fields = [(name.replace("_", "-").lower(), value) for name, value in headers.items()]
        return signed(f"/endpoints/{endpoint}/invocations", body, fields, self.port)


def signed(
    path: str,
    body: bytes,
    headers: list[tuple[str, str]],
    port: int,
    *,
    method: str = "POST",
    key: Credential = KEY,
    at: float | None = None,
    service: str = "sagemaker",
) -> bytes:
    """Make the bytes of a signed request."""
    fields = [("host", f"127.0.0.1:{port}"), *headers]
    request = HttpRequest(method, path, "", fields)
    digest = hashlib.sha256(body).hexdigest()
    fields += sign(request, digest, key, region=REGION, service=service, timestamp=at or time.time())
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    return f"{method} {path} HTTP/1.1\r\n{lines}content-length: {len(body)}\r\n\r\n".encode("latin-1") + body


def variant(name: str, *servers: FakeServer, weight: float = 1.0) -> Variant:
    instances = tuple(Instance(f"i-{server.path.stem}", server.address) for server in servers)
    return Variant(name, weight, "primary", instances)


def endpoint(name: str, *variants: Variant) -> Endpoint:
    arn = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:endpoint/{name}"
    return Endpoint(ACCOUNT, REGION, name, arn, variants)


def snapshot(version: int, *endpoints: Endpoint) -> Snapshot:
    return Snapshot(version, {KEY.access_key_id: KEY}, {(ACCOUNT, REGION, e.name): e for e in endpoints})


@contextlib.asynccontextmanager
async def world(*, speed: float = 1.0, **limits: Any) -> AsyncIterator[World]:
    """Make a world in a folder with a short name, because a socket's path is short."""
    folder = Path(tempfile.mkdtemp(prefix="gw-"))
    made = World(folder, replace(Limits(), **limits), speed)
    try:
        yield made
    finally:
        await made.close()
        shutil.rmtree(folder)
