"""A reader of answers as strict as the generated Dart client, or stricter; written from botocore's model.

The generated Dart code casts each member: ``json['CurrentWeight'] as double?`` throws for ``1``, ``as int?`` throws for
``1.0``, a member that the model requires may not be missing, an enumeration throws for a value that it does not know,
a timestamp is a number of seconds. Stricter than Dart: no ``null`` and no member that the model does not have.
"""

import base64
import json
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import botocore.session


class DartThrows(AssertionError):
    """A Dart client would have thrown, or lost a member, at this answer."""


@cache
def service_model(service: str = "sagemaker") -> Any:
    """Give botocore's model of a service."""
    return botocore.session.Session().get_service_model(service)


def read_output(operation: str, body: bytes) -> dict[str, Any]:
    """Read the body of a success; raises DartThrows."""
    shape = service_model().operation_model(operation).output_shape
    if shape is None:
        _demand(body == b"", operation, "the answer should have no body")
        return {}
    value: dict[str, Any] = _read(shape, json.loads(body), operation)
    return value


def read_error(headers: Mapping[str, str], body: bytes) -> tuple[str, str]:
    """Read an error as Dart's ``throwException`` does; gives type and message."""
    content = json.loads(body)
    kind = content.get("__type") or content.get("code") or headers["x-amzn-errortype"].split(":")[0]
    message = content["message"] if "message" in content else content["Message"]
    _demand(isinstance(kind, str) and isinstance(message, str), "error", "type and message must be strings")
    return kind.rpartition("#")[2], message


def _demand(kept: object, path: str, demand: str) -> None:
    if not kept:
        message = f"{path}: {demand}"
        raise DartThrows(message)


def _read(shape: Any, value: Any, path: str) -> Any:
    reader = _READERS.get(shape.type_name)
    if reader is not None:
        return reader(shape, value, path)
    demand, holds = _SCALARS[shape.type_name]
    _demand(holds(value), path, f"{demand}, not {value!r}")
    return value


def _read_structure(shape: Any, value: Any, path: str) -> dict[str, Any]:
    _demand(isinstance(value, dict), path, f"a structure, not {value!r}")
    unknown = value.keys() - shape.members.keys()
    missing = set(shape.required_members) - value.keys()
    _demand(not unknown, path, f"no members that the model lacks: {sorted(unknown)}")
    _demand(not missing, path, f"the required members {sorted(missing)}")
    return {name: _read(shape.members[name], inner, f"{path}.{name}") for name, inner in value.items()}


def _read_list(shape: Any, value: Any, path: str) -> list[Any]:
    _demand(isinstance(value, list), path, f"a list, not {value!r}")
    return [_read(shape.member, inner, f"{path}[{index}]") for index, inner in enumerate(value)]


def _read_map(shape: Any, value: Any, path: str) -> dict[str, Any]:
    _demand(isinstance(value, dict), path, f"a map, not {value!r}")
    return {key: _read(shape.value, inner, f"{path}.{key}") for key, inner in value.items()}


def _read_string(shape: Any, value: Any, path: str) -> str:
    _demand(isinstance(value, str), path, f"a string, not {value!r}")
    _demand(not shape.enum or value in shape.enum, path, f"a value of the enumeration {shape.name}, not {value!r}")
    return str(value)


def _read_blob(_: Any, value: Any, path: str) -> bytes:
    _demand(isinstance(value, str), path, f"base64, not {value!r}")
    return base64.b64decode(value, validate=True)


_READERS: Mapping[str, Callable[[Any, Any, str], Any]] = {
    "structure": _read_structure,
    "list": _read_list,
    "map": _read_map,
    "string": _read_string,
    "blob": _read_blob,
}


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_moment(value: Any) -> bool:
    """Say whether it is a number of seconds of this century: milliseconds would be out of it."""
    return (_is_whole(value) or isinstance(value, float)) and 946_684_800 < value < 4_102_444_800


_SCALARS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "integer": ("a whole number without a point", _is_whole),
    "long": ("a whole number without a point", _is_whole),
    "float": ("a number with a point", lambda value: isinstance(value, float)),
    "double": ("a number with a point", lambda value: isinstance(value, float)),
    "boolean": ("true or false", lambda value: isinstance(value, bool)),
    "timestamp": ("seconds since the epoch", _is_moment),
}
