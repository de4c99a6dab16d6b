"""What has happened at one variant between two looks, and how such pieces add up. Pure.

A delta is never changed: adding two gives a third. All that is in it is whole numbers, so the sum of many is the same
in whatever order and grouping they come: from several gateways, late, or again after a break.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from operator import add, attrgetter
from typing import Any

from moorage.base.distribution import Distribution, add_counts, flat, unflat

Key = tuple[str, str, str, str]
"""Account, region, endpoint and variant."""


@dataclass(slots=True)
class Delta:
    """Counts and latencies (in microseconds) of one variant."""

    by_instances: dict[int, int] = field(default_factory=dict)
    """Invocations that have ended, by the number of active instances that they had to choose from."""
    errors_4xx: int = 0
    """By the status of the model."""
    errors_5xx: int = 0
    model_errors: int = 0
    """Answers of the model that are not 2xx, and invocations to which it gave none."""
    clients_gone: int = 0
    """Invocations whose client did not wait for the answer."""
    throttled: int = 0
    """Refused because too many were waiting already."""
    held: int = 0
    """Waited for capacity that was on its way."""
    broken_streams: int = 0
    """Streams that failed after their first bytes."""
    model: Distribution = field(default_factory=Distribution)
    overhead: Distribution = field(default_factory=Distribution)
    total: Distribution = field(default_factory=Distribution)
    first_chunk: Distribution = field(default_factory=Distribution)
    first_chunk_model: Distribution = field(default_factory=Distribution)
    first_chunk_overhead: Distribution = field(default_factory=Distribution)

    @property
    def invocations(self) -> int:
        """Invocations that have ended, in whatever way."""
        return sum(self.by_instances.values())

    def merge(self, other: "Delta") -> "Delta":
        """Give what has happened in both."""
        return Delta(
            add_counts(self.by_instances, other.by_instances),
            *map(add, _counts_of(self), _counts_of(other)),
            *map(_both, _distributions_of(self), _distributions_of(other)),
        )

    def to_message(self) -> list[Any]:
        """Give the JSON form."""
        return [
            flat(self.by_instances),
            *_counts_of(self),
            *(values.to_message() for values in _distributions_of(self)),
        ]

    @classmethod
    def from_message(cls, message: Sequence[Any]) -> "Delta":
        """Read the JSON form."""
        distributions = 1 + len(_COUNTS)
        return cls(
            unflat(message[0]),
            *message[1:distributions],
            *(Distribution.from_message(entry) for entry in message[distributions:]),
        )


def _both(one: Distribution, other: Distribution) -> Distribution:
    """Merge, without work where there is nothing."""
    if not other.count:
        return one
    return one.merge(other) if one.count else other


_COUNTS = tuple(entry.name for entry in fields(Delta) if entry.type in {int, "int"})
_DISTRIBUTIONS = tuple(entry.name for entry in fields(Delta) if entry.type in {Distribution, "Distribution"})
_counts_of = attrgetter(*_COUNTS)
_distributions_of = attrgetter(*_DISTRIBUTIONS)
