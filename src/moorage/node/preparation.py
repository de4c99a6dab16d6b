"""What an instance needs before it can start: an environment, the model, variables, a place for its log."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from moorage.aws.instance_types import InstanceType, instance_type
from moorage.engine.artifacts import ArtifactFailure
from moorage.engine.contract import MULTI_MODEL, ContainerSpec, Failure, InstanceSpec, ModelSource
from moorage.engine.environments import Environment, EnvironmentFailure, Image
from moorage.engine.images.builtin import what_there_is
from moorage.engine.images.look import PythonImage
from moorage.engine.launch import PORT, ImageEngine, ImageFailure, ImageLaunch, Launch, Progress, ServingLaunch
from moorage.engine.promises import NOTHING_REFUSED, Refusals, asked_for
from moorage.engine.variables import (
    HOSTNAME,
    Ports,
    container_variables,
    count_threads,
    count_workers,
    make_variables,
    ports_of,
)
from moorage.engine.volumes import Volume
from moorage.front.spec import ManyModels
from moorage.logs.names import place_of
from moorage.logs.pump import ContainerLog, Pump
from moorage.node.shelves import Shelves, has_front, submitted_code

_MULTI_MODELS = "com.amazonaws.sagemaker.capabilities.multi-models"
_BINDS = "com.amazonaws.sagemaker.capabilities.accept-bind-to-port"

One = TypeVar("One")
Other = TypeVar("Other")


class CannotPrepare(Exception):
    """Something that an instance needs cannot be had; the text is for people."""

    def __init__(self, failure: Failure, message: str, container: str | None = None) -> None:
        super().__init__(message)
        self.failure = failure
        self.container = container
        """Name of the container that needs it; None: the instance does."""


class Environments(Protocol):
    """What is needed of ``engine.environments``."""

    async def resolve(self, image_uri: str) -> Image | None:
        """Give what stands for an image's URI, None when nothing does; raises EnvironmentFailure."""

    async def ensure(self, image: Image, progress: Progress) -> Environment:
        """Give the environment of an image; raises EnvironmentFailure."""

    async def overlay(self, environment: Environment, requirements: Path, progress: Progress) -> Environment:
        """Give it with a model's own requirements on top; raises EnvironmentFailure."""


class Artifacts(Protocol):
    """What is needed of ``engine.artifacts``."""

    def at(self, folder: Path) -> "Artifacts":
        """Give the same store's artefacts in another folder."""

    async def fetch(self, source: ModelSource, progress: Progress, holder: str, account: str) -> Path:
        """Give the folder of model data, of an account's buckets only; raises ArtifactFailure."""

    async def with_code(self, model: Path | None, code: Path, holder: str) -> Path:
        """Give a model's folder with another artefact as its folder ``code``; raises ArtifactFailure."""

    async def side_by_side(self, channels: Mapping[str, Path], holder: str) -> Path:
        """Give a folder that has other folders by names; raises ArtifactFailure."""

    def release(self, holder: str) -> None:
        """Say that a holder needs nothing any more."""


class Disks(Protocol):
    """What is needed of ``node.disks``."""

    async def make(self, spec: InstanceSpec, memory_bytes: int) -> Volume | None:
        """Give an instance the disk that it is to have; raises CannotPrepare."""

    def core_bytes(self, spec: InstanceSpec, memory_bytes: int) -> int:
        """Give the size of the largest core file that an instance may leave."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where things of instances are on this machine."""

    sockets: Path
    logs: Path
    pump: Pump

    def socket(self, name: str) -> Path:
        """Say where what has this name answers: an instance, or one of its containers (``Launch.instance_id``)."""
        return self.sockets / f"{name}.sock"

    def log(self, spec: InstanceSpec, container: str | None = None) -> ContainerLog:
        """Give the log of an instance, or of one of its containers (data-plane.md section 7.7)."""
        stream = "/".join(filter(None, (spec.variant, spec.instance_id, container)))
        return ContainerLog(self.pump, place_of(self.logs, spec.account, spec.region, spec.endpoint, stream))

    def logs_of(self, spec: InstanceSpec) -> dict[str, ContainerLog]:
        """Give the logs of an instance's containers, by their names."""
        several = len(spec.containers) > 1
        return {container.name: self.log(spec, container.name if several else None) for container in spec.containers}


@dataclass(frozen=True, slots=True)
class Prepared:
    """An instance, all of whose parts are there."""

    launches: tuple[Launch, ...]
    """One for each container."""
    resolved: tuple[str, ...]
    """What each image's URI stands for: ``repository@sha256:digest``."""
    stand_ins: tuple[str, ...] = ()
    """What people should know of what runs in place of images."""
    models: Mapping[str, ManyModels] = field(default_factory=dict)
    """Of the containers that serve many, by name."""


@dataclass(frozen=True, slots=True)
class _Part:
    """One container, all of whose parts are there."""

    launch: Launch
    resolved: str
    """What its image's URI stands for."""
    stand_in: str | None = None
    """What people should know of what runs in its image's place."""


class _Disk:
    """An instance's disk: made when the first of its containers needs it, once."""

    def __init__(self, make: Callable[[], Awaitable[Volume | None]]) -> None:
        self._make = make
        self._making = asyncio.Lock()
        self._made: list[Volume | None] = []

    async def get(self) -> Volume | None:
        """Give it; raises CannotPrepare."""
        async with self._making:
            if not self._made:
                self._made.append(await self._make())
        return self._made[0]


@dataclass(frozen=True, slots=True)
class Seat:
    """Where one container of an instance has its place."""

    name: str
    """Of its launch."""
    log: ContainerLog
    disk: _Disk
    memory_bytes: int
    ports: Ports | None = None
    """None: it is the only container, and listens where all do."""
    part: str | None = None
    """Name of its part of the disk; None: all of it."""
    within: str | None = None
    """What bounds all containers together (``Launch.within``)."""
    hostname: str = HOSTNAME

    async def volume(self) -> Volume | None:
        """Give what it has of the disk; raises CannotPrepare."""
        whole = await self.disk.get()
        return whole if whole is None or self.part is None else await asyncio.to_thread(whole.part, self.part)


@dataclass(frozen=True, slots=True)
class ModelData:
    """The folders of a container's data."""

    model: Path | None = None
    """None: it has no model data."""
    additional: Path | None = None
    """A folder of its additional data, by channels; None: it has none."""


class Preparation:
    """Gets what an instance needs."""

    def __init__(  # noqa: PLR0913 - all that an instance needs comes from somewhere
        self,
        environments: Environments,
        artifacts: Artifacts,
        places: Places,
        machine_cpus: int,
        image_engine: ImageEngine | None = None,
        *,
        machine_memory_bytes: int,
        disks: Disks,
        refusals: Refusals = NOTHING_REFUSED,
        shelves: Shelves,
    ) -> None:
        """``image_engine`` runs what is not built in; None: nothing does. ``refusals``: what is not kept here."""
        self._shelves = shelves
        self._refusals = refusals
        self._environments = environments
        self._artifacts = artifacts
        self._disks = disks
        self._places = places
        self._machine_cpus = machine_cpus
        self._machine_memory_bytes = machine_memory_bytes
        self._image_engine = image_engine

    async def prepare(self, spec: InstanceSpec, progress: Progress, installs: Mapping[str, Progress]) -> Prepared:
        """Get everything for an instance's containers; raises CannotPrepare.

        ``progress`` is told how far it is, ``installs``, by container, what pip says of the model's own requirements.
        """
        if not spec.containers:
            raise CannotPrepare(Failure.START, "The model has no container.")
        made: list[_Part] = await _all(
            self._prepare_one(spec, container, seat, progress, installs[container.name])
            for container, seat in zip(spec.containers, self._seats(spec), strict=True)
        )
        launches = tuple(part.launch for part in made)
        models = {
            container.name: self._shelves.many_models(spec, container, launch)
            for container, launch in zip(spec.containers, launches, strict=True)
            if launch.models is not None
        }
        stand_ins = tuple(dict.fromkeys(part.stand_in for part in made if part.stand_in))
        return Prepared(launches, tuple(part.resolved for part in made), stand_ins, models)

    def _seats(self, spec: InstanceSpec) -> list[Seat]:
        memory_bytes, logs = self._memory_of(resources_of(spec)), self._places.logs_of(spec)
        disk = _Disk(lambda: self._disks.make(spec, memory_bytes))
        if len(spec.containers) == 1:
            # Where a front stands before it, the instance's own name is the front's.
            name = f"{spec.instance_id}.1" if has_front(spec) else spec.instance_id
            return [Seat(name, log, disk, memory_bytes) for log in logs.values()]
        return [
            Seat(
                name=f"{spec.instance_id}.{at + 1}",
                log=logs[container.name],
                disk=disk,
                memory_bytes=memory_bytes,
                ports=ports_of(at),
                part=str(at + 1),
                within=spec.instance_id,
                hostname=container.name,
            )
            for at, container in enumerate(spec.containers)
        ]

    async def _prepare_one(
        self, spec: InstanceSpec, container: ContainerSpec, seat: Seat, progress: Progress, installs: Progress
    ) -> _Part:
        """Get everything for one container; raises CannotPrepare with its name."""
        try:
            return await self._prepare_container(spec, container, seat, progress, installs)
        except CannotPrepare as fault:
            raise CannotPrepare(fault.failure, str(fault), container.name) from fault

    async def _prepare_container(
        self, spec: InstanceSpec, container: ContainerSpec, seat: Seat, progress: Progress, installs: Progress
    ) -> _Part:
        try:
            image = await self._stand_in(container)
            _refuse_unkept(spec, self._refusals.serving if image is not None else self._refusals.images or {})
            if image is not None:
                launch = await self._prepare_serving(spec, container, seat, image, progress, installs)
                return _Part(launch, image.resolved, _note_of(image))
            return _Part(*await self._prepare_image(spec, container, seat, progress))
        except EnvironmentFailure as fault:
            raise CannotPrepare(Failure.IMAGE, str(fault)) from fault
        except ImageFailure as fault:
            there_is = what_there_is(container.image)
            raise CannotPrepare(Failure.IMAGE, f"{fault} {there_is}" if there_is else str(fault)) from fault
        except ArtifactFailure as fault:
            raise CannotPrepare(Failure.ARTIFACT, str(fault)) from fault

    async def _stand_in(self, container: ContainerSpec) -> Image | None:
        """Give what is to run in an image's place, None for the image itself: also where an engine has that very image.

        A deployment keeps to what its first instance has run. A Python that a user has added comes before an image.
        Raises EnvironmentFailure.
        """
        image, settled = await self._environments.resolve(container.image), container.resolved_image
        if image is None or settled == image.resolved:
            return image
        if settled is None:
            return None if not isinstance(image, PythonImage) and await self._has(container.image) else image
        if isinstance(image, PythonImage) and not await self._has(settled):
            raise EnvironmentFailure(
                f"{image.facts.python}, which stands for the image {container.image}, has changed since this "
                "deployment began: all its instances are to run the same packages. UpdateEndpoint deploys with those "
                "of now."
            )
        return image if self._image_engine is None else None

    async def _has(self, image: str) -> bool:
        return self._image_engine is not None and await self._image_engine.has(image)

    async def _prepare_serving(  # noqa: PLR0913, PLR0917 - what a launch is made of
        self,
        spec: InstanceSpec,
        container: ContainerSpec,
        seat: Seat,
        image: Image,
        progress: Progress,
        installs: Progress,
    ) -> ServingLaunch:
        resources = resources_of(spec)
        environment, (volume, data) = await _both(
            self._environments.ensure(image, progress),
            self._disk_and_model(spec, container, seat, progress),
        )
        environment = await self._with_requirements(environment, data.model, installs)
        threads = count_threads(container.environment, resources.vcpus, self._machine_cpus)
        return ServingLaunch(
            instance_id=seat.name,
            environment=environment,
            model=data.model,
            additional=data.additional,
            variables=make_variables(
                container.environment,
                region=spec.region,
                python=environment.python,
                threads=threads,
                workers=count_workers(resources.vcpus, self._machine_cpus, seat.memory_bytes),
                ports=seat.ports,
                multi_model=container.mode == MULTI_MODEL,
            ),
            models=await self._models(spec, container, volume),
            threads=threads,
            memory_bytes=seat.memory_bytes,
            vcpus=resources.vcpus,
            socket=self._places.socket(seat.name),
            log=seat.log,
            isolated=spec.network_isolation,
            volume=volume,
            within=seat.within,
            core_bytes=self._disks.core_bytes(spec, seat.memory_bytes),
        )

    def _memory_of(self, resources: InstanceType) -> int:
        """Give an instance no more than the machine has: its files in memory would end others before itself."""
        return min(resources.memory_mib * 2**20, self._machine_memory_bytes)

    async def _prepare_image(
        self, spec: InstanceSpec, container: ContainerSpec, seat: Seat, progress: Progress
    ) -> tuple[ImageLaunch, str]:
        engine = self._image_engine
        if engine is None:
            raise ImageFailure(f"Requested image {container.image} not found.")
        resources = resources_of(spec)
        resolved, (volume, data) = await _both(
            engine.ensure(container.resolved_image or container.image, progress),
            self._disk_and_model(spec, container, seat, progress),
        )
        if seat.ports is not None:
            _check_label(container.image, await engine.labels(resolved), _BINDS)
        if container.mode == MULTI_MODEL:
            _check_label(container.image, await engine.labels(resolved), _MULTI_MODELS)
        launch = ImageLaunch(
            instance_id=seat.name,
            image=resolved,
            model=data.model,
            additional=data.additional,
            variables=container_variables(
                container.environment,
                region=spec.region,
                ports=seat.ports,
                multi_model=container.mode == MULTI_MODEL,
            ),
            models=await self._models(spec, container, volume),
            memory_bytes=seat.memory_bytes,
            vcpus=resources.vcpus,
            gpus=resources.accelerators,
            hostname=seat.hostname,
            socket=self._places.socket(seat.name),
            log=seat.log,
            isolated=spec.network_isolation,
            volume=volume,
            port=PORT if seat.ports is None else seat.ports.bind,
            within=seat.within,
            core_bytes=self._disks.core_bytes(spec, seat.memory_bytes),
        )
        return launch, resolved

    def release(self, spec: InstanceSpec) -> None:
        """Say that an instance has ended: what it needed may go."""
        self._artifacts.release(spec.instance_id)

    async def clear(self, spec: InstanceSpec) -> None:
        """Remove what was made for an instance alone."""
        await asyncio.to_thread(self._shelves.clear, spec)

    async def _models(self, spec: InstanceSpec, container: ContainerSpec, volume: Path | None) -> Path | None:
        """Make the folder of a container's many models."""
        if container.mode != MULTI_MODEL:
            return None
        return await asyncio.to_thread(self._shelves.make, spec, container, volume)

    async def _disk_and_model(
        self, spec: InstanceSpec, container: ContainerSpec, seat: Seat, progress: Progress
    ) -> tuple[Path | None, ModelData]:
        """Get the instance's disk and, meanwhile, its model; one that is to be encrypted lies on that disk only."""
        making = seat.volume()
        if spec.kms_key is None:
            volume, model = await _both(making, self._model(spec, container, self._artifacts, progress))
        elif (volume := await making) is None:
            raise CannotPrepare(Failure.UNSUPPORTED, f"The model data cannot be encrypted with {spec.kms_key} here.")
        else:
            model = await self._model(spec, container, self._artifacts.at(volume.artifacts), progress)
        return (None if volume is None else volume.folder), model

    async def _model(
        self, spec: InstanceSpec, container: ContainerSpec, artifacts: Artifacts, progress: Progress
    ) -> ModelData:
        """Get all of a container's data, in the time that there is for it."""
        fetching = _Fetching(artifacts, progress, spec)
        try:
            async with asyncio.timeout(spec.download_timeout_seconds):
                return await fetching.all_of(container)
        except TimeoutError as fault:
            message = f"Getting the model data at {fetching.uri} took longer than {spec.download_timeout_seconds:g} s."
            raise CannotPrepare(Failure.ARTIFACT, message) from fault

    async def _with_requirements(self, environment: Environment, model: Path | None, installs: Progress) -> Environment:
        requirements = model / "code" / "requirements.txt" if model else None
        if requirements is None or not await asyncio.to_thread(requirements.is_file):
            return environment
        try:
            return await self._environments.overlay(environment, requirements, installs)
        except EnvironmentFailure as fault:
            raise CannotPrepare(Failure.START, str(fault)) from fault


class _Fetching:
    """A container's data on its way."""

    def __init__(self, artifacts: Artifacts, progress: Progress, spec: InstanceSpec) -> None:
        self._artifacts = artifacts
        self._progress = progress
        self._holder = spec.instance_id
        self._account = spec.account
        self.uri = ""
        """What is being fetched."""

    async def all_of(self, container: ContainerSpec) -> ModelData:
        """Get the model, code beside it and additional data, one after the other; raises ArtifactFailure."""
        # Many models are fetched when they are asked for, and the code that is beside them with each.
        model = None if container.mode == MULTI_MODEL else await self._model_of(container)
        if not container.additional:
            return ModelData(model)
        channels = {entry.channel: await self._fetch(entry.source) for entry in container.additional}
        return ModelData(model, await self._artifacts.side_by_side(channels, self._holder))

    async def _model_of(self, container: ContainerSpec) -> Path | None:
        model = None if container.model is None else await self._fetch(container.model)
        if (submitted := submitted_code(container)) is None:
            return model
        code = await self._fetch(ModelSource(submitted))
        return await self._artifacts.with_code(model, code, self._holder)

    async def _fetch(self, source: ModelSource) -> Path:
        self.uri = source.uri
        return await self._artifacts.fetch(source, self._progress, self._holder, self._account)


def _note_of(image: Image) -> str | None:
    """Give what people should know of what stands for an image; a Python that they have added is their own choice."""
    return None if isinstance(image, PythonImage) else image.contents.warning


def _refuse_unkept(spec: InstanceSpec, refused: Mapping[str, str]) -> None:
    """Refuse what the engine cannot keep that would run an instance; raises CannotPrepare."""
    for member in asked_for(spec):
        if member in refused:
            raise CannotPrepare(Failure.UNSUPPORTED, f"{member}: {refused[member]}")


def _check_label(image: str, labels: Mapping[str, str] | None, wanted: str) -> None:
    """Refuse an image that does not say that it can do what it is to do, if it says anything (section 7.2)."""
    if labels is not None and labels.get(wanted) != "true":
        raise ImageFailure(f"Your Ecr Image {image} does not contain required {wanted}=true Docker label(s).")


async def _all(works: Iterable[Coroutine[Any, Any, One]]) -> list[One]:
    """Wait for all; when one fails, the others are ended before that is told."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
    except BaseExceptionGroup as faults:
        raise faults.exceptions[0] from None
    return [task.result() for task in tasks]


async def _both(one: Coroutine[Any, Any, One], other: Coroutine[Any, Any, Other]) -> tuple[One, Other]:
    """Wait for both; when one fails, the other is ended before that is told: it must not write to what is then gone."""
    try:
        async with asyncio.TaskGroup() as group:
            both = group.create_task(one), group.create_task(other)
    except BaseExceptionGroup as faults:
        raise faults.exceptions[0] from None
    return both[0].result(), both[1].result()


def resources_of(spec: InstanceSpec) -> InstanceType:
    """Give the instance type's resources; raises CannotPrepare for a type of which nothing is known."""
    try:
        return instance_type(spec.instance_type)
    except KeyError as fault:
        message = f"The resources of the instance type {spec.instance_type} are not known."
        raise CannotPrepare(Failure.CAPACITY, message) from fault
