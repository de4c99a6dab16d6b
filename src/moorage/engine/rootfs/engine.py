"""The image engine ``sandbox``: containers of any image, of its unpacked layers and this kernel's namespaces.

``room`` makes a container; here is what is around it: the image's files kept, limits set, ids that are this
container's alone, a way in (``engine.dial``), a way out (``engine.network``), and all taken away at the end.
"""

import asyncio
import contextlib
import logging
import os
import zlib
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

from moorage.base.clock import Clock
from moorage.base.settings import Settings
from moorage.base.tasks import Tasks
from moorage.engine.cgroups import Cgroup, Cgroups, GroupLimits
from moorage.engine.child import Child
from moorage.engine.credentials import config_file
from moorage.engine.dial import Dialler
from moorage.engine.launch import ImageLaunch, LaunchFailed, Progress
from moorage.engine.launcher import PROCESSES_OF_ONE, Running
from moorage.engine.network import NetworkUnavailable
from moorage.engine.registry.client import RegistryClient
from moorage.engine.rootfs.maker import Maker
from moorage.engine.rootfs.network import give_way_out, resolver_file
from moorage.engine.rootfs.pull import Images
from moorage.engine.rootfs.room import IDS, Order
from moorage.engine.rootfs.store import ImageStore, KnownImage

log = logging.getLogger(__name__)

_FIRST_ID = 0x7000_0000
_RANGES = 4096
"""Ranges of user ids that no account has: above those that systemd leaves to containers, below 2^31."""

_STAGE = "stage"
"""Folder of ``run_dir`` that containers' mounts are made over; nobody but they sees them."""

_CLEANING_SECONDS = 5.0
_NO_GPUS = "the engine sandbox hands none on to images. Docker with NVIDIA's runtime does."
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def make_unpacked_images(
    settings: Settings, cgroups: Cgroups, clock: Clock, *, as_root: bool, credentials: Path | None = None
) -> "UnpackedImages":
    """Make the engine of an installation."""
    store = ImageStore(settings.images)
    ids = IdRanges(str(settings.run_dir)) if as_root else None
    images = make_images(settings, store, clock, credentials)
    return UnpackedImages(images, store, cgroups, stage=settings.run_dir / _STAGE, ids=ids)


def make_images(settings: Settings, store: ImageStore, clock: Clock, credentials: Path | None = None) -> Images:
    """Make what gets images into an installation's store."""
    plain = [name.strip() for name in settings.plain_registries.split(",") if name.strip()]
    client = RegistryClient(credentials or config_file(os.environ), plain)
    return Images(store, client, settings.limits, clock, settings.registry_mirrors)


class UnpackedImages:
    """Runs images without a container engine."""

    name = "sandbox"

    def __init__(
        self, images: Images, store: ImageStore, cgroups: Cgroups, *, stage: Path, ids: "IdRanges | None"
    ) -> None:
        """``stage``: an empty folder; ``ids``: None for an ordinary user, all of whose containers are that user."""
        self._images = images
        self._store = store
        self._cgroups = cgroups
        self._stage = stage
        self._ids = ids
        self._maker = Maker()
        self._tasks = Tasks()

    async def prepare(self) -> None:
        """Remove what an earlier run that was killed has left. Of its containers nothing is: the kernel saw to that."""
        await asyncio.to_thread(self._store.clear_unfinished)

    async def has(self, image: str) -> bool:
        """Say whether this very image is on this machine, without asking a registry."""
        return await asyncio.to_thread(self._images.has, image)

    async def ensure(self, image: str, progress: Progress) -> str:
        """Have an image on this machine, pulled if need be; gives ``repository@sha256:digest``. Raises ImageFailure."""
        reference, known = await self._images.ensure(image, progress)
        return reference.pinned(known.digest)

    async def labels(self, image: str) -> Mapping[str, str] | None:
        """Give the labels of an image that ``ensure`` gave; None where they are not known."""
        known = await asyncio.to_thread(self._store.find, image.rpartition("@")[2])
        return None if known is None else known.labels

    async def launch(self, launch: ImageLaunch) -> Running:
        """Start a container; the image's program runs when this returns. Raises LaunchFailed."""
        async with AsyncExitStack() as around:
            try:
                running = await self._start(launch, around)
            except OSError as fault:
                raise LaunchFailed(f"the container could not be started: {fault}") from fault
            self._tasks.start(f"watch {launch.instance_id}", self._watch(running, around.pop_all()))
        return running

    async def _start(self, launch: ImageLaunch, around: AsyncExitStack) -> Running:
        """Make the container and open its gate; what it has to be rid of at its end goes ``around`` it."""
        known = await self._take_image(launch.image, around)
        first_id = self._take_ids(launch.instance_id, around)
        group = await self._take_group(launch, around)
        await asyncio.to_thread(self._stage.mkdir, parents=True, exist_ok=True)
        order = make_order(
            launch,
            known,
            layers=self._store.layers(known),
            stage=self._stage,
            first_id=first_id,
            cgroups=self._cgroups,
            resolver="" if launch.isolated else await asyncio.to_thread(resolver_file),
        )
        output = await asyncio.to_thread(launch.log.open)
        if launch.gpus:
            os.write(output, f"This container runs without a GPU: {_NO_GPUS}\n".encode())
        reader, gate = os.pipe()
        around.callback(os.close, gate)
        try:
            pid = await self._maker.make(order, output, reader)
            running = Running(Child(pid), group, f"dial:{launch.socket}", ends_as_one=True)
            try:
                await self._connect(launch, running, first_id, output, around)
                await asyncio.to_thread(group.join, pid)
            except ProcessLookupError:
                log.info("%s ended before the image's program ran", launch.instance_id)
            except BaseException:
                await running.kill()
                await running.wait()
                raise
            with contextlib.suppress(BrokenPipeError):
                os.write(gate, b"1")
            return running
        finally:
            os.close(reader)
            os.close(output)

    async def _take_image(self, image: str, around: AsyncExitStack) -> KnownImage:
        digest = image.rpartition("@")[2]
        around.callback(os.close, await asyncio.to_thread(self._store.hold, digest))
        known = await asyncio.to_thread(self._store.find, digest)
        if known is None:
            raise LaunchFailed(f"{image} is on this machine no more: it was removed just now.")
        return known

    def _take_ids(self, instance_id: str, around: AsyncExitStack) -> int | None:
        if self._ids is None:
            return None
        first_id = self._ids.take(instance_id)
        around.callback(self._ids.give_back, instance_id)
        return first_id

    async def _take_group(self, launch: ImageLaunch, around: AsyncExitStack) -> Cgroup:
        limits = GroupLimits(launch.memory_bytes, launch.vcpus, PROCESSES_OF_ONE)
        group = await asyncio.to_thread(self._cgroups.make, launch.instance_id, limits, within=launch.within)

        async def remove() -> None:
            if not await asyncio.to_thread(group.remove):
                log.warning("the control group of %s is still in use", launch.instance_id)

        around.push_async_callback(remove)
        return group

    async def _connect(
        self, launch: ImageLaunch, running: Running, first_id: int | None, output: int, around: AsyncExitStack
    ) -> None:
        """Let the container be reached from this machine and, unless it is isolated, reach others."""
        dialler = await Dialler.open(running.pid, launch.socket, launch.port)
        around.push_async_callback(dialler.close)
        if launch.isolated:
            return
        try:
            outbound = await give_way_out(running.pid, first_id)
        except NetworkUnavailable as fault:
            os.write(output, f"This container cannot reach any network: {fault}\n".encode())
        else:
            around.push_async_callback(outbound.close)

    async def _watch(self, running: Running, around: AsyncExitStack) -> None:
        end = await running.wait()
        try:
            await around.aclose()
        finally:  # not before: whoever hears of the end may use the name, and so the socket, anew
            running.ended.set_result(end)

    async def close(self) -> None:
        """Clean up after the last containers, which whoever calls has ended before."""
        await self._tasks.wait(_CLEANING_SECONDS)
        await self._tasks.close()
        await self._maker.close()

    def __repr__(self) -> str:
        return f"<UnpackedImages: {len(self._tasks)} running>"


class IdRanges:
    """The ranges of user ids of one installation's containers: each is one living container's."""

    def __init__(self, installation: str) -> None:
        """Begin somewhere that depends on the installation, as others of this machine take ranges too."""
        self._start = zlib.crc32(installation.encode()) % _RANGES
        self._taken: dict[str, int] = {}

    def take(self, instance_id: str) -> int:
        """Give a container the next range that no other has; raises OSError when all are taken."""
        used = set(self._taken.values())
        for step in range(_RANGES):
            number = (self._start + step) % _RANGES
            if number not in used:
                self._taken[instance_id] = number
                return _FIRST_ID + number * IDS
        raise OSError(f"{_RANGES} containers run on this machine already")

    def give_back(self, instance_id: str) -> None:
        """Take a container's range back."""
        self._taken.pop(instance_id, None)


def make_order(  # noqa: PLR0913 - what an order says
    launch: ImageLaunch,
    image: KnownImage,
    *,
    layers: list[Path],
    stage: Path,
    first_id: int | None,
    cgroups: Cgroups,
    resolver: str,
) -> Order:
    """Say what container is to be made."""
    environment = {"PATH": _PATH, "HOME": image.home, **image.environment, "HOSTNAME": launch.hostname}
    arguments = (*image.entrypoint, *launch.arguments)
    if not arguments:
        raise LaunchFailed(f"{launch.image} has no ENTRYPOINT, and there is nothing else to run.")
    return Order(
        stage=str(stage),
        layers=tuple(str(layer) for layer in layers),
        disk=None if launch.volume is None else str(launch.volume),
        memory_bytes=launch.memory_bytes,
        limit_bytes=None if "memory" in cgroups.controllers else launch.memory_bytes,
        model=None if launch.model is None else str(launch.model),
        additional=None if launch.additional is None else str(launch.additional),
        models=None if launch.models is None else str(launch.models),
        first_id=first_id,
        uid=image.uid,
        gid=image.gid,
        groups=image.groups,
        hostname=launch.hostname,
        files={
            "/etc/hosts": f"127.0.0.1 localhost\n::1 localhost ip6-localhost\n127.0.0.1 {launch.hostname}\n",
            "/etc/hostname": f"{launch.hostname}\n",
            "/etc/resolv.conf": resolver,
        },
        arguments=arguments,
        environment={**environment, **launch.variables},
        folder=image.folder,
        core_bytes=launch.core_bytes,
        control_groups=cgroups.visible,
    )
