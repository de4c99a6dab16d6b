"""Requests byte for byte as the Dart client (``package:aws_sagemaker_api`` on ``package:http``) puts them on the wire.

Facts, from its public source: the payload has the required members first, then the others, both by name; members that
are null are left out; the Content-Type has a charset; the target ends with ``?``, because the query is replaced by an
empty one; ``Host`` is signed and sent without the port; doubles are ``1.0``, on the web ``1``.
"""

import http.client
import json
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from tests.support.dart_reader import read_error, read_output, service_model

JSON_11 = "application/x-amz-json-1.1"


@dataclass(frozen=True)
class DartClient:
    """A client of one server."""

    url: str
    credentials: Credentials
    region: str
    on_the_web: bool = False
    """Compiled to JavaScript, where all numbers are doubles."""
    target: str = "/?"
    seen: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Each operation that succeeded, with its answer."""

    def call(self, operation: str, **members: Any) -> dict[str, Any]:
        """Call an operation of the control plane; the answer must be one that Dart can read."""
        status, _, body = self.send(operation, members)
        assert status == 200, body
        answer = read_output(operation, body)
        self.seen.append((operation, answer))
        return answer

    def refused(self, operation: str, **members: Any) -> tuple[str, str]:
        """Call an operation that must be refused; gives the exception's type and message."""
        status, headers, body = self.send(operation, members)
        assert status == 400, body
        return read_error(headers, body)

    def send(self, operation: str, members: Mapping[str, Any]) -> tuple[int, dict[str, str], bytes]:
        """Send one request; gives status, headers by their names in lower case, and body."""
        shape = service_model().operation_model(operation).input_shape
        body = encode(payload(shape, members), on_the_web=self.on_the_web)
        headers = {"content-type": f"{JSON_11}; charset=utf-8", "x-amz-target": f"SageMaker.{operation}"}
        return self.exchange(self.target, body, headers)

    def exchange(self, target: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, dict[str, str], bytes]:
        """Sign a request as Dart does, and send it."""
        location = urllib.parse.urlsplit(self.url)
        signed = self._signed(target, body, {**headers, "host": location.hostname or ""})
        connection = http.client.HTTPConnection(location.hostname or "", location.port, timeout=30)
        try:
            connection.putrequest("POST", target, skip_host=True, skip_accept_encoding=True)
            for name, value in signed.items():
                connection.putheader(name.lower(), value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def _signed(self, target: str, body: bytes, headers: Mapping[str, str]) -> dict[str, str]:
        request = AWSRequest("POST", self.url + target, data=body, headers=dict(headers))
        signer = SigV4Auth(self.credentials, "sagemaker", self.region)
        request.headers["x-amz-content-sha256"] = signer.payload(request)
        signer.add_auth(request)
        not_signed = {
            "user-agent": "Dart/3.5 (dart:io)",
            "accept-encoding": "gzip",
            "content-length": str(len(body)),
        }
        return {**not_signed, **dict(request.headers.items())}


def payload(shape: Any, value: Any) -> Any:
    """Put members in the order of the generated ``toJson``, without those that are null."""
    match shape.type_name:
        case "structure":
            order = [*sorted(shape.required_members), *sorted(shape.members.keys() - set(shape.required_members))]
            given = [name for name in order if value.get(name) is not None]
            return {name: payload(shape.members[name], value[name]) for name in given}
        case "list":
            return [payload(shape.member, inner) for inner in value]
        case "map":
            return {key: payload(shape.value, inner) for key, inner in value.items()}
        case "float" | "double":
            return float(value)
        case _:
            return value


def encode(value: Any, *, on_the_web: bool = False) -> bytes:
    """Write JSON as ``dart:convert`` does: no blanks, UTF-8 as it is."""
    if on_the_web:
        value = _with_web_numbers(value)
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _with_web_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_web_numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_web_numbers(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
