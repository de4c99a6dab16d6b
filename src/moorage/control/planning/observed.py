"""What is seen of one endpoint at one moment, and how long to wait for what."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from moorage.engine.contract import InstanceReport
from moorage.routing.snapshot import Endpoint
from moorage.state.records import DeployedVariant


@dataclass(frozen=True, slots=True)
class Observed:
    """The world outside of the store. Only made when the node agent has reported completely."""

    reports: Mapping[str, InstanceReport] = field(default_factory=dict)
    """By instance id."""
    route: Endpoint | None = None
    """What was last published of the endpoint."""
    route_in_force: bool = True
    """All gateways route by it."""
    in_use: frozenset[str] = frozenset()
    """Instances to which a gateway may still be sending, or from which it awaits an answer."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for what, in seconds."""

    drain_seconds: float
    """For the answers of an instance that has left the routing."""
    capacity_seconds: float
    """For capacity of a creation or of a change, unless the variant says how long itself."""
    download_seconds: float
    """For the download of a model, unless the variant says how long itself."""
    startup_seconds: float
    """From the container's start to its first 200 of ``/ping``, unless the variant says how long itself."""
    first_delay_seconds: float = 0.5
    """Before the launch that follows the second loss in a row; it doubles with each further one."""
    longest_delay_seconds: float = 60.0
    calm_seconds: float = 60.0
    """After so long without a loss, the next one counts as the first again."""
    setbacks: int = 5
    """So many losses in a row end a creation or a change of capacity."""

    def change_seconds(self, variant: DeployedVariant) -> float:
        """Give the seconds for a creation or a change of capacity, from the request to the last ready instance."""
        return self.capacity_seconds_of(variant) + self.download_seconds_of(variant) + self.startup_seconds_of(variant)

    def capacity_seconds_of(self, variant: DeployedVariant) -> float:
        """Give the seconds for which a variant's instances may wait for room."""
        given = variant.provision_timeout_seconds
        return self.capacity_seconds if given is None else given

    def download_seconds_of(self, variant: DeployedVariant) -> float:
        """Give the seconds for the download of a variant's model."""
        given = variant.download_timeout_seconds
        return self.download_seconds if given is None else given

    def startup_seconds_of(self, variant: DeployedVariant) -> float:
        """Give the seconds for a variant's container to get healthy."""
        given = variant.startup_timeout_seconds
        return self.startup_seconds if given is None else given

    def delay_after(self, setbacks: int) -> float:
        """Give the seconds between the last of so many losses in a row and the next launch."""
        if setbacks <= 1:
            return 0.0
        return min(self.first_delay_seconds * 2.0 ** min(setbacks - 2, 32), self.longest_delay_seconds)
