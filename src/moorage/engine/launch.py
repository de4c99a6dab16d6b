"""What an engine is asked to start, and what an engine is.

There are two kinds of launches. A built-in image is a serving stack in an environment: its instances are forked from a
warm process (``launcher``, over the engines ``sandbox``, ``process`` and ``docker.guests``). Any other image is run as
it is, by an ``ImageEngine``: the Docker API, or the unpacked root file system in the sandbox.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from moorage.engine.environments import Environment
from moorage.engine.exit import Exit

Progress = Callable[[str], None]

PORT = 8080
"""Where containers answer (data-plane.md section 7.1), unless they are told another place."""


class Log(Protocol):
    """Where what a container prints goes (``logs.pump.ContainerLog``)."""

    def open(self) -> int:
        """Give a descriptor to write to, which whoever calls closes; blocks, raises OSError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One container, all of whose parts are there."""

    instance_id: str
    """Of several containers of an instance ``INSTANCE.N``: a name that no other launch has."""
    model: Path | None
    """Folder of the extracted artefact; None: the container has no model data."""
    additional: Path | None = None
    """Folder of additional model data, by channels; None: it has none."""
    variables: Mapping[str, str]
    memory_bytes: int
    vcpus: float
    socket: Path
    """Where the instance will answer, or be dialled."""
    log: Log
    isolated: bool = False
    """No network."""
    volume: Path | None = None
    """Folder of this machine that is the instance's disk: all that it may write is there. None: memory.

    ``volumes.Volume`` says what is in it already; an engine may add folders of its own.
    """
    models: Path | None = None
    """Folder of many models, which come and go while the container runs; None: it has one model, or none."""
    port: int = PORT
    """Where a third-party image listens."""
    within: str | None = None
    """Name of the control group that bounds all containers of the instance together; None: it is the only one."""
    core_bytes: int = 0
    """Largest core file that a crash may leave in the working folder, which is in the volume; 0: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingLaunch(Launch):
    """A container of a built-in image."""

    environment: Environment
    threads: int
    """Of numerical libraries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLaunch(Launch):
    """A container of any other image."""

    image: str
    """``repository@sha256:digest``, as ``ImageEngine.ensure`` gave it."""
    hostname: str
    gpus: int = 0
    arguments: tuple[str, ...] = ("serve",)
    """In place of the image's CMD; its ENTRYPOINT stays (data-plane.md section 7.1)."""


class LaunchFailed(Exception):
    """The container could not be started; the text is for people."""


class ImageFailure(Exception):
    """An image cannot be had; the text is for people."""


class Container(Protocol):
    """A container that was started."""

    @property
    def pid(self) -> int:
        """Process id of its first process on this machine."""

    @property
    def address(self) -> str:
        """Where it answers (``contract.InstanceReport.address``)."""

    @property
    def ended(self) -> "asyncio.Future[Exit]":
        """How it ended, once nothing of it is left."""

    def terminate(self) -> None:
        """Ask it to end (SIGTERM)."""

    async def kill(self) -> None:
        """End all of it (SIGKILL)."""


class Group(Protocol):
    """What bounds an instance's processes and holds them together; its methods block."""

    def join(self, pid: int) -> None:
        """Put a process into it, and with it all that it will start; raises OSError."""

    def out_of_memory_kills(self) -> int:
        """Count the processes that the kernel has killed at the memory limit."""

    def kill(self) -> None:
        """Kill every process of it."""

    def remove(self) -> bool:
        """Remove it; False while a process of it is still there."""


class Engine(Protocol):
    """How a zygote and its instances are run on this machine."""

    @property
    def name(self) -> str:
        """``docker``, ``sandbox`` or ``process``."""

    @property
    def makes_rooms(self) -> bool:
        """An instance's process gets namespaces of its own when it is forked."""

    @property
    def forks_ahead(self) -> bool:
        """An instance's process can be forked before anybody knows of the instance."""

    @property
    def ends_as_one(self) -> bool:
        """The end of an instance's first process is the end of all its processes (a process namespace's promise)."""

    def prepare(self) -> None:
        """Make what zygotes will need; blocks. Called once, before the first launch."""

    def zygote_command(self, environment: Environment) -> list[str]:
        """Give the command of an environment's zygote, without its arguments."""

    async def surround(self, launch: ServingLaunch) -> Group | None:
        """Start the container that this instance is to be forked into; None: a control group is to bound it.

        Raises LaunchFailed.
        """

    def order(self, launch: ServingLaunch, *, bounded: bool) -> dict[str, Any]:
        """Give the order to become this instance; ``bounded``: a control group limits its memory. Blocks."""

    def open_namespaces(self, launch: ServingLaunch) -> tuple[int, ...]:
        """Open the namespaces that the instance is to be forked into, if it is; whoever calls closes them."""

    def open_disk(self, launch: ServingLaunch) -> tuple[int, ...]:
        """Open the instance's disk, if it is to mount one; whoever calls closes it."""

    async def release(self, instance_id: str) -> None:
        """Take back what an instance that has ended had."""


class ImageEngine(Protocol):
    """Runs OCI images as they are."""

    @property
    def name(self) -> str:
        """``docker`` or ``sandbox``."""

    async def has(self, image: str) -> bool:
        """Say whether this very image is on this machine, without asking a registry."""

    async def ensure(self, image: str, progress: Progress) -> str:
        """Have an image on this machine, pulled if need be; gives ``repository@sha256:digest``. Raises ImageFailure."""

    async def labels(self, image: str) -> Mapping[str, str] | None:
        """Give the labels of an image that ``ensure`` gave; None where they are not known."""

    async def launch(self, launch: ImageLaunch) -> Container:
        """Start a container; raises LaunchFailed."""

    async def close(self) -> None:
        """Clean up after the last containers, which whoever calls has ended before."""
