"""How a container ended."""

import signal
from dataclasses import dataclass

SIGNALLED = 128
"""Added to a signal's number: the exit code of a process that tells how another was ended, as a shell does."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How a container's first process ended."""

    code: int
    """Exit code, or minus the signal that ended it."""
    out_of_memory: bool
    """The kernel killed at the instance's memory limit."""

    def __str__(self) -> str:
        if self.out_of_memory:
            return "killed at the memory limit of the instance"
        if self.code >= 0:
            return f"ended with exit code {self.code}"
        try:
            return f"killed by {signal.Signals(-self.code).name}"
        except ValueError:
            return f"killed by signal {-self.code}"


def read_exit_code(code: int) -> int:
    """Give minus the signal for the exit code of what a signal has ended, as a shell tells it; others as they are."""
    number = code - SIGNALLED
    return -number if number in set(signal.Signals) else code
