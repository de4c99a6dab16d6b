"""Numbers in a container's environment variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class WrongNumber(Exception):
    """A variable that is to be a number is none; the text is for people."""


def number_of(environment: Mapping[str, str], names: Sequence[str], *, least: int = 1, most: int) -> int | None:
    """Read the first of these variables that is set; None if none is. Raises WrongNumber."""
    for name in names:
        text = environment.get(name, "").strip()
        if text:
            if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
                raise WrongNumber(f"{name} is {text}. It must be a whole number from {least} to {most}.")
            return int(text)
    return None
