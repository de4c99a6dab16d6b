"""What the front of an instance tells the gateway beside the answer (``moorage.front``). Pure.

An instance of several containers, or of one that serves many models, has a *front*: a process of Moorage's at the
instance's address. It says in headers of its own which container has answered or failed, what went wrong where no
container has said it, and how long each has taken. A gateway believes them only where the snapshot says that there is
a front (``routing.snapshot.Variant.has_front``), and no client ever sees them; a front never takes them from a
container. The answer to a call that has failed without a container's answer has the header ``X-Moorage-Fault``, and
its body is a JSON object of what there is to say more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson

from moorage.gateway.exchange import AnswerHead

CONTAINER = b"X-Moorage-Container"
"""Name of the container that has answered, or is to blame."""

FAULT = b"X-Moorage-Fault"
"""What went wrong: a ``FaultKind``."""

LATENCIES = b"X-Moorage-Latencies"
"""``NAME=MICROSECONDS`` of each container that was asked, in order, with commas; of the last one up to its head."""

MEASURES = b"X-Moorage-Measures"
"""``METRIC=VALUE`` of what a multi-model container's front has measured, with commas; a metric may come again."""

FAULT_STATUS = 502

_CONTAINER, _FAULT, _LATENCIES, _MEASURES = CONTAINER.lower(), FAULT.lower(), LATENCIES.lower(), MEASURES.lower()


class FaultKind(StrEnum):
    """What can go wrong beside a container's own errors."""

    REFUSED = "Refused"
    """The first container took no connection: nothing has run, another instance may be asked."""
    NO_ANSWER = "NoAnswer"
    """A container refused or closed the connection, or sent what is no answer."""
    CUT = "Cut"
    """A container broke its answer off in the body."""
    TIMED_OUT = "TimedOut"
    """The time was up while this container was being waited for."""
    TOO_LARGE = "TooLarge"
    """What one container has for the next is larger than a body may be: ``status``, ``bytes``, ``limit``, ``next``."""
    NO_MEMORY = "NoMemory"
    """Bodies take all the memory that a front has for them: another time there may be some."""
    UNKNOWN_CONTAINER = "UnknownContainer"
    """No container has the hostname that was asked for, or none was named where one must be."""
    UNREADABLE = "Unreadable"
    """The request is none that a front does."""
    NOT_READY = "NotReady"
    """The time was up while the target model was still being loaded, which goes on."""
    NO_MODEL = "NoModel"
    """There is no object, or none that can be read, where the target model is to be: ``uri``."""
    BAD_MODEL = "BadModel"
    """The target model's object cannot be extracted or kept: ``uri``, ``reason``."""
    NOT_LOADED = "NotLoaded"
    """The container has refused to load the target model: its ``status`` and ``body``."""
    FAILED = "Failed"
    """The front itself: its log says why."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why there is no (whole) answer of a container."""

    kind: str
    """A ``FaultKind``."""
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        """The details as JSON."""
        return orjson.dumps(dict(self.details))

    @classmethod
    def from_body(cls, kind: str, body: bytes) -> "Fault":
        """Read what a front has written."""
        return cls(kind, orjson.loads(body) if body else {})


@dataclass(frozen=True, slots=True)
class Told:
    """What a front says of one answer."""

    container: str | None = None
    fault: str | None = None
    latencies: tuple[tuple[str, int], ...] = ()
    """Microseconds, by container."""
    measures: tuple[tuple[str, int], ...] = ()
    """Values, by metric."""


def tell_values(values: Sequence[tuple[str, int]]) -> bytes:
    """Write the value of a header."""
    return ",".join([f"{name}={value}" for name, value in values]).encode()


def read_told(head: AnswerHead) -> Told:
    """Read what a front has told with an answer; what it has not told is None."""
    container = fault = None
    latencies: tuple[tuple[str, int], ...] = ()
    measures: tuple[tuple[str, int], ...] = ()
    for name, value in head.raw_headers:
        lower = name.lower()
        if lower == _CONTAINER:
            container = value.decode("latin-1")
        elif lower == _FAULT:
            fault = value.decode("latin-1")
        elif lower == _LATENCIES:
            latencies = _read_values(value)
        elif lower == _MEASURES:
            measures = _read_values(value)
    return Told(container, fault, latencies, measures)


def _read_values(value: bytes) -> tuple[tuple[str, int], ...]:
    return tuple(map(_read_value, value.decode("latin-1").split(",")))


def _read_value(text: str) -> tuple[str, int]:
    name, _, value = text.rpartition("=")
    return name, int(value)
