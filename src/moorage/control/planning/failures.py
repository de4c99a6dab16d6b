"""The texts of FailureReason (control-plane.md section 6.6): AWS's sentence, then what this machine knows more."""

from collections.abc import Sequence

from moorage.control.planning.pools import types_of
from moorage.engine.contract import Failure, InstanceReport
from moorage.state.records import Container, DeployedVariant

LONGEST = 1024
"""Characters that the API's model allows."""

NO_CAPACITY = (
    "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error. "
    "Please retry using a different ML instance type or after some time."
)

_NO_ROOM = (
    "{sentence} Within {seconds:g} seconds there was no room for {waiting} of {wanted} instance(s) of the production "
    "variant {variant} ({types})."
)

OVERTIME = (
    "The deployment took longer than its MaximumExecutionTimeoutInSeconds of {seconds} seconds, and the endpoint was "
    "rolled back."
)
"""AWS's own text is not known (section 15, question 13)."""

_HEALTH_CHECK = (
    "The {container} container for production variant {variant} did not pass the ping health check. "
    "Please check CloudWatch logs for this endpoint."
)

_SENTENCES = {
    Failure.ARTIFACT: (
        'Failed to download model data for container "container_{number}" from URL: "{url}". Please ensure that '
        "there is an object located at the URL and that the role passed to CreateModel has permissions to "
        "download the object."
    ),
    Failure.IMAGE: (
        "Please make sure all images included in the model for the production variant {variant} exist, and that "
        "the execution role used to create the model has permissions to access them."
    ),
    Failure.START: (
        "CannotStartContainerError. Please ensure the model container for variant {variant} starts correctly "
        "when invoked with 'docker run <image> serve'"
    ),
    Failure.HEALTH_CHECK: _HEALTH_CHECK,
    Failure.OUT_OF_MEMORY: _HEALTH_CHECK,
    Failure.CAPACITY: NO_CAPACITY,
    Failure.UNSUPPORTED: "The production variant {variant} asks for what no engine of this machine can promise.",
}


def no_room_reason(variant: DeployedVariant, waiting: int, seconds: float) -> str:
    """Make the FailureReason of instances for which there was no room for so long."""
    types = " or ".join(types_of(variant))
    return _NO_ROOM.format(
        sentence=NO_CAPACITY,
        seconds=seconds,
        waiting=waiting,
        wanted=variant.desired_count,
        variant=variant.name,
        types=types,
    )


def failure_reason(variant: DeployedVariant, containers: Sequence[Container], report: InstanceReport) -> str:
    """Make the FailureReason of an instance that never became ready, whose containers are given."""
    names = [container.name for container in containers]
    at = names.index(report.container) if report.container in names else 0
    sentence = _SENTENCES[report.failure or Failure.START].format(
        container=names[at], variant=variant.name, number=at + 1, url=(containers[at].model or {}).get("S3Uri")
    )
    return with_log(" ".join((sentence, *_as_sentence(report.message))), report.log_tail)


def _as_sentence(message: str) -> tuple[str, ...]:
    """Give a message with its full stop, or nothing for none."""
    text = message.rstrip()
    return () if not text else (text if text.endswith((".", "!", "?")) else f"{text}.",)


def crash_loop_reason(variant: DeployedVariant, report: InstanceReport | None) -> str:
    """Make the FailureReason of instances that become ready and die again and again."""
    names = [container.name for container in variant.containers]
    name = report.container if report is not None and report.container in names else names[0]
    sentence = _HEALTH_CHECK.format(container=name, variant=variant.name)
    return with_log(f"{sentence} It ended again and again after it was ready.", report.log_tail if report else "")


def in_brief(reason: str) -> str:
    """Give a reason in one line: its sentence and, of the log, only the last line, which names the exception."""
    first, *rest = reason.strip().splitlines() or [""]
    return f"{first} Last: {rest[-1].strip()}" if rest else first


def with_log(sentence: str, log_tail: str) -> str:
    """Add the last lines of the container's log, as many as fit, the first of them whole."""
    if not (tail := log_tail.strip()):
        return sentence[:LONGEST]
    head = f"{sentence}\nLast lines of the container's log:\n"
    room = LONGEST - len(head)
    return head + _last_lines(tail, room) if room > 0 else sentence[:LONGEST]


def _last_lines(text: str, room: int) -> str:
    """Give the end of a text; of a single line that is too long, the end of that."""
    if len(text) <= room:
        return text
    beginning = text.find("\n", len(text) - room - 1)
    return text[-room:] if beginning < 0 else text[beginning + 1 :]
