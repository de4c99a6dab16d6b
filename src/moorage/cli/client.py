"""A small AWS client of our own: ``http.client`` and a signature. boto3 would be thirty times the package's size."""

import hashlib
import http.client
import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit

import click

from moorage.aws.sigv4 import HttpRequest, sign
from moorage.base.clock import SystemClock
from moorage.cli.server import Server

_TIMEOUT_SECONDS = 90.0
"""More than the model's 60 s, so that the server's own answer to a slow model is seen."""
_EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


class ApiError(click.ClickException):
    """An answer that is no success, in the server's own code and words."""

    def __init__(self, status: int, code: str, message: str, members: Mapping[str, Any]) -> None:
        super().__init__(f"{code}: {message}" if code else message)
        self.status = status
        self.code = code
        self.members = members


class Answer:
    """A success: headers (names in lower case) and body."""

    def __init__(self, headers: Mapping[str, str], body: bytes) -> None:
        self.headers = headers
        self.body = body


class Client:
    """Signed requests to one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        url = urlsplit(server.url)
        self._host, self._port = url.hostname or "127.0.0.1", url.port or (443 if url.scheme == "https" else 80)
        self._trusted = server.trusted
        self._authority = url.netloc

    def call(self, operation: str, **members: Any) -> dict[str, Any]:
        """Call an operation of the SageMaker API."""
        headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", f"SageMaker.{operation}")]
        return self._json("POST", "/", headers, json.dumps(members).encode())

    def kms(self, operation: str, **members: Any) -> dict[str, Any]:
        """Call an operation of the KMS API."""
        headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", f"TrentService.{operation}")]
        return self._json("POST", "/", headers, json.dumps(members).encode(), service="kms")

    def own(
        self, method: str, path: str, members: Mapping[str, Any] | None = None, *, query: str = ""
    ) -> dict[str, Any]:
        """Call one of Moorage's own paths, ``/_moorage/...``; ``query`` is percent-encoded and in order."""
        body = json.dumps(members).encode() if members is not None else b""
        return self._json(method, path, [("content-type", "application/json")], body, query)

    def invoke(
        self, endpoint: str, body: bytes, *, content_type: str, accept: str | None, target_variant: str | None
    ) -> Answer:
        """Invoke an endpoint."""
        headers = [("content-type", content_type)]
        if accept:
            headers.append(("accept", accept))
        if target_variant:
            headers.append(("x-amzn-sagemaker-target-variant", target_variant))
        return self._send("POST", f"/endpoints/{quote(endpoint, safe='')}/invocations", headers, body)

    def make_bucket(self, bucket: str) -> None:
        """Make a bucket if it is not there."""
        try:
            self._send("PUT", f"/{bucket}", [], b"", service="s3")
        except ApiError as fault:
            if fault.code not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                raise

    def upload(self, bucket: str, key: str, path: Path, sha256: str) -> None:
        """Put a file into a bucket without reading it into memory."""
        with path.open("rb") as file:
            size = path.stat().st_size
            self._send("PUT", f"/{bucket}/{quote(key)}", [], file, size=size, sha256=sha256, service="s3")

    def _json(  # noqa: PLR0913, PLR0917 - what a request consists of
        self,
        method: str,
        path: str,
        headers: list[tuple[str, str]],
        body: bytes,
        query: str = "",
        service: str = "sagemaker",
    ) -> dict[str, Any]:
        answer = self._send(method, path, headers, body, query=query, service=service)
        found: dict[str, Any] = json.loads(answer.body) if answer.body else {}
        return found

    def _send(  # noqa: PLR0913 - what a request consists of
        self,
        method: str,
        path: str,
        headers: list[tuple[str, str]],
        body: bytes | BinaryIO,
        *,
        size: int | None = None,
        sha256: str | None = None,
        service: str = "sagemaker",
        query: str = "",
    ) -> Answer:
        length = len(body) if isinstance(body, bytes) else size
        digest = sha256 or (hashlib.sha256(body).hexdigest() if isinstance(body, bytes) else _EMPTY_SHA256)
        headers = [("host", self._authority), *headers]
        if service == "s3":
            headers.append(("x-amz-content-sha256", digest))
        request = HttpRequest(method, path, query, headers)
        timestamp = SystemClock().now()
        credential, region = self._server.credential, self._server.region
        headers += sign(request, digest, credential, region=region, service=service, timestamp=timestamp)
        headers.append(("content-length", str(length)))
        return self._exchange(method, f"{path}?{query}" if query else path, headers, body)

    def _connection(self) -> http.client.HTTPConnection:
        if self._trusted is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT_SECONDS)
        return http.client.HTTPSConnection(self._host, self._port, timeout=_TIMEOUT_SECONDS, context=self._trusted)

    def _exchange(self, method: str, path: str, headers: list[tuple[str, str]], body: bytes | BinaryIO) -> Answer:
        connection = self._connection()
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name, value)
            connection.endheaders()
            _send_body(connection, body)
            answer = connection.getresponse()
            content = answer.read()
        except TimeoutError as fault:
            raise click.ClickException(f"{self._server.url} gave no answer within {_TIMEOUT_SECONDS:g} s.") from fault
        except (OSError, http.client.HTTPException) as fault:
            raise click.ClickException(f"{self._server.url} cannot be reached: {fault}") from fault
        finally:
            connection.close()
        found = {name.lower(): value for name, value in answer.getheaders()}
        if answer.status >= http.client.BAD_REQUEST:
            raise _error(answer.status, found, content)
        return Answer(found, content)


def _send_body(connection: http.client.HTTPConnection, body: bytes | BinaryIO) -> None:
    """Send the body; a server that refuses it early closes its end, and its answer is still read."""
    try:
        connection.send(body)
    except (BrokenPipeError, ConnectionResetError):
        if connection.sock is None:
            raise
        connection.sock.shutdown(socket.SHUT_WR)


def _error(status: int, headers: Mapping[str, str], body: bytes) -> ApiError:
    """Read an error in JSON (SageMaker) or XML (S3)."""
    try:
        members = json.loads(body)
    except ValueError:
        members = None
    if isinstance(members, dict):
        code = headers.get("x-amzn-errortype") or str(members.get("__type", ""))
        message = str(members.get("Message") or members.get("message") or "")
        return ApiError(status, code.split(":")[0].rpartition("#")[2], message, members)
    text = body.decode("utf-8", "replace")
    return ApiError(status, _between(text, "Code"), _between(text, "Message") or f"HTTP status {status}", {})


def _between(xml: str, tag: str) -> str:
    """Give an element's text; S3's error document is flat (and this is our own server's)."""
    return xml.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
