"""The texts of FailureReason."""

from dataclasses import replace

import pytest

from moorage.control.planning.failures import LONGEST, crash_loop_reason, failure_reason, in_brief
from moorage.engine.contract import Failure, InstanceState
from moorage.state.records import Container
from moorage.testing.builders import a_report, a_variant


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (
            Failure.HEALTH_CHECK,
            (
                "The primary container for production variant v did not pass the ping health check. "
                "Please check CloudWatch logs for this endpoint."
            ),
        ),
        (
            Failure.ARTIFACT,
            (
                'Failed to download model data for container "container_1" from URL: "s3://models/v.tar.gz". Please '
                "ensure that there is an object located at the URL and that the role passed to CreateModel has "
                "permissions to download the object."
            ),
        ),
        (
            Failure.IMAGE,
            (
                "Please make sure all images included in the model for the production variant v exist, and that the "
                "execution role used to create the model has permissions to access them."
            ),
        ),
        (
            Failure.START,
            (
                "CannotStartContainerError. Please ensure the model container for variant v starts correctly when "
                "invoked with 'docker run <image> serve'"
            ),
        ),
        (
            Failure.CAPACITY,
            (
                "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error. Please "
                "retry using a different ML instance type or after some time."
            ),
        ),
    ],
)
def test_reason_begins_with_the_words_of_aws(failure: Failure, expected: str) -> None:
    report = a_report("i-1", InstanceState.FAILED, failure=failure, container="primary")
    assert failure_reason(a_variant("v"), a_variant("v").containers, report) == expected


def test_what_happened_and_the_end_of_the_log_follow_within_the_limit() -> None:
    report = a_report(
        "i-1", InstanceState.FAILED, failure=Failure.OUT_OF_MEMORY, message="It used 8 GB.", log_tail="x" * 5000 + "END"
    )
    reason = failure_reason(a_variant("v"), a_variant("v").containers, report)
    assert "for this endpoint. It used 8 GB.\nLast lines of the container's log:\nxxx" in reason
    assert reason.endswith("xEND")
    assert len(reason) == LONGEST


def test_log_begins_with_a_whole_line() -> None:
    lines = [f"{number:03d} of the lines that the container has printed" for number in range(100)]
    report = a_report("i-1", InstanceState.FAILED, failure=Failure.START, log_tail="\n".join(lines))
    reason = failure_reason(a_variant("v"), a_variant("v").containers, report)
    shown = reason.partition("log:\n")[2].splitlines()
    assert shown == lines[-len(shown) :]
    assert LONGEST - len(lines[0]) <= len(reason) <= LONGEST


def test_message_of_the_node_agent_becomes_a_sentence() -> None:
    report = a_report("i-1", InstanceState.FAILED, failure=Failure.HEALTH_CHECK, message="It ended with exit code 1")
    assert failure_reason(a_variant("v"), a_variant("v").containers, report).endswith(
        "for this endpoint. It ended with exit code 1."
    )


def test_overlong_message_is_cut() -> None:
    report = a_report("i-1", InstanceState.FAILED, failure=Failure.START, message="m" * 3000, log_tail="log")
    assert len(failure_reason(a_variant("v"), a_variant("v").containers, report)) == LONGEST


def test_crash_loop_says_so() -> None:
    report = a_report("i-1", InstanceState.EXITED, log_tail="Killed")
    reason = crash_loop_reason(a_variant("v"), report)
    assert "It ended again and again after it was ready." in reason
    assert reason.endswith("Killed")
    assert crash_loop_reason(a_variant("v"), None).endswith("ready.")


def test_container_that_failed_among_several_is_named() -> None:
    several = tuple(Container(name, "image", {}, None) for name in ("x", "y"))
    variant = a_variant("v", containers=several)
    failed = a_report("i-1", InstanceState.FAILED, failure=Failure.HEALTH_CHECK, container="y")
    assert failure_reason(variant, several, failed).startswith("The y container for production variant v did not pass")
    assert crash_loop_reason(variant, replace(failed, state=InstanceState.EXITED)).startswith("The y container")


@pytest.mark.parametrize(
    ("reason", "brief"),
    [
        ("No room.", "No room."),
        (
            "It failed.\nLast lines of the container's log:\nTraceback:\n  File x\nKeyError: 'x'\n",
            "It failed. Last: KeyError: 'x'",
        ),
        ("", ""),
    ],
)
def test_reason_in_brief_is_one_line_with_the_exception(reason: str, brief: str) -> None:
    assert in_brief(reason) == brief
