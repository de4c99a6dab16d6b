"""Prometheus's text format, version 0.0.4. Pure.

Buckets of latencies are made from distributions; a value that shares a distribution's bucket with a boundary may stand
on its other side, so a boundary is right to within ``distribution.ERROR``.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from moorage.base.distribution import Distribution, middle_of

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

BOUNDS_SECONDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
"""From what Moorage itself adds to AWS's limit for a model's answer."""

_MICROSECONDS = 1_000_000

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric with all its series."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    samples: list[tuple[Labels, float | Distribution]] = field(default_factory=list)
    """Of a histogram, distributions in microseconds."""


def text_of(families: Sequence[Family]) -> str:
    """Write the page; a metric without series is left out."""
    lines: list[str] = []
    for family in families:
        if family.samples:
            lines.append(f"# HELP {family.name} {_escape_help(family.help)}")
            lines.append(f"# TYPE {family.name} {family.kind}")
            for labels, value in family.samples:
                if isinstance(value, Distribution):
                    lines.extend(_histogram(family.name, labels, value))
                else:
                    lines.append(f"{family.name}{_labels(labels)} {_number(value)}")
    return "\n".join([*lines, ""])


def cumulate(values: Distribution) -> list[int]:
    """Count the values up to each of BOUNDS_SECONDS."""
    counts = [0] * len(BOUNDS_SECONDS)
    place = below = 0
    for bucket in sorted(values.buckets):
        middle = middle_of(bucket)
        while place < len(counts) and middle > BOUNDS_SECONDS[place] * _MICROSECONDS:
            counts[place] = below
            place += 1
        below += values.buckets[bucket]
    counts[place:] = [below] * (len(counts) - place)
    return counts


def _histogram(name: str, labels: Labels, values: Distribution) -> Iterator[str]:
    inner = _inner(labels)
    before = f"{name}_bucket{{{inner}{',' if inner else ''}le="
    for bound, count in zip(BOUNDS_SECONDS, cumulate(values), strict=True):
        yield f'{before}"{_number(bound)}"}} {count}'
    yield f'{before}"+Inf"}} {values.count}'
    yield f"{name}_sum{_labels(labels)} {_number(values.sum / _MICROSECONDS)}"
    yield f"{name}_count{_labels(labels)} {values.count}"


def _labels(labels: Labels) -> str:
    return f"{{{_inner(labels)}}}" if labels else ""


def _inner(labels: Labels) -> str:
    return ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items())


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _escape_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _number(value: float) -> str:
    """Write a number as Go's parser reads it."""
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return repr(float(value))
