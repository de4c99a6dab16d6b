"""The texts of ModelError, which clients match on (data-plane.md sections 1.7 and 3.2). Pure."""

from collections.abc import Mapping
from typing import Any

from moorage.aws.errors import ModelFault
from moorage.routing.snapshot import Endpoint

_CLIENT_ERROR = "CLIENT_ERROR_FROM_MODEL"
_SERVER_ERROR = "INTERNAL_FAILURE_FROM_MODEL"


def from_status(endpoint: Endpoint, container: str, status: int, body: str) -> ModelFault:
    """Make the error of a container that answered with a status other than 2xx."""
    blame = "client" if 400 <= status < 500 else "server"
    text = f'Received {blame} error ({status}) from {container} with message "{body}". {_see(endpoint)}'
    code = _CLIENT_ERROR if blame == "client" else _SERVER_ERROR
    return _fault(endpoint, code, text, status, body)


def not_loaded(endpoint: Endpoint, container: str) -> ModelFault:
    """Make the error of an answer that was too large, or cut in the middle of its body."""
    text = f"Received server error (500) from {container} and could not load the entire response body. {_see(endpoint)}"
    return _fault(endpoint, _SERVER_ERROR, text, 500, "")


def timed_out(endpoint: Endpoint, container: str) -> ModelFault:
    """Make the error of a container that did not answer in time."""
    return _silent(
        endpoint,
        container,
        f"Your invocation timed out while waiting for a response from container {container}. Review the latency "
        "metrics for each container in Amazon CloudWatch, resolve the issue, and try again.",
    )


def no_response(endpoint: Endpoint, container: str) -> ModelFault:
    """Make the error of a container that refused or reset the connection, or sent what is no answer."""
    return _silent(
        endpoint,
        container,
        f"Amazon SageMaker could not get a response from the {endpoint.name} endpoint. This can occur when CPU or "
        "memory utilization is high. To check your utilization, see Amazon CloudWatch. To fix this problem, use an "
        "instance type with more CPU capacity or memory.",
    )


def too_large_between(endpoint: Endpoint, container: str, details: Mapping[str, Any]) -> ModelFault:
    """Make the error of a pipeline in which what one container has for the next is too large (section 8.2).

    ``details`` are those of ``fronts.FaultKind.TOO_LARGE``.
    """
    status = int(details["status"])
    text = (
        f"Received response from {container} with status code {status}. However, the request payload from {container} "
        f"to {details['next']} is {details['bytes']} bytes, which has exceeded the maximum limit of "
        f"{_megabytes(details['limit'])}."
    )
    return _fault(endpoint, _SERVER_ERROR, f"{text} {_see(endpoint)}", status, text)


def _megabytes(size: int) -> str:
    """Write a limit as AWS does, where it is whole."""
    megabytes, rest = divmod(size, 2**20)
    return f"{size} bytes" if rest else f"{megabytes} MB"


def session_taken(endpoint: Endpoint, container: str, session_id: str) -> ModelFault:
    """Make the error of a container that opened a session under an id that another instance has given out."""
    text = (
        f"{container} has opened a session with the id {session_id}, which another instance of the "
        f"{endpoint.name} endpoint has given to somebody else. {_see(endpoint)}"
    )
    return _fault(endpoint, _SERVER_ERROR, text, 200, "")


def stream_broken(container: str) -> ModelFault:
    """Make the error of a container whose answer broke after its first byte had gone to the client."""
    return _mid_stream(
        "StreamBroken", f"The connection to the model {container} was broken before the response was complete."
    )


def stream_timed_out(container: str) -> ModelFault:
    """Make the error of a container whose answer was not complete in time."""
    return _mid_stream(
        "ModelInvocationTimeExceeded",
        f"Your model {container} did not complete sending the inference response in the allotted time.",
    )


def _mid_stream(error_code: str, text: str) -> ModelFault:
    return ModelFault("ModelStreamError", text, members={"ErrorCode": error_code})


def _silent(endpoint: Endpoint, container: str, reason: str) -> ModelFault:
    text = f'Received server error (0) from {container} with message "{reason}". {_see(endpoint)}'
    return _fault(endpoint, _SERVER_ERROR, text, 0, reason)


def _see(endpoint: Endpoint) -> str:
    region = endpoint.region
    return (
        f"See https://{region}.console.aws.amazon.com/cloudwatch/home?region={region}"
        f"#logEventViewer:group=/aws/sagemaker/Endpoints/{endpoint.name} "
        f"in account {endpoint.account} for more information."
    )


def _fault(endpoint: Endpoint, error_code: str, text: str, status: int, original: str) -> ModelFault:
    log_group = f"arn:aws:logs:{endpoint.region}:{endpoint.account}:log-group:/aws/sagemaker/Endpoints/{endpoint.name}"
    return ModelFault(
        "ModelError",
        text,
        status=424,
        members={
            "ErrorCode": error_code,
            "LogStreamArn": log_group,
            "OriginalMessage": original,
            "OriginalStatusCode": status,
        },
    )
