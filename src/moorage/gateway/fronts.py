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

FAULT_STATUS = 502

_CONTAINER, _FAULT, _LATENCIES = CONTAINER.lower(), FAULT.lower(), LATENCIES.lower()


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


def tell_latencies(latencies: Sequence[tuple[str, int]]) -> bytes:
    """Write the value of the header."""
    return ",".join([f"{name}={microseconds}" for name, microseconds in latencies]).encode()


def read_told(head: AnswerHead) -> Told:
    """Read what a front has told with an answer; what it has not told is None."""
    container = fault = None
    latencies: tuple[tuple[str, int], ...] = ()
    for name, value in head.raw_headers:
        lower = name.lower()
        if lower == _CONTAINER:
            container = value.decode("latin-1")
        elif lower == _FAULT:
            fault = value.decode("latin-1")
        elif lower == _LATENCIES:
            latencies = tuple(map(_read_latency, value.decode("latin-1").split(",")))
    return Told(container, fault, latencies)


def _read_latency(text: str) -> tuple[str, int]:
    name, _, microseconds = text.rpartition("=")
    return name, int(microseconds)
