"""One bench over all engines: whatever runs it, an instance is a model that evaluates what it is sent."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.support.containers import ImageBench, Running, docker_bench
from tests.support.engines import OBEDIENT

from moorage.engine.docker.daemon import Daemon
from moorage.engine.exit import Exit


class AnyInstance(Protocol):
    """An instance on any engine."""

    @property
    def instance_id(self) -> str: ...

    @property
    def pid(self) -> int: ...

    async def ask(self, what: str) -> str:
        """Let the model evaluate a Python expression."""

    async def kill(self) -> None: ...

    async def end(self) -> Exit: ...


class AnyBench(Protocol):
    """Any engine."""

    async def ready(
        self,
        code: str = OBEDIENT,
        name: str = "model",
        *,
        memory_mib: int = 512,
        vcpus: float = 1,
        isolated: bool = False,
    ) -> AnyInstance:
        """Start an instance of new code and wait until it is ready."""


@dataclass(frozen=True)
class ContainerInstance:
    """A container that does as the models of built-in images do."""

    running: Running

    @property
    def instance_id(self) -> str:
        return self.running.launch.instance_id

    @property
    def pid(self) -> int:
        return self.running.container.pid

    async def ask(self, what: str) -> str:
        return await self.running.ask(what)

    async def kill(self) -> None:
        await self.running.container.kill()

    async def end(self) -> Exit:
        return await self.running.end()


@dataclass(frozen=True)
class ContainerBench:
    """An engine of images, whose one image is an obedient server."""

    images: ImageBench
    image: str

    async def ready(
        self,
        code: str = OBEDIENT,
        name: str = "model",
        *,
        memory_mib: int = 512,
        vcpus: float = 1,
        isolated: bool = False,
    ) -> ContainerInstance:
        running = await self.images.ready(
            self.image,
            memory_bytes=memory_mib * 2**20,
            vcpus=vcpus,
            isolated=isolated,
            variables={"BEFORE_SERVING": code.removeprefix(OBEDIENT), "NAME": name},
        )
        return ContainerInstance(running)


@asynccontextmanager
async def containers_of_docker(daemon: Daemon, image: str, folder: Path) -> AsyncIterator[AnyBench]:
    """Have the engine docker with an obedient image."""
    async with docker_bench(daemon, folder) as made:
        yield ContainerBench(made, image)
