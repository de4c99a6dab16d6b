"""What a front is told by its node agent, and what they say to each other.

The node agent starts ``python -m moorage.front`` with one end of a socket pair, on which both write ``base.link``'s
messages, and with the socket that is listened at. As soon as the containers' addresses are known it says

    {"op": "serve", "spec": FrontSpec}

and the front, once it answers, ``{"op": "serving"}``. When the node agent's end is closed the front ends.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Mode(StrEnum):
    """How a call goes through the containers; the values are those of InferenceExecutionConfig."""

    SERIAL = "Serial"
    """Through all, one after the other (data-plane.md section 8.2)."""
    DIRECT = "Direct"
    """To the one that the call names (data-plane.md section 8.3)."""


@dataclass(frozen=True, slots=True)
class FrontContainer:
    """One container, as its front sees it."""

    name: str
    """Its hostname, or ``container-N``."""
    address: str
    """``unix:PATH``, ``dial:PATH`` or ``host:port`` (``engine.contract.InstanceReport``)."""


@dataclass(frozen=True, slots=True)
class FrontSpec:
    """All that a front needs to know."""

    instance_id: str
    mode: Mode
    containers: tuple[FrontContainer, ...]
    body_bytes: int
    """Largest body that goes from one container to the next: the endpoint's limit."""
    buffered_bytes: int
    """Bodies that are in memory at the same time; who would need more is refused."""
    timeout_seconds: float
    """From a call to the head of its answer: for all containers together."""
    ping_seconds: float
    """For one container to answer ``/ping``."""

    def to_message(self) -> dict[str, Any]:
        """Give the JSON form."""
        return asdict(self)

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> "FrontSpec":
        """Read the JSON form."""
        containers = tuple(FrontContainer(**container) for container in message["containers"])
        return cls(**{**message, "mode": Mode(message["mode"]), "containers": containers})
