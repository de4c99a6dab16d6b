"""What one run of ``scripts/bench gateway`` measures, and for how long."""

from dataclasses import dataclass

ROUNDS, SECONDS, REQUESTS = 5, 3.0, 1_000_000


@dataclass(frozen=True)
class Plan:
    """The user's choice."""

    peers: frozenset[str]
    """Names of those to compare with; nginx is always there."""
    rounds: int = ROUNDS
    """Turns of everybody; the median counts."""
    seconds: float = SECONDS
    """Of each load."""
    requests: int = REQUESTS
    """Over which the growth of memory is watched."""
