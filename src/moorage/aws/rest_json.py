"""The protocol REST-JSON as the runtime API uses it: members travel in headers, in the path and as the whole body.

Its errors have a form of their own: the exception's name only in the header ``x-amzn-ErrorType``, a sub-code in the
body (data-plane.md section 1.6).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any
from urllib.parse import unquote

import orjson

from moorage.aws import validate
from moorage.aws.errors import ClientFault, ServiceError, validation_error
from moorage.aws.response import Response
from moorage.aws.shapes import NumberShape, Operation, Service, Shape, StringShape, load_service

_THROTTLED = "ThrottlingException"


def find_operation(service: Service, method: str, path: str) -> tuple[Operation, dict[str, str]]:
    """Find the operation of a method and path (still percent-encoded) and read the path's labels.

    Raises UnknownOperationException with status 404.
    """
    for http_method, pattern, operation in _routes(service):
        if http_method == method and (found := pattern.fullmatch(path)):
            return operation, {name: unquote(value) for name, value in found.groupdict().items()}
    raise ClientFault("UnknownOperationException", "There is nothing at this path.", status=404)


def read_headers(operation: Operation, headers: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Read the members that travel in headers; names of ``headers`` are in lower case.

    An empty value counts as absent; of a repeated header the first counts, as it does for the container. Raises
    ValidationError for a number that is none.
    """
    wanted = header_members(operation)
    read: dict[str, Any] = {}
    for name, value in dict(reversed(headers)).items():
        if name in wanted and value:
            member, shape = wanted[name]
            read[member] = _read_number(member, value) if isinstance(shape, NumberShape) else value
    return read


def check(operation: Operation, members: Mapping[str, Any]) -> None:
    """Raise ValidationError with all violations of the modelled constraints; the body is not looked at."""
    if operation.input is None:
        return
    body = (operation.input.payload,) if operation.input.payload else ()
    if found := validate.violations(operation.input, members, ignored=body):
        raise validation_error(validate.message_of(found))


def error_response(error: ServiceError, request_id: str) -> Response:
    """Make the whole answer of an error, in the runtime's form."""
    headers = (
        ("x-amzn-RequestId", request_id),
        ("x-amzn-ErrorType", error.code),
        ("Content-Type", "application/json"),
    )
    return Response(error.status, headers, orjson.dumps(_error_content(error), option=orjson.OPT_SORT_KEYS))


def _error_content(error: ServiceError) -> dict[str, object]:
    if error.code == _THROTTLED:
        return {"message": None}
    content = {"ErrorCode": _sub_code(error.code), "Message": error.message, **error.members}
    limits = _message_limits()
    return {
        name: value[: limits[name]] if isinstance(value, str) and name in limits else value
        for name, value in content.items()
        if value is not None
    }


def _sub_code(code: str) -> str:
    """Make the sub-code of an error that has none of its own: ModelError gives MODEL_ERROR."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", code).upper()


def _read_number(member: str, value: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", value.strip()):
        raise validation_error(f"Value '{value}' at '{member[0].lower()}{member[1:]}' must be a number.")
    return int(value)


@cache
def _routes(service: Service) -> Iterable[tuple[str, re.Pattern[str], Operation]]:
    return tuple(
        (operation.http_method, re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", operation.uri)), operation)
        for operation in service.operations.values()
    )


@cache
def header_members(operation: Operation) -> Mapping[str, tuple[str, Shape]]:
    """Give the members that travel in headers, by the header's name in lower case."""
    if operation.input is None:
        return {}
    return {
        member.wire_name.lower(): (member.name, member.shape)
        for member in operation.input.members.values()
        if member.location == "header"
    }


@cache
def _message_limits() -> Mapping[str, int]:
    """Largest lengths of the texts of an error; a container's long answer is cut there."""
    message = load_service("sagemaker-runtime").shape("Message")
    assert isinstance(message, StringShape)  # noqa: S101 - the model file is ours
    return {"Message": int(message.max or 0), "OriginalMessage": int(message.max or 0)}
