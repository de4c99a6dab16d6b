"""RANDOM: each instance is as likely as every other."""

from collections.abc import Callable, Sequence

from moorage.base.chance import Chance
from moorage.routing.choice import Choice
from moorage.routing.conditions import Conditions
from moorage.routing.prompt import Prompt


def pick(choices: Sequence[Choice], chance: Chance, _: Conditions, __: Callable[[], Prompt]) -> Choice:
    """Pick one by chance."""
    return choices[int(chance.random() * len(choices))]
