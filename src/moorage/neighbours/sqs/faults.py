"""What SQS refuses, in its codes and words."""

from moorage.aws.errors import ClientFault

_QUERY_CODES = {
    "QueueDoesNotExist": "AWS.SimpleQueueService.NonExistentQueue",
    "QueueNameExists": "QueueAlreadyExists",
    "EmptyBatchRequest": "AWS.SimpleQueueService.EmptyBatchRequest",
    "TooManyEntriesInBatchRequest": "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
    "BatchEntryIdsNotDistinct": "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
    "InvalidBatchEntryId": "AWS.SimpleQueueService.InvalidBatchEntryId",
    "BatchRequestTooLong": "AWS.SimpleQueueService.BatchRequestTooLong",
    "MessageNotInflight": "AWS.SimpleQueueService.MessageNotInflight",
    "UnsupportedOperation": "AWS.SimpleQueueService.UnsupportedOperation",
    "InvalidParameterValueException": "InvalidParameterValue",
    "MissingRequiredParameterException": "MissingParameter",
}


def query_code(code: str) -> str:
    """Give the code that an error had in the query protocol, which clients still look for."""
    return _QUERY_CODES.get(code, code)


def no_queue() -> ClientFault:
    """Make the error of a queue that is not there, or is somebody else's."""
    return ClientFault("QueueDoesNotExist", "The specified queue does not exist.")


def invalid_value(parameter: str, value: object, reason: str) -> ClientFault:
    """Make the refusal of a parameter's value."""
    message = f"Value {value} for parameter {parameter} is invalid. Reason: {reason}"
    return ClientFault("InvalidParameterValueException", message)


def invalid(reason: str) -> ClientFault:
    """Make the refusal of a combination of values."""
    return ClientFault("InvalidParameterValueException", f"One or more parameters are invalid. Reason: {reason}")


def missing(parameter: str) -> ClientFault:
    """Make the refusal of a request without a parameter."""
    message = f"The request must contain the parameter {parameter}."
    return ClientFault("MissingRequiredParameterException", message)


def invalid_handle(handle: str) -> ClientFault:
    """Make the refusal of what never was a receipt handle."""
    return ClientFault("ReceiptHandleIsInvalid", f'The input receipt handle "{handle}" is not a valid receipt handle.')


def unsupported(what: str) -> ClientFault:
    """Make the refusal of what SQS has and Moorage has not; ``what`` names it."""
    return ClientFault("UnsupportedOperation", f"Moorage's SQS does not have {what}.")
