"""What an instance is, what is reported of it, and what control plane and node agent say to each other.

The node agent listens at ``run_dir/node.sock`` (``base.link``). The control plane calls it and sends

    {"op": "launch", "spec": InstanceSpec}        idempotent: an id that is known is not started twice
    {"op": "stop", "instance_id": ...}            idempotent: SIGTERM, after the grace SIGKILL
    {"op": "forget", "instance_id": ...}          the record of an instance that has ended may go

The node agent answers each call with everything it knows, and from then on with each change:

    {"op": "report", "complete": true, "instances": [InstanceReport, ...],
     "machine": {"vcpus": 4, "memory_mib": 16000, "gpus": 1, "gpu_driver": "550.54"},    what there is for instances
     "refuses": {"VolumeSizeInGB": "why, and what to do"},         members of the API that no engine here keeps
     "runs_images": true}                                          an engine here runs images that are not built in
    {"op": "report", "complete": false, "instances": [InstanceReport, ...]}

An instance that has ended (FAILED, EXITED, STOPPED) stays in the reports until it is forgotten.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where model data comes from (data-plane.md section 7.3); the words are those of S3ModelDataSource."""

    uri: str
    """``s3://bucket/key`` or ``https://...``; a prefix ends with ``/``."""
    data_type: str = "S3Object"
    """``S3Object`` or ``S3Prefix``."""
    compression: str = "Gzip"
    """``Gzip``: a ``.tar.gz`` that is extracted; ``None``: files as they are."""
    manifest: str | None = None
    """``s3://bucket/key`` of the list of the prefix's objects that count; None: all do."""
    etag: str | None = None
    """The only ETag that the object may have; None: any."""
    manifest_etag: str | None = None
    """The same of the manifest."""


@dataclass(frozen=True, slots=True)
class AdditionalSource:
    """Data beside the model's own (AdditionalModelDataSources)."""

    channel: str
    """Name of its folder in ``/opt/ml/additional-model-data-sources``."""
    source: ModelSource


SINGLE_MODEL, MULTI_MODEL = "SingleModel", "MultiModel"


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """One container of an instance."""

    name: str
    """``primary`` for a model of one container, else its ContainerHostname or ``container-N``, counted from 1; part of
    FailureReason and of ModelError texts."""
    image: str
    """Image URI as the user gave it."""
    environment: Mapping[str, str]
    """The user's environment variables."""
    model: ModelSource | None
    """Its model data; None: an empty model folder. In the mode MultiModel what TargetModel is relative to."""
    resolved_image: str | None = None
    """``repository@sha256:digest`` that this deployment runs, once known: all its instances run the same."""
    additional: tuple[AdditionalSource, ...] = ()
    mode: str = SINGLE_MODEL
    """``SingleModel`` or ``MultiModel``."""
    caches_models: bool = True
    """In the mode MultiModel, whether a model stays loaded after its invocation (ModelCacheSetting)."""

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> "ContainerSpec":
        """Read the JSON form."""
        model = message["model"]
        additional = (
            AdditionalSource(entry["channel"], ModelSource(**entry["source"])) for entry in message["additional"]
        )
        return cls(
            **{**message, "model": None if model is None else ModelSource(**model), "additional": tuple(additional)}
        )


@dataclass(frozen=True, slots=True)
class CoreDumps:
    """Where the core files of a model that crashes go (CoreDumpConfig)."""

    destination: str
    """``s3://bucket/prefix``."""
    kms_key: str | None = None
    """ARN of the key that they are encrypted with; None: they are not."""


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """All that is needed to run one instance; written to the store before anybody is asked to start it."""

    instance_id: str
    account: str
    region: str
    endpoint: str
    variant: str
    instance_type: str
    """``ml.*``: the resource envelope."""
    containers: tuple[ContainerSpec, ...]
    startup_timeout_seconds: float
    """From the container's start to the first 200 of ``/ping``."""
    download_timeout_seconds: float = 3600.0
    """For the download and extraction of the model data."""
    network_isolation: bool = False
    """No network from inside (EnableNetworkIsolation of the model or of the configuration)."""
    volume_gib: int | None = None
    """Size of the instance's volume (VolumeSizeInGB); None: its disk is not bounded by the configuration."""
    kms_key: str | None = None
    """ARN of the key that the volume is encrypted with (KmsKeyId); None: it is not."""
    core_dumps: CoreDumps | None = None
    """None: a crash leaves no core file."""
    shell_access: bool = False
    """``moorage exec`` may open a shell in it (EnableSSMAccess)."""
    execution: str = "Serial"
    """Of several containers: ``Serial``, one after the other, or ``Direct``, each by its name."""

    def to_message(self) -> dict[str, Any]:
        """Give the JSON form."""
        return asdict(self)

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> "InstanceSpec":
        """Read the JSON form."""
        containers = tuple(map(ContainerSpec.from_message, message["containers"]))
        core_dumps = CoreDumps(**message["core_dumps"]) if message.get("core_dumps") else None
        return cls(**{**message, "containers": containers, "core_dumps": core_dumps})


class InstanceState(StrEnum):
    """The life of an instance. The first three lead to READY; the last three are ends."""

    PREPARING = "Preparing"
    """Environment and artefact are being fetched."""
    STARTING = "Starting"
    """The container runs and has not answered ``/ping`` with 200 yet."""
    READY = "Ready"
    """Takes invocations."""
    UNHEALTHY = "Unhealthy"
    """Was ready, and has failed its last two health checks."""
    STOPPING = "Stopping"
    STOPPED = "Stopped"
    """Ended because it was told to."""
    EXITED = "Exited"
    """Ended by itself after it was ready: to be replaced."""
    FAILED = "Failed"
    """Never became ready; ``failure`` says why."""


ENDED = frozenset({InstanceState.STOPPED, InstanceState.EXITED, InstanceState.FAILED})


class Failure(StrEnum):
    """Why an instance never became ready; the control plane makes AWS's FailureReason of it."""

    ARTIFACT = "Artifact"
    """The model data could not be fetched or extracted."""
    IMAGE = "Image"
    """The image (or its environment) could not be had."""
    START = "Start"
    """The container could not be started."""
    HEALTH_CHECK = "HealthCheck"
    """``/ping`` gave no 200 in time, or the container ended before it did."""
    OUT_OF_MEMORY = "OutOfMemory"
    """Killed at the instance type's memory limit."""
    CAPACITY = "Capacity"
    """This machine cannot hold it."""
    UNSUPPORTED = "Unsupported"
    """No engine of this machine keeps a promise of the configuration; the message names it and says why."""


@dataclass(frozen=True, slots=True)
class InstanceReport:
    """What the node agent sees of one instance."""

    instance_id: str
    endpoint: str
    variant: str
    state: InstanceState
    since: float
    """When it came into this state, in seconds since the epoch."""
    address: str | None = None
    """Where the first container answers, once there is one: ``unix:PATH``, ``host:port`` or ``dial:PATH`` (a socket
    that hands out connections into the container's network namespace; ``engine.dial``)."""
    engine: str = ""
    """``docker``, ``sandbox`` or ``process``."""
    pid: int | None = None
    """Process id on this machine."""
    resolved_images: tuple[str, ...] = ()
    """Per container: ``repository@sha256:digest``."""
    stand_ins: tuple[str, ...] = ()
    """What people should know of what runs in place of images: that its version is another, for one."""
    failure: Failure | None = None
    container: str | None = None
    """Name of the container that failed."""
    message: str = ""
    """What happened, for people; progress while PREPARING."""
    log_tail: str = ""
    """Last lines of the container's log, when it failed or ended."""
    log_path: str = ""
    account: str = ""
    region: str = ""
    loaded_models: int | None = None
    """How many models its multi-model container has loaded; None: it has no such container."""

    def to_message(self) -> dict[str, Any]:
        """Give the JSON form."""
        return asdict(self)

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> "InstanceReport":
        """Read the JSON form."""
        failure = message.get("failure")
        return cls(
            **{
                **message,
                "state": InstanceState(message["state"]),
                "failure": Failure(failure) if failure else None,
                "resolved_images": tuple(message.get("resolved_images", ())),
                "stand_ins": tuple(message.get("stand_ins", ())),
            }
        )
