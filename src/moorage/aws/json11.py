"""The protocol JSON 1.1 of the control plane, and 1.0, which differs in its name alone: requests in, answers out.

Reading is strict: a body that two parsers could understand differently (double keys, NaN, numbers that do not fit,
half characters) is an error. Members that the model does not know are ignored, ``null`` means absent
(control-plane.md section 1.1).
"""

import base64
import binascii
import json
import math
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any, NoReturn, cast

import orjson

from moorage.aws.errors import ClientFault, OurFault, ServiceError
from moorage.aws.response import Response
from moorage.aws.shapes import (
    BlobShape,
    BooleanShape,
    ListShape,
    MapShape,
    NumberShape,
    Operation,
    Service,
    Shape,
    StringShape,
    StructureShape,
    TimestampShape,
)

CONTENT_TYPE = "application/x-amz-json-1.1"
CONTENT_TYPE_1_0 = "application/x-amz-json-1.0"

_WHOLE_RANGES = {"integer": 2**31, "long": 2**63}
_DEEPEST = 100
_SINGLE_MAX = 3.4028234663852886e38


def find_operation(service: Service, target: str | None, implemented: Collection[str]) -> Operation:
    """Find the operation that ``X-Amz-Target`` names; raises UnknownOperationException.

    ``implemented`` are the names of the operations that there is code for.
    """
    if not target:
        raise _unknown_operation("The request has no X-Amz-Target header.")
    prefix, dot, name = target.partition(".")
    if prefix != service.target_prefix or not dot or name not in service.all_operation_names:
        raise _unknown_operation(f"Unknown operation {target[:200]!a}.")
    if name not in implemented or name not in service.operations:
        raise _unknown_operation(f"Moorage does not have the operation {name} of {service.full_name}.")
    return service.operations[name]


def parse_request(operation: Operation, body: bytes) -> dict[str, Any]:
    """Read a request's body by the operation's input shape.

    Timestamps become seconds since the epoch. Raises ClientFault with the code SerializationException.
    """
    value = _load(body) if body.strip() else {}
    if not isinstance(value, dict):
        _refuse("Start of structure expected: the request body must be a JSON object.")
    if operation.input is None:
        return {}
    return cast("dict[str, Any]", _read(operation.input, value))


def serialize_output(operation: Operation, output: Mapping[str, Any]) -> bytes:
    """Write an answer's body; members that are None are left out.

    Raises KeyError for a member that the model does not have: that is a mistake of ours.
    """
    if operation.output is None:
        return b""
    return orjson.dumps(_write(operation.output, output))


def success_response(
    operation: Operation, output: Mapping[str, Any], request_id: str, content_type: str = CONTENT_TYPE
) -> Response:
    """Make the whole answer of a success."""
    headers = (("x-amzn-RequestId", request_id), ("Content-Type", content_type))
    return Response(operation.status, headers, serialize_output(operation, output))


def error_response(
    error: ServiceError, request_id: str, content_type: str = CONTENT_TYPE, query_code: str | None = None
) -> Response:
    """Make the whole answer of an error; both spellings of the message, because clients differ (section 1.3).

    ``query_code`` is the code that the service had in the query protocol, of which its clients still know.
    """
    headers = [
        ("x-amzn-RequestId", request_id),
        ("x-amzn-ErrorType", error.code),
        ("Content-Type", content_type),
    ]
    if query_code is not None:
        whose = "Receiver" if isinstance(error, OurFault) else "Sender"
        headers.append(("x-amzn-query-error", f"{query_code};{whose}"))
    content = {"__type": error.code, "message": error.message, "Message": error.message, **error.members}
    return Response(error.status, tuple(headers), orjson.dumps(content))


def _unknown_operation(message: str) -> ClientFault:
    return ClientFault("UnknownOperationException", message)


def _refuse(message: str) -> NoReturn:
    raise ClientFault("SerializationException", message)


# From bytes to JSON values


def _load(body: bytes) -> Any:
    """Read JSON twice: orjson is strict about the text, the standard library shows double keys and large numbers."""
    try:
        if _is_deep(orjson.loads(body)):
            _refuse("The request body is nested too deeply.")
        return json.loads(
            body.decode(),
            object_pairs_hook=_without_double_keys,
            parse_float=_finite,
            parse_int=_of_usual_length,
        )
    except ValueError as fault:
        _refuse(f"The request body is not valid JSON: {fault}")


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True


def _without_double_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        _refuse("The request body has an object with the same key twice.")
    return values


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        _refuse(f"Number out of range: {text[:40]}")
    return number


def _of_usual_length(text: str) -> int:
    if len(text) > 40:
        _refuse(f"Number out of range: {text[:40]}")
    return int(text)


# From JSON values to the model's


def _read(shape: Shape, value: Any) -> Any:
    return _READERS[type(shape)](shape, value)


def _read_structure(shape: StructureShape, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        _refuse_kind(value, "a structure")
    read = {}
    for name, member in shape.members.items():
        given = value.get(name)
        if given is not None:
            read[name] = _read(member.shape, given)
    return read


def _read_list(shape: ListShape, value: Any) -> list[Any]:
    if not isinstance(value, list):
        _refuse_kind(value, "a list")
    member = shape.member
    return [None if element is None else _read(member, element) for element in value]


def _read_map(shape: MapShape, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        _refuse_kind(value, "a map")
    inner = shape.value
    return {key: None if element is None else _read(inner, element) for key, element in value.items()}


def _read_string(_: StringShape, value: Any) -> str:
    if not isinstance(value, str):
        _refuse_kind(value, "a String")
    return value


def _read_number(shape: NumberShape, value: Any) -> int | float:
    wanted = {"integer": "an Integer", "long": "a Long", "float": "a Float", "double": "a Double"}[shape.kind]
    if isinstance(value, bool) or not isinstance(value, int | float):
        _refuse_kind(value, wanted)
    if not shape.whole:
        if abs(value) > (_SINGLE_MAX if shape.kind == "float" else 1.7976931348623157e308):
            _refuse_kind(value, wanted)
        return float(value)
    bound = _WHOLE_RANGES[shape.kind]
    if value != int(value) or not -bound <= value < bound:
        _refuse_kind(value, wanted)
    return int(value)


def _read_boolean(_: BooleanShape, value: Any) -> bool:
    if not isinstance(value, bool):
        _refuse_kind(value, "a Boolean")
    return value


def _read_timestamp(_: TimestampShape, value: Any) -> float:
    if isinstance(value, str):
        return _read_date(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        _refuse_kind(value, "a Timestamp")
    return _in_calendar(float(value))


def _read_date(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        _refuse("STRING_VALUE can not be converted to a Timestamp")


def _in_calendar(seconds: float) -> float:
    """Refuse what no client could show: years before 1 and after 9999."""
    if not -62_135_596_800 <= seconds < 253_402_300_800:
        _refuse("NUMBER_VALUE can not be converted to a Timestamp")
    return seconds


def _read_blob(_: BlobShape, value: Any) -> bytes:
    if not isinstance(value, str):
        _refuse_kind(value, "a Blob")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        _refuse("STRING_VALUE can not be converted to a Blob: it is not base64")


def _refuse_kind(value: Any, wanted: str) -> NoReturn:
    """Refuse a value of the wrong kind in the words of AWS's framework (control-plane.md section 1.4)."""
    if isinstance(value, dict):
        _refuse("Start of structure or map found where not expected.")
    if isinstance(value, list):
        _refuse("Start of list found where not expected.")
    kind = (
        {True: "TRUE_VALUE", False: "FALSE_VALUE"}[value]
        if isinstance(value, bool)
        else ("STRING_VALUE" if isinstance(value, str) else "NUMBER_VALUE")
    )
    _refuse(f"{kind} can not be converted to {wanted}")


_READERS: Mapping[type[Shape], Callable[[Any, Any], Any]] = {
    StructureShape: _read_structure,
    ListShape: _read_list,
    MapShape: _read_map,
    StringShape: _read_string,
    NumberShape: _read_number,
    BooleanShape: _read_boolean,
    TimestampShape: _read_timestamp,
    BlobShape: _read_blob,
}


# From the model's values to JSON values


def _write(shape: Shape, value: Any) -> Any:
    write = _WRITERS.get(type(shape))
    return value if write is None else write(shape, value)


def _write_structure(shape: StructureShape, value: Any) -> dict[str, Any]:
    members = shape.members
    return {name: _write(members[name].shape, inner) for name, inner in value.items() if inner is not None}


def _write_list(shape: ListShape, value: Any) -> list[Any]:
    member = shape.member
    return [_write(member, element) for element in value]


def _write_map(shape: MapShape, value: Any) -> dict[str, Any]:
    inner = shape.value
    return {key: _write(inner, element) for key, element in value.items()}


def _write_timestamp(_: TimestampShape, value: Any) -> Any:
    return round(value, 3)


def _write_blob(_: BlobShape, value: Any) -> str:
    return base64.b64encode(value).decode()


_WRITERS: Mapping[type[Shape], Callable[[Any, Any], Any]] = {
    StructureShape: _write_structure,
    ListShape: _write_list,
    MapShape: _write_map,
    TimestampShape: _write_timestamp,
    BlobShape: _write_blob,
}
