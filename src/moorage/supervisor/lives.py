"""When a child that died is started again: at once, unless it dies again and again. Pure."""

from dataclasses import dataclass, replace

STEADY_SECONDS = 10.0
"""Who lived this long is not in a crash loop."""

FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Lives:
    """How a child has fared so far."""

    quick_deaths: int = 0
    """Deaths in a row, each sooner than STEADY_SECONDS after its start."""
    restart_delay_seconds: float = 0.0
    """How long to wait after the last death."""


def after_death(lives: Lives, lived_seconds: float) -> Lives:
    """Say how long to wait with the next start: nothing after a first death, then 0.1 s, doubled up to 10 s."""
    if lived_seconds >= STEADY_SECONDS:
        return Lives()
    deaths = lives.quick_deaths + 1
    delay = 0.0 if deaths == 1 else min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0 ** (min(deaths, 32) - 2))
    return replace(lives, quick_deaths=deaths, restart_delay_seconds=delay)
