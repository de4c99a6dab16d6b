"""What an operation is given: who asks, when, and what it may use."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from moorage.base.clock import Clock
from moorage.control.node_link import NodeLink
from moorage.control.publish import Publisher
from moorage.state.records import EndpointKey, Kind, ResourceKey
from moorage.state.store import Store

Members = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Services:
    """What operations may use."""

    store: Store
    clock: Clock
    node: NodeLink
    publisher: Publisher
    has_image: Callable[[str], bool]
    """Says whether an image URI can be run here."""
    has_object: Callable[[str, str], Awaitable[bool]]
    """Says whether an account has an object at ``s3://bucket/key``."""
    quotas: Mapping[str, int] = field(default_factory=dict)
    """By AWS's names; what is not named is not limited."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of one operation."""

    services: Services
    account: str
    """The key's."""
    region: str
    """The credential scope's."""
    now: float
    """Seconds since the epoch, in milliseconds' precision."""

    def resource(self, kind: Kind, name: str) -> ResourceKey:
        """Make the key of a resource of the caller."""
        return ResourceKey(self.account, self.region, kind, name)

    def endpoint(self, name: str) -> EndpointKey:
        """Make the key of an endpoint of the caller."""
        return EndpointKey(self.account, self.region, name)
