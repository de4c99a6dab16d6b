"""What the end of an instance means: pure."""

from dataclasses import dataclass
from enum import Enum, auto

from moorage.engine.contract import Failure, InstanceState
from moorage.engine.exit import Exit


class Ended(Enum):
    """Why an instance's life came to its end."""

    BY_ITSELF = auto()
    TOLD_TO_STOP = auto()
    NEVER_HEALTHY = auto()
    """No 200 of ``/ping`` in time."""
    UNHEALTHY = auto()
    """Was ready and failed its health checks."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The last report's state and reason."""

    state: InstanceState
    failure: Failure | None
    message: str


def front_ended(end: Exit) -> Outcome:
    """Say what is reported of an instance whose front has ended before its containers: it is to be replaced."""
    return Outcome(InstanceState.EXITED, None, _told("Moorage's own process before its containers", end))


def judge(why: Ended, end: Exit, *, was_ready: bool, last_ping: str = "", who: str = "The container") -> Outcome:
    """Say what is reported of an instance that has ended; ``who`` begins the message."""
    if why is Ended.TOLD_TO_STOP:
        return Outcome(InstanceState.STOPPED, None, "")
    memory = Failure.OUT_OF_MEMORY if end.out_of_memory else None
    if why is Ended.UNHEALTHY:
        message = f"{who} failed its health checks and was ended: {last_ping}"
        return Outcome(InstanceState.EXITED, memory, message)
    if was_ready:
        return Outcome(InstanceState.EXITED, memory, _told(who, end))
    if why is Ended.NEVER_HEALTHY:
        message = f"{who} did not answer /ping with 200 in time: {last_ping}"
        return Outcome(InstanceState.FAILED, memory or Failure.HEALTH_CHECK, message)
    message = _told(who, end)
    # To AWS's eyes a container that ends is one that never becomes healthy: users search for that sentence.
    return Outcome(InstanceState.FAILED, memory or Failure.HEALTH_CHECK, f"{message} before it answered /ping")


def _told(who: str, end: Exit) -> str:
    return f"{who} was {end}" if end.out_of_memory or end.code < 0 else f"{who} {end}"
