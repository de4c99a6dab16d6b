"""How one of several instances is picked: one file a strategy (data-plane.md section 2.2).

A strategy is a function from the choices that are left, never none and never one, to one of them. Which are left
(not tried, not full, not suspect) is decided before, in ``decide``, for all strategies alike.
"""

from collections.abc import Callable, Sequence

from moorage.base.chance import Chance
from moorage.routing.choice import Choice
from moorage.routing.conditions import Conditions
from moorage.routing.prompt import Prompt
from moorage.routing.snapshot import Endpoint, Strategy, Variant
from moorage.routing.strategies import least_outstanding, uniform
from moorage.routing.strategies.kv_aware import KvAware
from moorage.routing.strategies.model_aware import ModelAwareness
from moorage.routing.strategies.prefix_aware import PrefixAwareness

Pick = Callable[[Sequence[Choice], Chance, Conditions, Callable[[], Prompt]], Choice]


def make_pick(endpoint: Endpoint, variant: Variant) -> Pick:
    """Prepare the strategy of a variant."""
    if variant.multi_model:
        return ModelAwareness(endpoint, variant).pick
    match variant.strategy:
        case Strategy.RANDOM:
            return uniform.pick
        case Strategy.LEAST_OUTSTANDING_REQUESTS:
            return least_outstanding.pick
        case Strategy.PREFIX_AWARE:
            if variant.prefix_aware is None:  # refused by the API; one variant must not hold up a whole snapshot
                return least_outstanding.pick
            return PrefixAwareness(variant.prefix_aware, variant.instances).pick
        case Strategy.KV_AWARE:
            return KvAware(endpoint, variant).pick
