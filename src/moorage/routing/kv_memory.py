"""Which instance has seen which start of a prompt, for KV_AWARE.

A model server keeps the keys and values of prompts that it has worked on, by blocks from the start of the prompt. We
cannot look into it, but we know what we sent where. A start is cut into blocks of ``BLOCK_BYTES``; the hash of a
block covers all blocks before it (a *chain*), so that a hash stands for a whole start. The memory keeps, by such
hashes, the instance that it was last sent to.

It is one list for all variants of a gateway, least recently used first, of at most ``BLOCKS_KEPT`` (some 20 MB when
it is full): the hashes of each variant begin with its name, so nothing is mixed up, an idle variant makes room for
busy ones, and what belongs to deleted variants and dead instances goes by itself.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from hashlib import blake2b

BLOCK_BYTES = 512
"""About 128 tokens of English."""

PROMPT_BYTES = 65_536
"""More of a prompt is not looked at: 128 blocks, hashed in about 0.1 ms."""

BLOCKS_KEPT = 131_072


class KvMemory:
    """A bounded memory of chains; of one event loop."""

    def __init__(self, blocks_kept: int = BLOCKS_KEPT) -> None:
        self._blocks_kept = blocks_kept
        self._instances: OrderedDict[bytes, str] = OrderedDict()

    def __repr__(self) -> str:
        return f"<KvMemory: {len(self._instances)} of {self._blocks_kept} blocks>"

    def holders(self, chain: Sequence[bytes]) -> Mapping[str, int]:
        """Give the instances that have seen the start of a chain, with the number of blocks, the longest first."""
        known: list[str] = []
        for block in chain:
            instance_id = self._instances.get(block)
            if instance_id is None:
                break
            known.append(instance_id)
        found: dict[str, int] = {}
        for blocks in range(len(known), 0, -1):
            found.setdefault(known[blocks - 1], blocks)
        return found

    def note(self, chain: Sequence[bytes], instance_id: str) -> None:
        """Remember that an instance is sent a chain."""
        instances = self._instances
        for block in reversed(chain):  # the first block is forgotten last: without it the others are not found
            instances[block] = instance_id
            instances.move_to_end(block)
        while len(instances) > self._blocks_kept:
            instances.popitem(last=False)


def make_chain(salt: bytes, start: bytes) -> list[bytes]:
    """Cut the start of a prompt into whole blocks and hash each with all before it."""
    chain: list[bytes] = []
    before = salt
    for begin in range(0, len(start) - BLOCK_BYTES + 1, BLOCK_BYTES):
        before = blake2b(before + start[begin : begin + BLOCK_BYTES], digest_size=8).digest()
        chain.append(before)
    return chain
