"""PREFIX_AWARE: invocations that begin alike go to the same instance, until that one is busy.

The key is a hash of the start of the prompt and of PrefixAwareId; the instance is the first in the rendezvous order
of the key that has fewer invocations in flight than ConcurrencyThreshold. When all have as many, the prefix does not
matter any more and the least busy one is picked.
"""

from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b

from moorage.base.chance import Chance
from moorage.routing.choice import Choice
from moorage.routing.conditions import Conditions
from moorage.routing.prompt import Prompt
from moorage.routing.rendezvous import Scores
from moorage.routing.snapshot import Instance, PrefixAware
from moorage.routing.strategies import least_outstanding


class PrefixAwareness:
    """The strategy for one variant of one snapshot."""

    __slots__ = ("_configuration", "_scores")

    def __init__(self, configuration: PrefixAware, instances: Iterable[Instance]) -> None:
        self._configuration = configuration
        self._scores = Scores(instance.instance_id for instance in instances)

    def pick(
        self, choices: Sequence[Choice], chance: Chance, conditions: Conditions, prompt: Callable[[], Prompt]
    ) -> Choice:
        """Pick the prefix's own instance, or the next one that has room."""
        threshold, outstanding = self._configuration.concurrency_threshold, conditions.outstanding
        roomy = [choice for choice in choices if outstanding(choice.instance.instance_id) < threshold]
        if not roomy:
            return least_outstanding.pick(choices, chance, conditions, prompt)
        if len(roomy) == 1:
            return roomy[0]
        key, score = make_key(prompt(), self._configuration.length), self._scores.score
        return max(roomy, key=lambda choice: score(choice.instance.instance_id, key))


def make_key(prompt: Prompt, length: int) -> bytes:
    """Hash what invocations must have in common to go to the same instance."""
    return blake2b(prompt.prefix_id.encode() + b"\0" + prompt.start(length), digest_size=16).digest()
