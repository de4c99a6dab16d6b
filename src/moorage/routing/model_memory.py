"""Which instances have lately been sent an invocation of which model, where each instance serves many.

They have it loaded, most likely: another would have to load it first. What is unloaded is not told here, so this is
only a preference. One list for all variants of a gateway, least recently used first: the keys of each variant begin
with its name, an idle variant makes room for busy ones, and what belongs to dead instances goes by itself.
"""

from collections import OrderedDict
from collections.abc import Collection

MODELS_KEPT = 65_536
HOLDERS_KEPT = 16


class ModelMemory:
    """A bounded memory of models; of one event loop."""

    def __init__(self, models_kept: int = MODELS_KEPT) -> None:
        self._models_kept = models_kept
        self._holders: OrderedDict[bytes, tuple[str, ...]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<ModelMemory: {len(self._holders)} of {self._models_kept} models>"

    def holders(self, model: bytes) -> Collection[str]:
        """Give the instances that were sent a model, the last one first."""
        return self._holders.get(model, ())

    def note(self, model: bytes, instance_id: str) -> None:
        """Remember that an instance is sent a model."""
        holders = self._holders.get(model, ())
        if not holders or holders[0] != instance_id:
            others = [other for other in holders if other != instance_id]
            self._holders[model] = (instance_id, *others[: HOLDERS_KEPT - 1])
        self._holders.move_to_end(model)
        while len(self._holders) > self._models_kept:
            self._holders.popitem(last=False)
