"""Answers of the gateway's own, as bytes. Pure."""

from collections.abc import Iterable
from email.utils import formatdate
from http import HTTPStatus
from xml.sax.saxutils import escape

import orjson

from moorage.aws import json11, query, rest_json
from moorage.aws.errors import OurFault, ServiceError
from moorage.aws.response import Response
from moorage.gateway.owners import Owner
from moorage.gateway.requests import BadRequest, RequestHead

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_REASONS = {status.value: status.phrase for status in HTTPStatus} | {530: "Internal Dependency Exception"}


def http_date(now: float) -> bytes:
    """Give a time as the Date header has it."""
    return formatdate(now, usegmt=True).encode()


def encode_response(response: Response, date: bytes, *, close: bool, version: str, bodiless: bool) -> bytes:
    """Make the bytes of an answer; ``bodiless`` for the answer to HEAD."""
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
    head = encode_head(response.status, headers, len(response.body), date, close=close, version=version)
    return head if bodiless else head + response.body


def encode_head(  # noqa: PLR0913 - a head has these parts
    status: int,
    headers: Iterable[tuple[bytes, bytes]],
    length: int,
    date: bytes,
    *,
    close: bool,
    version: str,
) -> bytes:
    """Make the bytes before the body."""
    lines = b"".join([b"%b: %b\r\n" % header for header in headers])
    reason = _REASONS.get(status, "Unknown").encode()
    return b"HTTP/1.1 %d %b\r\n%bDate: %b\r\nContent-Length: %d\r\n%b\r\n" % (
        status,
        reason,
        lines,
        date,
        length,
        connection_header(close=close, version=version),
    )


def encode_stream_head(
    headers: Iterable[tuple[bytes, bytes]], date: bytes, *, chunked: bool, close: bool, version: str
) -> bytes:
    """Make the bytes before a body of unknown length: in chunks, or up to the connection's end."""
    return b"HTTP/1.1 200 OK\r\n%bDate: %b\r\n%b%b\r\n" % (
        b"".join([b"%b: %b\r\n" % header for header in headers]),
        date,
        b"Transfer-Encoding: chunked\r\n" if chunked else b"",
        connection_header(close=close, version=version),
    )


def connection_header(*, close: bool, version: str) -> bytes:
    """Give the line that says what happens to the connection, where it is not the version's default."""
    if close:
        return b"Connection: close\r\n"
    return b"Connection: keep-alive\r\n" if version == "1.0" else b""


def bad_request(fault: BadRequest, request_id: str) -> Response:
    """Make the answer to what is no proper HTTP request."""
    content = {"__type": "BadRequestException", "message": fault.message, "Message": fault.message}
    headers = (
        ("x-amzn-RequestId", request_id),
        ("x-amzn-ErrorType", "BadRequestException"),
        ("Content-Type", "application/json"),
    )
    return Response(fault.status, headers, orjson.dumps(content))


def invocation_error(fault: ServiceError, request_id: str) -> Response:
    """Make the answer to an invocation that failed."""
    return rest_json.error_response(fault, request_id)


def owner_error(owner: Owner, head: RequestHead, fault: ServiceError, request_id: str) -> Response:
    """Make an error in the form in which the request's owner would have given it."""
    if head.fields.get("content-type", "").startswith(query.FORM):
        return query.error_response(fault, request_id)
    if owner is Owner.NEIGHBOURS:
        return _s3_error(fault, head.path, request_id)
    return json11.error_response(fault, request_id)


def unavailable(owner: Owner) -> OurFault:
    """Make the error for an owner that is not there at the moment."""
    if owner is Owner.NEIGHBOURS:
        return OurFault("ServiceUnavailable", "Please reduce your request rate.", status=503)
    return OurFault("ServiceUnavailable", "Moorage's control plane is not available. Try your call again.", status=503)


def _s3_error(fault: ServiceError, path: str, request_id: str) -> Response:
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{escape(fault.code)}</Code><Message>{escape(fault.message)}</Message>"
        f"<Resource>{escape(path)}</Resource><RequestId>{request_id}</RequestId></Error>"
    )
    headers = (("x-amz-request-id", request_id), ("Content-Type", "application/xml"))
    return Response(fault.status, headers, body.encode())
