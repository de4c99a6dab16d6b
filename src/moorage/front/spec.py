"""What a front is told by its node agent, and what they say to each other.

The node agent starts ``python -m moorage.front`` with one end of a socket pair, on which both write ``base.link``'s
messages, and with the socket that is listened at. As soon as the containers' addresses are known it says

    {"op": "serve", "spec": FrontSpec}

and the front, once it answers, ``{"op": "serving"}``; of a container of many models also, from time to time,

    {"op": "models", "container": NAME, "loaded": 12}

When the node agent's end is closed the front ends.
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
class ManyModels:
    """What a front must know of a container's models (data-plane.md section 8.1)."""

    prefix: str
    """URI that TargetModel is relative to."""
    account: str
    """Whose buckets are read."""
    folder: str
    """Where their files are to be, one folder a model."""
    seen_at: str
    """Where the container has that folder."""
    artifacts: str
    """Folder of the extracted archives: that of all instances of this machine, or one for this instance alone."""
    alone: bool
    """The latter."""
    caches: bool
    """A model stays loaded after its invocation."""
    most_loads: int
    """Loads that go on at a time."""
    one_each: bool
    """Each model has connections of its own: it is a process of a built-in container."""
    code: str | None = None
    """URI of code that takes the place of each model's own."""
    load_seconds: float = 360.0
    """For the download and the load of one model."""


@dataclass(frozen=True, slots=True)
class FrontContainer:
    """One container, as its front sees it."""

    name: str
    """Its hostname, or ``container-N``."""
    address: str
    """``unix:PATH``, ``dial:PATH`` or ``host:port`` (``engine.contract.InstanceReport``)."""
    models: ManyModels | None = None
    """None: it has one model, or none."""

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> "FrontContainer":
        """Read the JSON form."""
        models = message.get("models")
        return cls(**{**message, "models": None if models is None else ManyModels(**models)})


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
    settings: Mapping[str, Any] | None = None
    """The installation's (``base.settings``), for whoever fetches models; None: nobody does."""

    def to_message(self) -> dict[str, Any]:
        """Give the JSON form."""
        return asdict(self)

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> "FrontSpec":
        """Read the JSON form."""
        containers = tuple(map(FrontContainer.from_message, message["containers"]))
        return cls(**{**message, "mode": Mode(message["mode"]), "containers": containers})
