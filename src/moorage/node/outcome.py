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


def judge(why: Ended, end: Exit, *, was_ready: bool, last_ping: str = "") -> Outcome:
    """Say what is reported of an instance that has ended."""
    if why is Ended.TOLD_TO_STOP:
        return Outcome(InstanceState.STOPPED, None, "")
    memory = Failure.OUT_OF_MEMORY if end.out_of_memory else None
    if why is Ended.UNHEALTHY:
        message = f"The container failed its health checks and was ended: {last_ping}"
        return Outcome(InstanceState.EXITED, memory, message)
    if was_ready:
        return Outcome(InstanceState.EXITED, memory, f"The container was {end}" if _passive(end) else _active(end))
    if why is Ended.NEVER_HEALTHY:
        message = f"The container did not answer /ping with 200 in time: {last_ping}"
        return Outcome(InstanceState.FAILED, memory or Failure.HEALTH_CHECK, message)
    message = f"The container was {end}" if _passive(end) else _active(end)
    # To AWS's eyes a container that ends is one that never becomes healthy: users search for that sentence.
    return Outcome(InstanceState.FAILED, memory or Failure.HEALTH_CHECK, f"{message} before it answered /ping")


def _passive(end: Exit) -> bool:
    return end.out_of_memory or end.code < 0


def _active(end: Exit) -> str:
    return f"The container {end}"
