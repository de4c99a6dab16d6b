"""The real control plane with a fake node agent, behind a TCP port, for unmodified clients."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from tests.support.objects import store_in

from moorage.base.clock import SystemClock
from moorage.base.link import listen
from moorage.base.settings import Settings
from moorage.base.tasks import Tasks
from moorage.control.process import serve
from moorage.engine.contract import InstanceSpec
from moorage.objects.folder import FolderStore
from moorage.testing.fake_node import FakeNode, Script

IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
ROLE = "arn:aws:iam::000000000000:role/moorage"
KEY_ID = "AKIATESTTESTTESTTEST"
SECRET = "secret-of-the-tests-and-of-nobody-else-00"


@dataclass
class ControlPlane:
    """A control plane that runs; ``scripts`` says, by endpoint, how its instances live."""

    url: str
    loop: asyncio.AbstractEventLoop
    node: FakeNode
    objects: FolderStore
    scripts: dict[str, Script] = field(default_factory=dict)

    def client(self, *, region: str = "us-east-1", secret: str = SECRET, key_id: str = KEY_ID) -> Any:
        """Make a boto3 client."""
        return boto3.client(
            "sagemaker",
            endpoint_url=self.url,
            region_name=region,
            aws_access_key_id=key_id,
            aws_secret_access_key=secret,
            config=Config(retries={"total_max_attempts": 1}),
        )

    def put(self, bucket: str, key: str) -> None:
        """Put an object into the store."""
        asyncio.run_coroutine_threadsafe(self._put(bucket, key), self.loop).result(10)

    async def _put(self, bucket: str, key: str) -> None:
        async def body() -> Any:
            yield b"archive"

        with contextlib.suppress(Exception):
            await self.objects.create_bucket(bucket, account="000000000000", region="us-east-1")
        await self.objects.put(bucket, key, body())


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while content := await reader.read(65_536):
            writer.write(content)
            await writer.drain()
    writer.close()


async def _until_connected(path: Path) -> None:
    for _ in range(1000):
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_unix_connection(path)
            writer.close()
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the control plane does not listen")


async def _main(
    folder: Path, changes: Mapping[str, Any], ready: Callable[[ControlPlane], None], stop: asyncio.Event
) -> None:
    settings = Settings(data_dir=folder, run_dir=folder, **changes)
    (folder / "credentials.json").write_text(
        json.dumps(
            {
                "access_key_id": KEY_ID,
                "secret_access_key": SECRET,
                "account": settings.account,
                "user_name": "tester",
            }
        )
    )
    clock, tasks = SystemClock(), Tasks()
    plane = ControlPlane("", asyncio.get_running_loop(), None, None)  # type: ignore[arg-type]  # set below

    def script(spec: InstanceSpec) -> Script:
        return plane.scripts.get(spec.endpoint, Script(ready_after=0.05, stop_seconds=0.05))

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(folder / "control.sock")
        await asyncio.gather(_relay(reader, far_writer), _relay(far_reader, writer))

    plane.node = FakeNode(clock, tasks, script)
    plane.objects = store_in(folder, clock)
    agent = await listen(folder / "node.sock", plane.node.serve)
    control = tasks.start("control", serve(settings, stop))
    port = await asyncio.start_server(pipe, "127.0.0.1", 0)
    await _until_connected(folder / "control.sock")
    plane.url = f"http://127.0.0.1:{port.sockets[0].getsockname()[1]}"
    ready(plane)
    await control
    port.close()
    agent.close()
    await tasks.close()
    plane.objects.close()


@contextlib.contextmanager
def control_plane(folder: Path, **settings: Any) -> Iterator[ControlPlane]:
    """Run a control plane in a thread of its own, with settings that differ from the defaults."""
    started = threading.Event()
    planes: list[ControlPlane] = []
    stops: list[asyncio.Event] = []

    def ready(plane: ControlPlane) -> None:
        planes.append(plane)
        started.set()

    async def main() -> None:
        stops.append(asyncio.Event())
        await _main(folder, settings, ready, stops[0])

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    assert started.wait(20), "the control plane did not start"
    try:
        yield planes[0]
    finally:
        planes[0].loop.call_soon_threadsafe(stops[0].set)
        thread.join(20)
        assert not thread.is_alive()
