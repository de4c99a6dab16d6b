"""How the instances are doing at this moment, as one gateway sees them."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from moorage.routing.kv_memory import KvMemory
from moorage.routing.model_memory import ModelMemory


def _nobody(_: str) -> int:
    return 0


@dataclass(eq=False, slots=True)
class Conditions:
    """Made once by a gateway, which keeps the collections up to date; decisions look at them.

    The counts are those of one gateway process: where several share a port, each balances its own invocations, and
    chance does the rest.
    """

    suspects: Collection[str] = ()
    """Instances that refused somebody a moment ago."""
    full: Collection[str] = ()
    """Instances that have as many invocations in flight as they may have."""
    outstanding: Callable[[str], int] = _nobody
    """The number of invocations in flight on an instance."""
    kv_memory: KvMemory = field(default_factory=KvMemory)
    """Which instance has seen which start of a prompt; only KV_AWARE looks at it and adds to it."""
    model_memory: ModelMemory = field(default_factory=ModelMemory)
    """Which instances were sent which of many models."""
