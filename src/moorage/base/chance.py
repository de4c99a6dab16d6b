"""Chance is passed in. Nobody else imports ``random``."""

import random
from typing import Protocol


class Chance(Protocol):
    """Where a room gets its dice from."""

    def random(self) -> float:
        """Give a number of [0, 1)."""


def system_chance() -> Chance:
    """Make dice that differ in each process."""
    return random.Random()  # noqa: S311 - routing, not cryptography


def seeded_chance(seed: int) -> Chance:
    """Make dice that fall the same way each time."""
    return random.Random(seed)  # noqa: S311 - tests repeat exactly
