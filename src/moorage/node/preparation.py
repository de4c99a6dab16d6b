"""What an instance needs before it can start: an environment, the model, variables, a place for its log."""

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from moorage.aws.instance_types import InstanceType, instance_type
from moorage.engine.artifacts import ArtifactFailure
from moorage.engine.contract import ContainerSpec, Failure, InstanceSpec, ModelSource
from moorage.engine.environments import Environment, EnvironmentFailure, Image
from moorage.engine.images.look import PythonImage
from moorage.engine.launch import ImageEngine, ImageFailure, ImageLaunch, Launch, Progress, ServingLaunch
from moorage.engine.promises import NOTHING_REFUSED, Refusals, asked_for
from moorage.engine.variables import HOSTNAME, container_variables, count_threads, make_variables
from moorage.engine.volumes import Volume
from moorage.logs.names import place_of
from moorage.logs.pump import ContainerLog, Pump

One = TypeVar("One")
Other = TypeVar("Other")


class CannotPrepare(Exception):
    """Something that an instance needs cannot be had; the text is for people."""

    def __init__(self, failure: Failure, message: str) -> None:
        super().__init__(message)
        self.failure = failure


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

    async def fetch(self, source: ModelSource, progress: Progress, holder: str) -> Path:
        """Give the folder of model data; raises ArtifactFailure."""

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

    def socket(self, spec: InstanceSpec) -> Path:
        """Say where an instance answers."""
        return self.sockets / f"{spec.instance_id}.sock"

    def log(self, spec: InstanceSpec) -> ContainerLog:
        """Give the log of an instance's container."""
        stream = f"{spec.variant}/{spec.instance_id}"
        return ContainerLog(self.pump, place_of(self.logs, spec.account, spec.region, spec.endpoint, stream))


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
    ) -> None:
        """``image_engine`` runs what is not built in; None: nothing does. ``refusals``: what is not kept here."""
        self._refusals = refusals
        self._environments = environments
        self._artifacts = artifacts
        self._disks = disks
        self._places = places
        self._machine_cpus = machine_cpus
        self._machine_memory_bytes = machine_memory_bytes
        self._image_engine = image_engine

    async def prepare(self, spec: InstanceSpec, progress: Progress, installs: Progress) -> tuple[Launch, str]:
        """Get everything for an instance's container; raises CannotPrepare.

        ``progress`` is told how far it is, ``installs`` what pip says of the model's own requirements. The second
        value names what the image's URI stands for: ``repository@sha256:digest``.
        """
        container = only_container(spec)
        try:
            image = await self._stand_in(container)
            _refuse_unkept(spec, self._refusals.serving if image is not None else self._refusals.images or {})
            if image is not None:
                return await self._prepare_serving(spec, container, image, progress, installs), image.resolved
            return await self._prepare_image(spec, container, progress)
        except (EnvironmentFailure, ImageFailure) as fault:
            raise CannotPrepare(Failure.IMAGE, str(fault)) from fault
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

    async def _prepare_serving(
        self,
        spec: InstanceSpec,
        container: ContainerSpec,
        image: Image,
        progress: Progress,
        installs: Progress,
    ) -> ServingLaunch:
        resources = resources_of(spec)
        memory_bytes = self._memory_of(resources)
        environment, (volume, data) = await _both(
            self._environments.ensure(image, progress),
            self._disk_and_model(spec, container, memory_bytes, progress),
        )
        environment = await self._with_requirements(environment, data.model, installs)
        threads = count_threads(container.environment, resources.vcpus, self._machine_cpus)
        return ServingLaunch(
            instance_id=spec.instance_id,
            environment=environment,
            model=data.model,
            additional=data.additional,
            variables=make_variables(
                container.environment, region=spec.region, python=environment.python, threads=threads
            ),
            threads=threads,
            memory_bytes=memory_bytes,
            vcpus=resources.vcpus,
            socket=self._places.socket(spec),
            log=self._places.log(spec),
            isolated=spec.network_isolation,
            volume=volume,
            core_bytes=self._disks.core_bytes(spec, memory_bytes),
        )

    def _memory_of(self, resources: InstanceType) -> int:
        """Give an instance no more than the machine has: its files in memory would end others before itself."""
        return min(resources.memory_mib * 2**20, self._machine_memory_bytes)

    async def _prepare_image(
        self, spec: InstanceSpec, container: ContainerSpec, progress: Progress
    ) -> tuple[ImageLaunch, str]:
        engine = self._image_engine
        if engine is None:
            raise ImageFailure(f"Requested image {container.image} not found.")
        resources = resources_of(spec)
        memory_bytes = self._memory_of(resources)
        resolved, (volume, data) = await _both(
            engine.ensure(container.resolved_image or container.image, progress),
            self._disk_and_model(spec, container, memory_bytes, progress),
        )
        launch = ImageLaunch(
            instance_id=spec.instance_id,
            image=resolved,
            model=data.model,
            additional=data.additional,
            variables=container_variables(container.environment, region=spec.region),
            memory_bytes=memory_bytes,
            vcpus=resources.vcpus,
            gpus=resources.accelerators,
            hostname=HOSTNAME,
            socket=self._places.socket(spec),
            log=self._places.log(spec),
            isolated=spec.network_isolation,
            volume=volume,
            core_bytes=self._disks.core_bytes(spec, memory_bytes),
        )
        return launch, resolved

    def release(self, spec: InstanceSpec) -> None:
        """Say that an instance has ended: what it needed may go."""
        self._artifacts.release(spec.instance_id)

    async def _disk_and_model(
        self, spec: InstanceSpec, container: ContainerSpec, memory_bytes: int, progress: Progress
    ) -> tuple[Path | None, ModelData]:
        """Get the instance's disk and, meanwhile, its model; one that is to be encrypted lies on that disk only."""
        making = self._disks.make(spec, memory_bytes)
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
        fetching = _Fetching(artifacts, progress, spec.instance_id)
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

    def __init__(self, artifacts: Artifacts, progress: Progress, holder: str) -> None:
        self._artifacts = artifacts
        self._progress = progress
        self._holder = holder
        self.uri = ""
        """What is being fetched."""

    async def all_of(self, container: ContainerSpec) -> ModelData:
        """Get the model, code beside it and additional data, one after the other; raises ArtifactFailure."""
        model = None if container.model is None else await self._fetch(container.model)
        if (submitted := submitted_code(container)) is not None:
            code = await self._fetch(ModelSource(submitted))
            model = await self._artifacts.with_code(model, code, self._holder)
        if not container.additional:
            return ModelData(model)
        channels = {entry.channel: await self._fetch(entry.source) for entry in container.additional}
        return ModelData(model, await self._artifacts.side_by_side(channels, self._holder))

    async def _fetch(self, source: ModelSource) -> Path:
        self.uri = source.uri
        return await self._artifacts.fetch(source, self._progress, self._holder)


def _refuse_unkept(spec: InstanceSpec, refused: Mapping[str, str]) -> None:
    """Refuse what the engine cannot keep that would run an instance; raises CannotPrepare."""
    for member in asked_for(spec):
        if member in refused:
            raise CannotPrepare(Failure.UNSUPPORTED, f"{member}: {refused[member]}")


async def _both(one: Coroutine[Any, Any, One], other: Coroutine[Any, Any, Other]) -> tuple[One, Other]:
    """Wait for both; when one fails, the other is ended before that is told: it must not write to what is then gone."""
    try:
        async with asyncio.TaskGroup() as group:
            both = group.create_task(one), group.create_task(other)
    except BaseExceptionGroup as faults:
        raise faults.exceptions[0] from None
    return both[0].result(), both[1].result()


def only_container(spec: InstanceSpec) -> ContainerSpec:
    """Give the instance's container; raises CannotPrepare for more than one."""
    if len(spec.containers) != 1:
        raise CannotPrepare(Failure.START, f"an instance has one container here, not {len(spec.containers)}")
    return spec.containers[0]


def submitted_code(container: ContainerSpec) -> str | None:
    """Give the URI of code beside the artefact, as the SageMaker SDK submits it (data-plane.md section 9.1)."""
    submitted = container.environment.get("SAGEMAKER_SUBMIT_DIRECTORY", "")
    return submitted if submitted.startswith("s3://") else None


def resources_of(spec: InstanceSpec) -> InstanceType:
    """Give the instance type's resources; raises CannotPrepare for a type of which nothing is known."""
    try:
        return instance_type(spec.instance_type)
    except KeyError as fault:
        message = f"The resources of the instance type {spec.instance_type} are not known."
        raise CannotPrepare(Failure.CAPACITY, message) from fault
