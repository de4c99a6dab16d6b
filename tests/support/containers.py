"""What tests of engines that run images share: an engine with a folder for everything, and containers that obey."""

import asyncio
import contextlib
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.engines import DEADLINE_SECONDS, printed
from tests.support.images import Image

from moorage.base.clock import SystemClock
from moorage.base.dial import connect_through
from moorage.engine.docker.daemon import Daemon
from moorage.engine.docker.engine import DockerEngine, make_docker_engine
from moorage.engine.exit import Exit
from moorage.engine.launch import Container, ImageEngine, ImageLaunch
from moorage.engine.ping import NoAnswer, ping
from moorage.engine.variables import HOSTNAME
from moorage.logs.names import Place
from moorage.logs.pump import ContainerLog, Pump
from moorage.logs.writer import Bounds

STARTS_WITHIN_SECONDS = 60.0


@dataclass
class Running:
    """A container that was started."""

    launch: ImageLaunch
    container: Container

    @property
    def log(self) -> str:
        assert isinstance(self.launch.log, ContainerLog)
        return printed(self.launch.log.folder)

    async def is_ready(self) -> "Running":
        """Wait for the first 200 of ``/ping``."""
        try:
            async with asyncio.timeout(STARTS_WITHIN_SECONDS):
                while not await self._is_well():
                    assert not self.container.ended.done(), self.log
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(f"never ready: {self.log}") from None
        return self

    async def _is_well(self) -> bool:
        with contextlib.suppress(NoAnswer):
            return await ping(self.container.address, DEADLINE_SECONDS) == 200
        return False

    async def ask(self, what: str) -> str:
        """Let the program in the container evaluate a Python expression."""
        return (await self.post(what.encode(), "text/plain")).decode()

    async def post(self, body: bytes, content_type: str) -> bytes:
        """Call ``/invocations``; gives the answer's body."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            reader, writer = await connect(self.container.address)
            head = f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
            answer = await reader.read()
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        return answer.partition(b"\r\n\r\n")[2]

    async def end(self) -> Exit:
        """Wait until it has ended, and its log is complete."""
        async with asyncio.timeout(STARTS_WITHIN_SECONDS):
            end = await asyncio.shield(self.container.ended)
        assert isinstance(self.launch.log, ContainerLog)
        await asyncio.to_thread(self.launch.log.finish)
        return end


async def connect(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to where a container answers."""
    if address.startswith("dial:"):
        return await asyncio.open_connection(sock=await connect_through(address.removeprefix("dial:")))
    if address.startswith("unix:"):
        return await asyncio.open_unix_connection(address.removeprefix("unix:"))
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


@dataclass
class ImageBench:
    """One engine for images, with a folder for everything."""

    folder: Path
    sockets: Path
    engine: ImageEngine
    pump: Pump = field(default_factory=lambda: Pump(Bounds(2**20, 2), SystemClock()))
    count: int = 0
    started: list[Running] = field(default_factory=list)

    def model(self, **files: str) -> Path:
        """Lay a model down as an extracted artefact."""
        folder = self.folder / f"model-{len(list(self.folder.iterdir()))}"
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
        return folder

    def launch(self, image: str, **parts: Any) -> ImageLaunch:
        """Describe a container; ``parts`` are members of ImageLaunch."""
        self.count += 1
        name = parts.pop("instance_id", f"i-{zlib.crc32(bytes(self.folder)):08x}{self.count:04x}")
        variables = {"AWS_REGION": "eu-north-1", **parts.pop("variables", {})}
        defaults: dict[str, Any] = {
            "model": None,
            "memory_bytes": 512 * 2**20,
            "vcpus": 1,
            "hostname": HOSTNAME,
            "socket": self.sockets / f"{name}.sock",
            "log": ContainerLog(self.pump, Place(self.folder / "logs" / "group", name)),
        }
        return ImageLaunch(instance_id=name, image=image, variables=variables, **{**defaults, **parts})

    async def start(self, image: str, **parts: Any) -> Running:
        """Start a container."""
        launch = self.launch(image, **parts)
        running = Running(launch, await self.engine.launch(launch))
        self.started.append(running)
        return running

    async def close(self) -> None:
        """Kill what still runs, and let go of everything."""
        for running in self.started:
            if not running.container.ended.done():
                await running.container.kill()
                await running.end()
        await self.engine.close()
        self.pump.close()
        shutil.rmtree(self.sockets)

    async def ready(self, image: str, **parts: Any) -> Running:
        """Start a container and wait until it is ready."""
        return await (await self.start(image, **parts)).is_ready()


def make_engine(
    daemon: Daemon, folder: Path, *, mirrors: dict[str, str] | None = None, installation: str = ""
) -> DockerEngine:
    """Make a docker engine whose installation is the folder's."""
    run_dir = folder / f"moorage-{installation or installation_of(folder)}"
    return make_docker_engine(daemon, run_dir, mirrors or {}, SystemClock(), folder / "docker" / "config.json")


def installation_of(folder: Path) -> str:
    """Name the installation of a test's folder."""
    return f"test-{zlib.crc32(bytes(folder)):08x}"


@asynccontextmanager
async def docker_bench(daemon: Daemon, folder: Path, **parts: Any) -> AsyncIterator[ImageBench]:
    """Have the docker engine; what still runs at the end is killed."""
    engine = make_engine(daemon, folder, **parts)
    await engine.prepare()
    sockets = Path(tempfile.mkdtemp(prefix="moorage-"))
    made = ImageBench(folder, sockets, engine)
    try:
        yield made
    finally:
        await made.close()


def load(daemon: Daemon, image: Image, tag: str, folder: Path) -> str:
    """Give the daemon an image that no registry has; gives its tag."""
    archive = image.archive(folder / "image.tar", tag)
    docker(daemon, "load", "--input", str(archive))
    archive.unlink()
    return tag


def docker(daemon: Daemon, *arguments: str) -> str:
    """Say something to the daemon as a developer does."""
    said = subprocess.run(
        ["docker", "--host", str(daemon.address), *arguments],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    return said.stdout.strip()
