"""One measured thing, and how it is shown."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measure:
    """A line of the table."""

    what: str
    reach: str
    measured: str
    note: str = ""
    """What it was measured with, where that matters."""


class NotMeasured(Exception):
    """Why a measure could not be made on this machine; its text is for people."""


def not_measured(what: str, reach: str, why: object) -> Measure:
    """Make the line of what could not be measured; the last line of a long reason says it."""
    return Measure(what, reach, "not measured", str(why).strip().rpartition("\n")[2][-300:])


def line(measure: Measure) -> str:
    """Give one measure as one line."""
    note = f"  ({measure.note})" if measure.note else ""
    return f"{measure.what:<62} {measure.reach:>14} {measure.measured:>12}{note}"
