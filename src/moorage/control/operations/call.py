"""What an operation is given: who asks, when, and what it may use."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from moorage.base.clock import Clock
from moorage.control.capacity import Capacity
from moorage.control.node_link import NodeLink
from moorage.control.publish import Publisher
from moorage.engine.contract import ModelSource
from moorage.state.records import EndpointKey, Kind, ResourceKey
from moorage.state.store import Store

Members = Mapping[str, Any]


def _as_given(_account: str, _region: str, key: str) -> str:
    """Take a key by its name where there is no key ring to look it up in."""
    return key


@dataclass(frozen=True, slots=True)
class Services:
    """What operations may use."""

    store: Store
    clock: Clock
    node: NodeLink
    publisher: Publisher
    has_image: Callable[[str], bool]
    """Says whether an image URI can be run here."""
    has_data: Callable[[str, ModelSource], Awaitable[bool]]
    """Says whether there is model data that an account may use."""
    capacity: Capacity
    quotas: Mapping[str, int] = field(default_factory=dict)
    """By AWS's names; what is not named is not limited."""
    find_key: Callable[[str, str, str], str] = _as_given
    """Gives the ARN of an account's key of a region by its id, alias or ARN; raises ValidationException when there is
    no such key or it is not enabled. Blocks for as long as it takes to read a small file."""


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
