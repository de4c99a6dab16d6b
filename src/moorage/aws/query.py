"""The query protocol, with which STS is spoken: parameters of a form in, XML out, driven by the service's model.

Action=AssumeRole&Version=2011-06-15&RoleArn=...&Tags.member.1.Key=team
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from moorage.aws.errors import ClientFault, OurFault, ServiceError
from moorage.aws.response import Response
from moorage.aws.shapes import (
    ListShape,
    NumberShape,
    Operation,
    Service,
    Shape,
    StructureShape,
    TimestampShape,
)

FORM = "application/x-www-form-urlencoded"

_MOST_PARAMETERS = 1000


def read_form(text: str) -> dict[str, str]:
    """Read the parameters of a form or of a URL's query."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_PARAMETERS, errors="strict")
    except (ValueError, UnicodeDecodeError) as fault:
        raise ClientFault("MalformedQueryString", "The parameters of the request cannot be read.") from fault
    parameters = dict(pairs)
    if len(parameters) != len(pairs):
        raise ClientFault("MalformedQueryString", "A parameter of the request occurs twice.")
    return parameters


def find_operation(service: Service, parameters: Mapping[str, str]) -> Operation:
    """Find the operation that ``Action`` names; raises MissingAction, InvalidAction."""
    name = parameters.get("Action")
    if not name:
        raise ClientFault("MissingAction", "The request must contain the parameter Action.")
    if name not in service.all_operation_names:
        version = parameters.get("Version", "")[:40]
        raise ClientFault("InvalidAction", f"Could not find operation {name[:200]} for version {version}")
    if name not in service.operations:
        raise ClientFault("InvalidAction", f"Moorage does not have the operation {name} of {service.service_id}.")
    return service.operations[name]


def parse_request(operation: Operation, parameters: Mapping[str, str]) -> dict[str, Any]:
    """Read the operation's members; parameters that the model does not know are ignored."""
    return {} if operation.input is None else _read_structure(operation.input, parameters, "")


def _read_structure(shape: StructureShape, parameters: Mapping[str, str], prefix: str) -> dict[str, Any]:
    found = {}
    for name, member in shape.members.items():
        value = _read(member.shape, parameters, prefix + name)
        if value is not None:
            found[name] = value
    return found


def _read(shape: Shape, parameters: Mapping[str, str], path: str) -> Any:
    if isinstance(shape, StructureShape):
        return _read_structure(shape, parameters, path + ".") or None
    if isinstance(shape, ListShape):
        return _read_list(shape, parameters, path)
    text = parameters.get(path)
    if text is None or not isinstance(shape, NumberShape):
        return text
    if not text.lstrip("-").isascii() or not text.lstrip("-").isdigit() or len(text) > 18:
        raise ClientFault("MalformedInput", f"{path} must be a whole number, not {text[:40]!a}.")
    return int(text)


def _read_list(shape: ListShape, parameters: Mapping[str, str], path: str) -> list[Any] | None:
    found: list[Any] = []
    while (value := _read(shape.member, parameters, f"{path}.member.{len(found) + 1}")) is not None:
        found.append(value)
    return found or None


def success_response(operation: Operation, output: Mapping[str, Any], request_id: str, namespace: str) -> Response:
    """Make the answer."""
    inner = "" if operation.output is None else _structure(operation.output, output)
    name = operation.name
    body = (
        f'<{name}Response xmlns="{namespace}"><{name}Result>{inner}</{name}Result>'
        f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{name}Response>"
    )
    return _response(200, body, request_id)


def _structure(shape: StructureShape, value: Mapping[str, Any]) -> str:
    present = [(name, member.shape) for name, member in shape.members.items() if value.get(name) is not None]
    return "".join(f"<{name}>{_text(member, value[name])}</{name}>" for name, member in present)


def _text(shape: Shape, value: Any) -> str:
    if isinstance(shape, StructureShape):
        return _structure(shape, value)
    if isinstance(shape, TimestampShape):
        return datetime.fromtimestamp(int(value), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return escape(str(value))


def error_response(fault: ServiceError, request_id: str, namespace: str = "") -> Response:
    """Make the answer to a request that failed."""
    opening = f' xmlns="{namespace}"' if namespace else ""
    whose = "Receiver" if isinstance(fault, OurFault) else "Sender"
    body = (
        f"<ErrorResponse{opening}><Error><Type>{whose}</Type><Code>{escape(fault.code)}</Code>"
        f"<Message>{escape(fault.message)}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>"
    )
    return _response(fault.status, body, request_id)


def _response(status: int, body: str, request_id: str) -> Response:
    headers = (("x-amzn-RequestId", request_id), ("Content-Type", "text/xml"))
    return Response(status, headers, body.encode("utf-8", "replace"))
