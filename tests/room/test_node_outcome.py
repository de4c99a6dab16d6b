"""What the node agent reports of an end."""

import pytest

from moorage.engine.contract import Failure, InstanceState
from moorage.engine.exit import Exit
from moorage.node.outcome import Ended, Outcome, judge

KILLED = Exit(-9, out_of_memory=False)
MEMORY = Exit(-9, out_of_memory=True)


def test_told_to_stop_is_stopped_however_it_ended() -> None:
    assert judge(Ended.TOLD_TO_STOP, KILLED, was_ready=True) == Outcome(InstanceState.STOPPED, None, "")


@pytest.mark.parametrize(
    ("why", "end", "was_ready", "state", "failure", "message"),
    [
        (Ended.BY_ITSELF, Exit(3, out_of_memory=False), False, InstanceState.FAILED, Failure.HEALTH_CHECK,
         "The container ended with exit code 3 before it answered /ping"),
        (Ended.BY_ITSELF, MEMORY, False, InstanceState.FAILED, Failure.OUT_OF_MEMORY,
         "The container was killed at the memory limit of the instance before it answered /ping"),
        (Ended.BY_ITSELF, KILLED, True, InstanceState.EXITED, None, "The container was killed by SIGKILL"),
        (Ended.BY_ITSELF, MEMORY, True, InstanceState.EXITED, Failure.OUT_OF_MEMORY,
         "The container was killed at the memory limit of the instance"),
        (Ended.NEVER_HEALTHY, KILLED, False, InstanceState.FAILED, Failure.HEALTH_CHECK,
         "The container did not answer /ping with 200 in time: /ping answered 404"),
        (Ended.UNHEALTHY, KILLED, True, InstanceState.EXITED, None,
         "The container failed its health checks and was ended: /ping answered 404"),
    ],
)  # fmt: skip
def test_end_is_named(  # noqa: PLR0917 - one row of the table
    why: Ended,
    end: Exit,
    was_ready: bool,  # noqa: FBT001
    state: InstanceState,
    failure: Failure | None,
    message: str,
) -> None:
    outcome = judge(why, end, was_ready=was_ready, last_ping="/ping answered 404")
    assert outcome == Outcome(state, failure, message)
