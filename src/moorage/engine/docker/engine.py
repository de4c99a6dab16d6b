"""Starts containers of any image, and removes what they leave."""

import asyncio
import contextlib
import hashlib
import logging
import os
import resource
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import orjson

from moorage.base.clock import Clock, SystemClock
from moorage.base.tasks import Tasks
from moorage.engine.credentials import config_file
from moorage.engine.dial import Dialler
from moorage.engine.docker.api import CALL_SECONDS, Api, DaemonGone, DaemonRefused
from moorage.engine.docker.configuration import (
    INSTALLATION_LABEL,
    Folder,
    Surroundings,
    lack_of_gpus,
    make_configuration,
    make_volume,
    with_gpus,
    working_folder,
    writable_folders,
)
from moorage.engine.docker.container import DockerContainer, Process
from moorage.engine.docker.daemon import Daemon, NoDaemon, find_daemon
from moorage.engine.docker.empty import make_empty, make_image
from moorage.engine.docker.images import Images
from moorage.engine.docker.network import Network
from moorage.engine.docker.output import write_output
from moorage.engine.launch import ImageLaunch, Launch, LaunchFailed, Progress, ServingLaunch

log = logging.getLogger(__name__)

EMPTY_IMAGE = "localhost/moorage/empty"
"""Name of the image of empty containers; its tag says what is in it."""

_COPY_SECONDS = 600.0
"""For a container with a volume to be created: what its image has is copied there."""

_CLEANING_SECONDS = 10.0
_NO_GPU = ("could not select device driver", "nvidia-container", "unknown or invalid runtime", "cdi device")
"""Words of a daemon that cannot give a container what it asks of GPUs."""


def make_docker_engine(
    daemon: Daemon, run_dir: Path, mirrors: Mapping[str, str], clock: Clock, credentials: Path | None = None
) -> "DockerEngine":
    """Make the engine of the installation with this folder of sockets."""
    api = Api(daemon)
    images = Images(api, mirrors=mirrors, credentials=credentials or config_file(os.environ))
    return DockerEngine(api, images, run_dir.name.removeprefix("moorage-"), clock)


def remove_leftovers(run_dir: Path) -> None:
    """Remove the containers that an installation which was killed has left, as far as that can be done. Blocks."""
    with contextlib.suppress(NoDaemon):
        engine = make_docker_engine(find_daemon(os.environ), run_dir, {}, SystemClock())
        asyncio.run(engine.prepare())


class DockerEngine:
    """Runs OCI images as they are, by the Docker API."""

    name = "docker"

    def __init__(self, api: Api, images: Images, installation: str, clock: Clock) -> None:
        """``installation`` tells this installation's containers from those of others."""
        self._api = api
        self._images = images
        self._installation = installation
        self._clock = clock
        self._network = Network(api, installation)
        self._importing = asyncio.Lock()
        self._tasks = Tasks()

    async def prepare(self) -> None:
        """Remove what a node agent that was killed has left. Called once, before the first launch."""
        try:
            await self._remove_leftovers()
            await self._network.remove()
        except (DaemonGone, DaemonRefused) as fault:
            log.error("containers of an earlier run may be left: %s", fault)

    async def _remove_leftovers(self) -> None:
        filters = orjson.dumps({"label": [f"{INSTALLATION_LABEL}={self._installation}"]}).decode()
        containers = await self._api.call("GET", "/containers/json", query={"all": "true", "filters": filters})
        volumes = await self._api.call("GET", "/volumes", query={"filters": filters})
        paths = [
            *(f"/containers/{container['Id']}" for container in containers),
            *(f"/volumes/{volume['Name']}" for volume in volumes["Volumes"] or ()),
        ]
        for path in paths:
            log.info("removing %s of an earlier run", path)
            await self._remove(path)

    async def has(self, image: str) -> bool:
        """Say whether this very image is on this machine, without asking a registry."""
        return await self._images.has(image)

    async def ensure(self, image: str, progress: Progress) -> str:
        """Have an image on this machine, pulled if need be; gives ``repository@sha256:digest``. Raises ImageFailure."""
        return await self._images.ensure(image, progress)

    async def labels(self, image: str) -> Mapping[str, str] | None:
        """Give the labels of an image that ``ensure`` gave; None where they are not known."""
        try:
            found = await self._images.inspect(image)
        except (DaemonGone, DaemonRefused):
            return None
        return dict((found.get("Config") or {}).get("Labels") or {})

    async def launch(self, launch: ImageLaunch) -> DockerContainer:
        """Start a container; raises LaunchFailed."""
        if launch.isolated and not self._api.daemon.here:
            raise LaunchFailed(
                f"The container cannot be isolated from the network: {self._api.daemon} runs it in a virtual machine, "
                "where Moorage could not reach it. Use a daemon of this machine, or the engine sandbox."
            )
        try:
            return await self._launch(launch)
        except (DaemonGone, DaemonRefused, OSError) as fault:
            raise LaunchFailed(f"The container could not be started: {fault}") from fault

    async def _launch(self, launch: ImageLaunch) -> DockerContainer:
        image = await self._images.inspect(launch.image)
        folders = writable_folders(launch, image)
        await asyncio.to_thread(_make_folders, folders)
        if not launch.isolated:
            await self._network.ensure()
        body = make_configuration(
            launch,
            self._images.local_name(launch.image),
            self._surroundings(launch),
            folders,
            working_folder=working_folder(launch, image),
        )
        async with contextlib.AsyncExitStack() as undo:
            for folder in folders:
                volume = make_volume(launch, folder, self._installation)
                await self._api.call("POST", "/volumes/create", body=volume)
                undo.push_async_callback(self._remove, f"/volumes/{volume['Name']}")
            container, output = await self._run_with_gpus(launch, body, undo)
            self._tasks.start(f"watch {launch.instance_id}", container.watch(output, undo.pop_all().aclose))
        return container

    async def _run_with_gpus(
        self, launch: ImageLaunch, body: dict[str, Any], undo: contextlib.AsyncExitStack
    ) -> tuple[DockerContainer, "asyncio.Task[None]"]:
        """Run a container with the GPUs that it asks for, or without any where this machine has none."""
        if not launch.gpus:
            return await self._run(launch, body, undo)
        fault: Exception | None = lack_of_gpus(self._api.daemon)
        if fault is None:
            try:
                return await self._run(launch, with_gpus(body, launch.gpus, self._api.daemon), undo)
            except DaemonRefused as refused:
                if not _is_about_gpus(str(refused)):
                    raise
                fault = refused
        await asyncio.to_thread(_say, launch, f"This container runs without a GPU: {fault}")
        return await self._run(launch, body, undo)

    def _surroundings(self, launch: Launch) -> Surroundings:
        return Surroundings(
            self._api.daemon,
            self._installation,
            network="none" if launch.isolated else self._network.name,
            published=self._is_published and not launch.isolated,
            nofile=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        )

    @property
    def _is_published(self) -> bool:
        """Addresses of its networks are not this machine's: containers are reached at a port of the loopback."""
        return self._api.daemon.rootless or not self._api.daemon.here

    async def _run(
        self, launch: ImageLaunch, body: dict[str, Any], undo: contextlib.AsyncExitStack
    ) -> tuple[DockerContainer, "asyncio.Task[None]"]:
        """Create, attach, start; gives what writes the log too. ``undo`` takes what is to be done at its end."""
        async with contextlib.AsyncExitStack() as attempt:
            container_id = await self._create(launch, body, attempt)
            path = f"/containers/{container_id}"
            output = await self._attach(launch, path)
            attempt.callback(output.cancel)
            found, process = await self._start(launch, path, attempt)
            address = self._address(found, launch.port) or f"unix:{launch.socket}"
            if launch.isolated and (dialler := await _open_dialler(launch, process)):
                attempt.push_async_callback(dialler.close)
                address = dialler.address
            undo.push_async_exit(attempt.pop_all())
        container = DockerContainer(
            self._api, container_id, address=address, process=process, tasks=self._tasks, clock=self._clock
        )
        return container, output

    async def _start(
        self, launch: Launch, path: str, attempt: contextlib.AsyncExitStack
    ) -> tuple[Mapping[str, Any], Process | None]:
        """Start a container that was created; gives what the daemon says of it, and its first process."""
        await self._api.call("POST", f"{path}/start")
        found: Mapping[str, Any] = await self._api.call("GET", f"{path}/json")
        process = _watch_process(found) if self._api.daemon.here else None
        if process is not None:
            attempt.callback(process.close)
        if not launch.isolated:
            await asyncio.to_thread(self._network.isolate_ports)
        return found, process

    async def hold(self, launch: ServingLaunch) -> DockerContainer:
        """Start a container that is empty and only waits, for an instance to be forked into; raises LaunchFailed."""
        try:
            image = await self._ensure_empty_image()
            if not launch.isolated:
                await self._network.ensure()
            body = await asyncio.to_thread(make_empty, launch, image, self._surroundings(launch))
            async with contextlib.AsyncExitStack() as attempt:
                container_id = await self._create(launch, body, attempt)
                _found, process = await self._start(launch, f"/containers/{container_id}", attempt)
                await asyncio.to_thread(_check_entrance, process, container_id)
                undo = attempt.pop_all()
        except (DaemonGone, DaemonRefused, OSError) as fault:
            raise LaunchFailed(f"The container could not be started: {fault}") from fault
        container = DockerContainer(
            self._api,
            container_id,
            address=f"unix:{launch.socket}",
            process=process,
            tasks=self._tasks,
            clock=self._clock,
        )
        self._tasks.start(f"watch the container of {launch.instance_id}", container.watch(None, undo.aclose))
        return container

    async def _ensure_empty_image(self) -> str:
        """Have the image of empty containers: people prune what no container uses. Raises DaemonGone, DaemonRefused."""
        async with self._importing:
            archive = await asyncio.to_thread(make_image)
            tag = hashlib.sha256(archive).hexdigest()[:16]
            try:
                await self._api.call("GET", f"/images/{EMPTY_IMAGE}:{tag}/json")
            except DaemonRefused as fault:
                if fault.status != HTTPStatus.NOT_FOUND:
                    raise
                said = await self._api.call("POST", "/images/create", query={"fromSrc": "-"}, body=archive)
                query = {"repo": EMPTY_IMAGE, "tag": tag}  # podman 4 knows no tag above
                await self._api.call("POST", f"/images/{said['status']}/tag", query=query)
        return f"{EMPTY_IMAGE}:{tag}"

    async def _create(self, launch: Launch, body: Mapping[str, Any], attempt: contextlib.AsyncExitStack) -> str:
        """Create a container, which is removed when the attempt is undone; gives its id."""
        query = {"name": f"moorage-{launch.instance_id}"}
        seconds = _COPY_SECONDS if launch.volume else CALL_SECONDS
        created = await self._api.call("POST", "/containers/create", query=query, body=body, seconds=seconds)
        attempt.push_async_callback(self._remove, f"/containers/{created['Id']}")
        return str(created["Id"])

    def _address(self, found: Mapping[str, Any], port: int) -> str:
        """Say where a container answers; empty where it has ended already."""
        settings = found["NetworkSettings"]
        if self._is_published:
            ports = (settings.get("Ports") or {}).get(f"{port}/tcp")
            return f"127.0.0.1:{ports[0]['HostPort']}" if ports else ""
        network = (settings.get("Networks") or {}).get(self._network.name) or {}
        host = network.get("IPAddress")
        return f"{host}:{port}" if host else ""

    async def _attach(self, launch: ImageLaunch, path: str) -> "asyncio.Task[None]":
        """Begin to write a container's output to its log; it is attached when this returns."""
        attached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        writing = self._tasks.start(f"output of {launch.instance_id}", self._write(launch, path, attached))
        await attached
        return writing

    async def _write(self, launch: ImageLaunch, path: str, attached: "asyncio.Future[None]") -> None:
        descriptor = -1
        query = {"stream": "1", "stdout": "1", "stderr": "1"}
        try:
            descriptor = await asyncio.to_thread(launch.log.open)
            async with self._api.stream("POST", f"{path}/attach", query=query) as pieces:
                attached.set_result(None)
                await write_output(pieces, descriptor)
        except (DaemonGone, DaemonRefused, OSError) as fault:
            if not attached.done():
                attached.set_exception(fault)
            else:
                log.warning("what %s still says is lost: %s", launch.instance_id, fault)
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    async def _remove(self, path: str) -> None:
        """Remove a container with its nameless volumes, or a volume; what cannot be is removed at the next start."""
        try:
            await self._api.call("DELETE", path, query={"force": "true", "v": "true"})
        except DaemonRefused as fault:
            if fault.status != HTTPStatus.NOT_FOUND:
                log.warning("%s is left: %s", path, fault)
        except DaemonGone as fault:
            log.warning("%s is left: %s", path, fault)

    async def close(self) -> None:
        """Clean up after the last containers, which whoever calls has ended before."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLEANING_SECONDS):
                await self._tasks.wait(_CLEANING_SECONDS)
                await self.prepare()
        await self._tasks.close()
        await self._images.close()

    def __repr__(self) -> str:
        return f"<DockerEngine: {self._api.daemon}>"


def _make_folders(folders: Iterable[Folder]) -> None:
    for folder in folders:
        folder.source.mkdir(exist_ok=True)
        folder.source.chmod(folder.mode)


def _watch_process(found: Mapping[str, Any]) -> Process | None:
    """Watch a container's first process; None where it has ended already."""
    pid = int(found["State"].get("Pid") or 0)
    try:
        return Process(pid) if pid else None
    except ProcessLookupError:
        return None


def _check_entrance(process: Process | None, container_id: str) -> None:
    """Look whether a container's first process is the one that has its number here; raises LaunchFailed, OSError.

    Of a Moorage that is in a container itself, beside a daemon outside, process ids are others.
    """
    if process is None:
        raise LaunchFailed("The container ended before an instance was in it.")
    if container_id not in Path(f"/proc/{process.pid}/cgroup").read_text(encoding="utf-8"):
        raise LaunchFailed(
            f"The container cannot be entered: process {process.pid} is another one here than where the daemon is. "
            "Start Moorage outside of containers, or with the engine sandbox."
        )


async def _open_dialler(launch: ImageLaunch, process: Process | None) -> Dialler | None:
    """Serve connections into a container's network; raises LaunchFailed where this user may not enter it."""
    if process is None:
        return None
    try:
        return await Dialler.open(process.pid, launch.socket, launch.port)
    except FileNotFoundError:
        return None
    except OSError as fault:
        raise LaunchFailed(
            f"The container cannot be isolated from the network: this user may not enter its network namespace, "
            f"without which nobody reaches it ({fault}). Start Moorage as root, or use the engine sandbox."
        ) from fault


def _is_about_gpus(text: str) -> bool:
    low = text.lower()
    return any(word in low for word in _NO_GPU)


def _say(launch: ImageLaunch, line: str) -> None:
    """Tell the users of an instance something in its log."""
    log.warning("%s: %s", launch.instance_id, line)
    descriptor = launch.log.open()
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)
