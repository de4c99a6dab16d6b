"""Which engine starts what: serving stacks are forked from warm processes, other images are run as they are."""

from typing import Protocol

from moorage.engine.contract import InstanceSpec
from moorage.engine.images import builtin
from moorage.engine.launch import Container, ImageEngine, ImageLaunch, Launch, LaunchFailed, ServingLaunch


class ServingLauncher(Protocol):
    """What starts containers of built-in images (``engine.launcher.Launcher``)."""

    @property
    def has_spare(self) -> bool:
        """Whether the next launch may find its process forked, and in its control groups."""

    async def launch(self, launch: ServingLaunch) -> Container:
        """Start a container; raises LaunchFailed."""

    async def close(self) -> None:
        """Clean up."""


class Engines:
    """The engines of this machine."""

    def __init__(self, serving: ServingLauncher, images: ImageEngine | None = None) -> None:
        self._serving = serving
        self._images = images

    def has_spare_for(self, spec: InstanceSpec) -> bool:
        """Whether an instance may find its process forked, and in its control groups."""
        alone = len(spec.containers) == 1
        return alone and builtin.resolve(spec.containers[0].image) is not None and self._serving.has_spare

    async def launch(self, launch: Launch) -> Container:
        """Start a container by the engine that can; raises LaunchFailed."""
        if isinstance(launch, ServingLaunch):
            return await self._serving.launch(launch)
        if isinstance(launch, ImageLaunch) and self._images is not None:
            return await self._images.launch(launch)
        raise LaunchFailed(f"No engine of this machine starts {launch.instance_id}.")

    async def close(self) -> None:
        """Clean up after the last containers, which whoever calls has ended before."""
        await self._serving.close()
        if self._images is not None:
            await self._images.close()
