"""How many values there were and how they are spread: exact count, sum, least and greatest, and a histogram.

The histogram's buckets grow with the values: below 32 each whole number has its own, above that each power of two is
cut into 32. So a percentile is right to within ``ERROR`` of itself, from microseconds to hours, in a few dozen
numbers. Distributions of the same values are merged by adding, in any order and grouping.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TypeVar

K = TypeVar("K")

ERROR = 1 / 64
"""How far a percentile may be from the value that it stands for, as a part of it."""

PARTS = 32
"""Buckets of each power of two."""

_SHIFT_BITS = 6
"""A value with more bits than this is wider than its bucket's number."""
_PART_BITS = 5


def bucket_of(value: int) -> int:
    """Give the bucket of a value, which is not negative. ``telemetry.meters`` has this written out, for speed."""
    shift = value.bit_length() - _SHIFT_BITS
    return value if shift <= 0 else (shift << _PART_BITS) + (value >> shift)


def middle_of(bucket: int) -> float:
    """Give the value that stands for a bucket."""
    if bucket < 2 * PARTS:
        return float(bucket)
    shift = (bucket >> _PART_BITS) - 1
    return (PARTS + bucket % PARTS << shift) + ((1 << shift) - 1) / 2


@dataclass(slots=True)
class Distribution:
    """Values that were seen."""

    count: int = 0
    sum: float = 0
    """Whole as long as all values are: then adding loses nothing."""
    minimum: float = math.inf
    maximum: float = -math.inf
    buckets: dict[int, int] = field(default_factory=dict)
    """Values by bucket; empty when only the rest was kept."""

    def add(self, value: int) -> None:
        """Take one value, which is not negative."""
        bucket = bucket_of(value)
        self.count += 1
        self.sum += value
        self.minimum = min(self.minimum, value)
        self.maximum = max(self.maximum, value)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1

    def merge(self, other: "Distribution") -> "Distribution":
        """Give the distribution of both's values."""
        return Distribution(
            self.count + other.count,
            self.sum + other.sum,
            min(self.minimum, other.minimum),
            max(self.maximum, other.maximum),
            add_counts(self.buckets, other.buckets),
        )

    @property
    def average(self) -> float | None:
        """Give the mean; None of nothing."""
        return self.sum / self.count if self.count else None

    def percentile(self, percent: float) -> float | None:
        """Give the least value that ``percent`` of all do not exceed, to within ERROR; None of nothing."""
        if not self.count or not self.buckets:
            return None
        wanted = max(1, math.ceil(percent / 100 * self.count))
        seen = 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= wanted:
                return min(max(middle_of(bucket), self.minimum), self.maximum)
        return self.maximum

    def to_message(self) -> list[float | list[int]]:
        """Give the JSON form: nothing but ``[]`` when nothing was seen."""
        if not self.count:
            return []
        return [self.count, self.sum, self.minimum, self.maximum, flat(self.buckets)]

    @classmethod
    def from_message(cls, message: Sequence[float | list[int]]) -> "Distribution":
        """Read the JSON form."""
        if not message:
            return cls()
        count, total, minimum, maximum, buckets = message
        return cls(count, total, minimum, maximum, unflat(buckets))  # type: ignore[arg-type]  # as it was written


def of_flags(count: int, ones: int) -> Distribution:
    """Give the distribution of ``count`` values of which ``ones`` are 1 and the others 0."""
    if not count:
        return Distribution()
    zeros = count - ones
    buckets = {bucket: number for bucket, number in ((0, zeros), (1, ones)) if number}
    return Distribution(count, ones, 0 if zeros else 1, 1 if ones else 0, buckets)


def add_counts(one: Mapping[K, int], other: Mapping[K, int]) -> dict[K, int]:
    """Add counts by their key."""
    added = dict(one)
    for key, number in other.items():
        added[key] = added.get(key, 0) + number
    return added


def flat(counts: Mapping[int, int]) -> list[int]:
    """Give counts as a list ``key, count, key, count``, which JSON can hold."""
    return list(chain.from_iterable(counts.items()))


def unflat(numbers: Iterable[int]) -> dict[int, int]:
    """Read what ``flat`` has made."""
    pairs = iter(numbers)
    return dict(zip(pairs, pairs, strict=True))
