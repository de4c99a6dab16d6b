"""KV_AWARE: the instance that holds the start of the prompt in its KV cache, weighed against load.

What is documented of AWS's is just that (data-plane.md section 2.2), with LEAST_OUTSTANDING_REQUESTS where no
instance holds anything. Here: an instance that was sent the start of this prompt before may be the busier by one
invocation for each block that it has seen (``kv_memory.BLOCK_BYTES``), by ``WORTH`` at most, because recomputing a
block costs time and so does waiting behind others. The longest start that is worth it wins.
"""

from collections.abc import Callable, Mapping, Sequence

from moorage.base.chance import Chance
from moorage.routing.choice import Choice
from moorage.routing.conditions import Conditions
from moorage.routing.kv_memory import PROMPT_BYTES, make_chain
from moorage.routing.prompt import Prompt
from moorage.routing.snapshot import Endpoint, Variant
from moorage.routing.strategies import least_outstanding

WORTH = 8
"""Invocations in flight that the longest start is worth."""


class KvAware:
    """The strategy for one variant of one snapshot; what it remembers is in the conditions and outlives snapshots."""

    __slots__ = ("_salt",)

    def __init__(self, endpoint: Endpoint, variant: Variant) -> None:
        self._salt = f"{endpoint.account}/{endpoint.region}/{endpoint.name}/{variant.name}\0".encode()

    def pick(
        self, choices: Sequence[Choice], chance: Chance, conditions: Conditions, prompt: Callable[[], Prompt]
    ) -> Choice:
        """Pick the holder of the longest start, or the least busy one, and remember it."""
        chain = make_chain(self._salt, prompt().start(PROMPT_BYTES))
        holders = conditions.kv_memory.holders(chain)
        choice = _holder(choices, holders, conditions) or least_outstanding.pick(choices, chance, conditions, prompt)
        conditions.kv_memory.note(chain, choice.instance.instance_id)
        return choice


def _holder(choices: Sequence[Choice], holders: Mapping[str, int], conditions: Conditions) -> Choice | None:
    if not holders:
        return None
    by_id = {choice.instance.instance_id: choice for choice in choices}
    least = min(map(conditions.outstanding, by_id))
    for instance_id, blocks in holders.items():
        if instance_id in by_id and conditions.outstanding(instance_id) <= least + min(blocks, WORTH):
            return by_id[instance_id]
    return None
