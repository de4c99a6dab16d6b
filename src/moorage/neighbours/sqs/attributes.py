"""Attributes of queues: which there are, their values and defaults (SQS API reference, SetQueueAttributes). Pure."""

import json
from collections.abc import Mapping

from moorage.aws.errors import ClientFault
from moorage.neighbours.sqs.faults import unsupported

LARGEST_MESSAGE_BYTES = 1_048_576

_RANGES = {
    "DelaySeconds": (0, 900),
    "MaximumMessageSize": (1_024, LARGEST_MESSAGE_BYTES),
    "MessageRetentionPeriod": (60, 1_209_600),
    "ReceiveMessageWaitTimeSeconds": (0, 20),
    "VisibilityTimeout": (0, 43_200),
}
_DEFAULTS = {
    "DelaySeconds": "0",
    "MaximumMessageSize": str(LARGEST_MESSAGE_BYTES),
    "MessageRetentionPeriod": "345600",
    "ReceiveMessageWaitTimeSeconds": "0",
    "VisibilityTimeout": "30",
}
_ELSEWHERE = frozenset(
    {
        "ContentBasedDeduplication",
        "DeduplicationScope",
        "FifoQueue",
        "FifoThroughputLimit",
        "KmsDataKeyReusePeriodSeconds",
        "KmsMasterKeyId",
        "RedriveAllowPolicy",
        "RedrivePolicy",
        "SqsManagedSseEnabled",
    }
)
"""What SQS has and Moorage has not."""

COUNTED = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed")


def check(given: Mapping[str, str]) -> dict[str, str]:
    """Give the attributes of a request that may be set; raises what is wrong with the first that may not."""
    return {name: _checked(name, value) for name, value in given.items() if value or name != "Policy"}


def _checked(name: str, value: str) -> str:
    if name in _ELSEWHERE:
        raise unsupported(f"the attribute {name}")
    if name == "Policy":
        return _policy(value)
    if name not in _RANGES:  # what is only told
        raise ClientFault("InvalidAttributeName", f"Unknown Attribute {name}.")
    least, most = _RANGES[name]
    if not (value.isascii() and value.isdigit() and len(value) < 10 and least <= int(value) <= most):
        raise _invalid(name)
    return str(int(value))


def _policy(text: str) -> str:
    try:
        whole = isinstance(json.loads(text), dict)
    except ValueError:
        whole = False
    if not whole:
        raise _invalid("Policy")
    return text


def _invalid(name: str) -> ClientFault:
    return ClientFault("InvalidAttributeValue", f"Invalid value for the parameter {name}.")


def with_defaults(attributes: Mapping[str, str]) -> dict[str, str]:
    """Give a queue's attributes with those that nobody has set."""
    return {**_DEFAULTS, **attributes}
