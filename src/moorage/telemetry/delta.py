"""What has happened at one variant between two looks, and how such pieces add up. Pure.

A delta is never changed: adding two gives a third. All that is in it is whole numbers, so the sum of many is the same
in whatever order and grouping they come: from several gateways, late, or again after a break.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
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
    containers: Mapping[str, Distribution] = field(default_factory=dict)
    """How long each container of several has taken, by its name."""
    direct: Mapping[str, int] = field(default_factory=dict)
    """Invocations that have named their container, by its name."""
    models: Mapping[str, Distribution] = field(default_factory=dict)
    """What was measured of many models, by the metric's name."""

    @property
    def invocations(self) -> int:
        """Invocations that have ended, in whatever way."""
        return sum(self.by_instances.values())

    def merge(self, other: "Delta") -> "Delta":
        """Give what has happened in both."""
        merged = Delta(
            add_counts(self.by_instances, other.by_instances),
            *map(add, _counts_of(self), _counts_of(other)),
            *map(_both, _distributions_of(self), _distributions_of(other)),
        )
        if not (self.containers or other.containers or self.models or other.models):
            return merged
        return replace(
            merged,
            containers=_all_of(self.containers, other.containers),
            direct=add_counts(self.direct, other.direct),
            models=_all_of(self.models, other.models),
        )

    def to_message(self) -> list[Any]:
        """Give the JSON form."""
        return [
            flat(self.by_instances),
            *_counts_of(self),
            *(values.to_message() for values in _distributions_of(self)),
            {name: values.to_message() for name, values in self.models.items()},
            {name: values.to_message() for name, values in self.containers.items()},
            dict(self.direct),
        ]

    @classmethod
    def from_message(cls, message: Sequence[Any]) -> "Delta":
        """Read the JSON form."""
        distributions = 1 + len(_COUNTS)
        named = distributions + len(_DISTRIBUTIONS)
        models, containers, direct = message[named:] or ({}, {}, {})  # a gateway of an older version knows of none
        read = cls(
            unflat(message[0]),
            *message[1:distributions],
            *(Distribution.from_message(entry) for entry in message[distributions:named]),
        )
        if not (containers or models):
            return read
        return replace(read, containers=_read_all(containers), direct=direct, models=_read_all(models))


def _read_all(message: Mapping[str, Any]) -> dict[str, Distribution]:
    return {name: Distribution.from_message(entry) for name, entry in message.items()}


def _both(one: Distribution, other: Distribution) -> Distribution:
    """Merge, without work where there is nothing."""
    if not other.count:
        return one
    return one.merge(other) if one.count else other


def _all_of(one: Mapping[str, Distribution], other: Mapping[str, Distribution]) -> dict[str, Distribution]:
    return {name: _both(one.get(name, _NOTHING), other.get(name, _NOTHING)) for name in {**one, **other}}


_NOTHING = Distribution()
_COUNTS = tuple(entry.name for entry in fields(Delta) if entry.type in {int, "int"})
_DISTRIBUTIONS = tuple(entry.name for entry in fields(Delta) if entry.type in {Distribution, "Distribution"})
_counts_of = attrgetter(*_COUNTS)
_distributions_of = attrgetter(*_DISTRIBUTIONS)
