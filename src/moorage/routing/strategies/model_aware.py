"""Of many models: the instance that has the target model loaded, and another one when that is busy.

It takes the place of the variant's strategy where an instance serves many models (data-plane.md section 8.1): a model
is loaded where it is asked for. Instances that were sent the model before come first, then the others in the
rendezvous order of its name, so that gateways which know nothing of each other choose alike. The first that is not the
busier by ``WORTH`` invocations than the least busy one is picked: so a hot model spreads over further instances, and
comes back when it is hot no more.
"""

from collections.abc import Callable, Sequence
from hashlib import blake2b

from moorage.base.chance import Chance
from moorage.routing.choice import Choice
from moorage.routing.conditions import Conditions
from moorage.routing.prompt import Prompt
from moorage.routing.rendezvous import Scores
from moorage.routing.snapshot import Endpoint, Variant

WORTH = 8
"""Invocations in flight that it is worth not to load a model."""


class ModelAwareness:
    """The strategy for one variant of one snapshot; what it remembers is in the conditions and outlives snapshots."""

    __slots__ = ("_salt", "_scores")

    def __init__(self, endpoint: Endpoint, variant: Variant) -> None:
        self._salt = f"{endpoint.account}/{endpoint.region}/{endpoint.name}/{variant.name}\0".encode()
        self._scores = Scores(instance.instance_id for instance in variant.instances)

    def pick(
        self, choices: Sequence[Choice], _: Chance, conditions: Conditions, prompt: Callable[[], Prompt]
    ) -> Choice:
        """Pick the holder, or the next in order that is not too busy, and remember it."""
        model = prompt().target_model.encode()
        key = blake2b(self._salt + model, digest_size=16).digest()
        holders, score = conditions.model_memory.holders(key), self._scores.score
        order = sorted(
            choices,
            key=lambda choice: (choice.instance.instance_id in holders, score(choice.instance.instance_id, model)),
            reverse=True,
        )
        loads = [conditions.outstanding(choice.instance.instance_id) for choice in order]
        most = min(loads) + WORTH
        picked = next(choice for choice, load in zip(order, loads, strict=True) if load <= most)
        conditions.model_memory.note(key, picked.instance.instance_id)
        return picked
