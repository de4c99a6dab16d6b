"""What is kept, as immutable values. Times are seconds since the epoch, in milliseconds' precision."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple


class Kind(StrEnum):
    """Resources that have a name and tags; the values are those of ARNs (control-plane.md section 4.1)."""

    MODEL = "model"
    ENDPOINT_CONFIG = "endpoint-config"
    ENDPOINT = "endpoint"
    MODEL_PACKAGE = "model-package"
    """Its name is that of its group, a slash and its version, if it belongs to one."""
    MODEL_PACKAGE_GROUP = "model-package-group"


class ResourceKey(NamedTuple):
    """What identifies a resource that has a name."""

    account: str
    region: str
    kind: Kind
    name: str


class EndpointKey(NamedTuple):
    """What identifies an endpoint."""

    account: str
    region: str
    name: str


class EndpointStatus(StrEnum):
    """The statuses that this version of Moorage gives (control-plane.md section 6.1)."""

    CREATING = "Creating"
    IN_SERVICE = "InService"
    UPDATING = "Updating"
    ROLLING_BACK = "RollingBack"
    DELETING = "Deleting"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """An access key that Moorage has issued."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    account: str
    user_name: str
    created_at: float
    policies: tuple[str, ...] | None = None
    """IAM policies as JSON; None: everything in its own account."""


@dataclass(frozen=True, slots=True)
class Document:
    """A model or an endpoint configuration: what was asked for under a name, never changed after it was made."""

    account: str
    region: str
    kind: Kind
    name: str
    members: Mapping[str, Any]
    """Members of the Create request as they were given, without the name and the tags."""
    created_at: float


@dataclass(frozen=True, slots=True)
class Listed:
    """What a list shows of a model or an endpoint configuration."""

    name: str
    created_at: float


@dataclass(frozen=True, slots=True)
class Container:
    """An endpoint's own copy of one container of a model."""

    name: str
    image: str
    environment: Mapping[str, str]
    model: Mapping[str, Any] | None
    """Its model data in the form of an S3DataSource, whichever way it was given."""
    resolved_image: str | None = None
    """``repository@sha256:digest`` once an instance has run it."""
    resolved_at: float | None = None
    additional: tuple[Mapping[str, Any], ...] = ()
    """Its AdditionalModelDataSources as they were given."""
    mode: str = "SingleModel"
    caches_models: bool = True
    """Whether a model of several stays loaded after its invocation (ModelCacheSetting)."""


@dataclass(frozen=True, slots=True)
class Pool:
    """An instance type that a variant's instances may be of, with the model that they then serve."""

    instance_type: str
    model_name: str
    containers: tuple[Container, ...]
    network_isolation: bool = False
    execution: str = "Serial"
    """Mode of the model's InferenceExecutionConfig."""


@dataclass(frozen=True, slots=True)
class DeployedVariant:
    """An endpoint's own copy of a production or shadow variant, and what was asked of it since."""

    name: str
    model_name: str
    instance_type: str
    desired_count: int
    desired_weight: float
    containers: tuple[Container, ...]
    shadow: bool = False
    """Whether it gets copies of invocations whose answers nobody sees, instead of a share of them."""
    routing: Mapping[str, Any] | None = None
    """Its RoutingConfig as it was given."""
    previous_count: int | None = None
    """The count to go back to if the change under way fails; None: no change of capacity is under way."""
    previous_weight: float | None = None
    """The weight to go back to if the change under way fails; None: no change of weight is under way."""
    setbacks: int = 0
    """Instances lost in a row, for the delay before the next launch."""
    launch_not_before: float = 0.0
    """No replacement is launched before this time."""
    startup_timeout_seconds: int | None = None
    """Its ContainerStartupHealthCheckTimeoutInSeconds; None: as the settings say."""
    download_timeout_seconds: int | None = None
    """Its ModelDataDownloadTimeoutInSeconds; None: as the settings say."""
    network_isolation: bool = False
    """EnableNetworkIsolation of its model or of the configuration."""
    volume_gib: int | None = None
    """Its VolumeSizeInGB."""
    kms_key: str | None = None
    """The configuration's KmsKeyId."""
    core_dumps: Mapping[str, Any] | None = None
    """Its CoreDumpConfig as it was given."""
    shell_access: bool = False
    """Its EnableSSMAccess."""
    machine_image: str | None = None
    """Its InferenceAmiVersion."""
    pools: tuple[Pool, ...] = ()
    """Its InstancePools, that of the highest priority first; empty: it has one instance type and one model."""
    provision_timeout_seconds: int | None = None
    """Its VariantInstanceProvisionTimeoutInSeconds; None: as AWS waits for capacity."""
    reservation: Mapping[str, Any] | None = None
    """Its CapacityReservationConfig as it was given."""
    execution: str = "Serial"
    """Mode of its model's InferenceExecutionConfig."""


class Stage(StrEnum):
    """How far a deployment has come; ``control.planning.deployment`` has the table of what follows what."""

    LAUNCHING = "Launching"
    """The new fleet is being launched; the old one serves."""
    SHIFTING = "Shifting"
    """The new fleet is whole; the gateways are told to route to it."""
    BAKING = "Baking"
    """The new fleet serves, and the old one is kept."""
    TERMINATING = "Terminating"
    """The old fleet is drained and stopped."""
    ABANDONING = "Abandoning"
    """The old fleet serves (again), and the new one is drained and stopped."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """A new fleet on its way to replace the one that serves, all at once (control-plane.md section 7.3)."""

    config_name: str
    variants: tuple[DeployedVariant, ...]
    fleet: int
    """The generation of its instances."""
    stage: Stage
    started_at: float
    stage_since: float
    config: Mapping[str, Any] | None = None
    """The DeploymentConfig that it is done by, which becomes the endpoint's when it succeeds."""
    capture: Mapping[str, Any] | None = None
    """The DataCaptureConfig of the new configuration, in effect from the moment its fleet serves."""


@dataclass(frozen=True, slots=True)
class EndpointRecord:
    """An endpoint: what is desired, the private copy of what it was made from, and its status."""

    account: str
    region: str
    name: str
    config_name: str
    variants: tuple[DeployedVariant, ...]
    status: EndpointStatus
    failure_reason: str | None
    created_at: float
    modified_at: float
    fleet: int = 0
    """The generation of the instances that ``variants`` are made of."""
    deployment: Deployment | None = None
    """What UpdateEndpoint has asked for, until it is done or given up."""
    deployment_config: Mapping[str, Any] | None = None
    """The DeploymentConfig of the creation or of the last deployment that succeeded."""
    capture: Mapping[str, Any] | None = None
    """Its own copy of the DataCaptureConfig."""
    revision: int = 0
    """Counts the writes: who writes says which revision was read, so that no change is lost."""

    @property
    def key(self) -> EndpointKey:
        """Give what identifies it."""
        return EndpointKey(self.account, self.region, self.name)


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """The intent that an instance exists: written before anybody is asked to start it."""

    instance_id: str
    account: str
    region: str
    endpoint: str
    variant: str
    created_at: float
    retired_at: float | None = None
    """When it was taken out of service for good; it leaves the routing, is drained, stopped and forgotten."""
    fleet: int = 0
    """Generation: an instance belongs to the variant of this name in the fleet of this number."""
    instance_type: str = ""
    """What it is of, once it has its place; empty also for instances of before there were pools."""
    waits_for: tuple[str, ...] = ()
    """Instance types of which it may be, the best first, as long as it has no place; empty: it has one."""
    claimed_at: float = 0.0
    """When it was asked for; of a replacement: when the first of those before it was."""
    reservation: str | None = None
    """ARN of the reservation that its place is of, or is to be of."""


@dataclass(frozen=True, slots=True)
class ReservationRecord:
    """A named set of node capacity, which only variants that name it use."""

    account: str
    region: str
    name: str
    instance_type: str
    count: int
    created_at: float
