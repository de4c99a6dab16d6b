"""What to do about each kind of failure, from the texts that the control plane really makes."""

import pytest

from moorage.control.planning.failures import NO_CAPACITY, crash_loop_reason, failure_reason
from moorage.engine.contract import Failure, InstanceState
from moorage.telemetry.advice import advice
from moorage.testing.builders import a_report, a_variant

EXPECTED = {
    Failure.ARTIFACT: "Look whether the object is there",
    Failure.IMAGE: "moorage images build",
    Failure.START: "moorage doctor",
    Failure.HEALTH_CHECK: "model_fn",
    Failure.OUT_OF_MEMORY: "a larger InstanceType",
    Failure.CAPACITY: "cannot hold what was asked for",
    Failure.UNSUPPORTED: "See which promises each engine keeps here",
}
MESSAGES = {Failure.OUT_OF_MEMORY: "The container was killed at the memory limit of the instance"}


def reason(failure: Failure, message: str = "", log_tail: str = "") -> str:
    report = a_report("i-1", InstanceState.FAILED, failure=failure, message=message, log_tail=log_tail)
    return failure_reason(a_variant(), a_variant().containers, report)


@pytest.mark.parametrize("failure", Failure)
def test_each_failure_has_advice_of_its_own(failure: Failure) -> None:
    text = "\n".join(advice(reason(failure, MESSAGES.get(failure, "")), "wine", can_only_be_deleted=True))
    assert EXPECTED[failure] in text
    assert text.endswith("\n  aws sagemaker delete-endpoint --endpoint-name wine")


@pytest.mark.parametrize("failure", Failure)
def test_no_command_is_told_that_would_go_to_the_user_s_account_at_aws(failure: Failure) -> None:
    lines = advice(reason(failure), "wine", can_only_be_deleted=True)
    before = [lines[at - 1] for at, line in enumerate(lines) if "aws s" in line]
    assert before
    assert set(before) == {'  eval "$(moorage env)"'}


def test_package_that_is_missing_is_seen_in_the_log() -> None:
    log = "ModuleNotFoundError: No module named 'lightgbm'"
    assert "requirements.txt" in advice(reason(Failure.HEALTH_CHECK, "", log), "wine", can_only_be_deleted=False)[0]


def test_log_that_speaks_of_memory_is_no_sign_of_too_little() -> None:
    log = "memory limit of the cache: 5 GB"
    assert "InstanceType" not in "".join(advice(reason(Failure.START, "", log), "wine", can_only_be_deleted=False))


def test_endpoint_that_serves_on_is_not_to_be_deleted() -> None:
    for text in (NO_CAPACITY, crash_loop_reason(a_variant(), None), "something new"):
        lines = advice(text, "wine", can_only_be_deleted=False)
        assert lines
        assert "delete-endpoint" not in "".join(lines)


def test_unknown_reason_leads_to_the_log() -> None:
    assert advice("something new", "wine", can_only_be_deleted=False) == [
        "Read what the container has printed: moorage logs wine"
    ]
