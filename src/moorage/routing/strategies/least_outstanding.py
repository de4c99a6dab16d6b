"""LEAST_OUTSTANDING_REQUESTS: the instance with the fewest invocations in flight, ties by chance."""

from collections.abc import Callable, Sequence

from moorage.base.chance import Chance
from moorage.routing.choice import Choice
from moorage.routing.conditions import Conditions
from moorage.routing.prompt import Prompt


def pick(choices: Sequence[Choice], chance: Chance, conditions: Conditions, _: Callable[[], Prompt]) -> Choice:
    """Pick one of the least busy."""
    outstanding = conditions.outstanding
    loads = [outstanding(choice.instance.instance_id) for choice in choices]
    least = min(loads)
    idlest = [choice for choice, load in zip(choices, loads, strict=True) if load == least]
    return idlest[int(chance.random() * len(idlest))]
