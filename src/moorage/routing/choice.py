"""What a decision comes to: where an invocation goes, or why it goes nowhere."""

from dataclasses import dataclass
from enum import StrEnum

from moorage.routing.snapshot import Instance, Variant


@dataclass(frozen=True, slots=True)
class Choice:
    """Where an invocation goes; made once for each instance of a snapshot, not for each invocation."""

    variant: Variant
    instance: Instance


class Refusal(StrEnum):
    """Why an invocation goes nowhere."""

    UNKNOWN_VARIANT = "UnknownVariant"
    NO_WEIGHT = "NoWeight"
    """Several variants, all with a weight of zero, and none named."""
    NO_INSTANCE = "NoInstance"
    """No ready instance is known."""
    NONE_LEFT = "NoneLeft"
    """There were ready instances, and each refused this invocation."""
    FULL = "Full"
    """Every instance that could be asked has as many invocations in flight as it may have."""
