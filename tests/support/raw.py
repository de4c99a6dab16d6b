"""Signed requests of the control plane, byte for byte, over one connection."""

import hashlib
import http.client
import json
import time
from typing import Any
from urllib.parse import urlsplit

from tests.support.control import KEY_ID, SECRET

from moorage.aws.credentials import Credential
from moorage.aws.sigv4 import HttpRequest, sign


def signed_headers(
    host: str, operation: str | None, body: bytes, *, path: str = "/", key_id: str = KEY_ID, secret: str = SECRET
) -> list[tuple[str, str]]:
    """Give the headers of a request for an operation, or for one of Moorage's own pages."""
    headers = [("host", host), ("content-type", "application/x-amz-json-1.1")]
    if operation is not None:
        headers.append(("x-amz-target", f"SageMaker.{operation}"))
    request = HttpRequest("POST", path, "", headers)
    digest = hashlib.sha256(body).hexdigest()
    credential = Credential(key_id, secret, "000000000000", "tester")
    return headers + sign(request, digest, credential, region="us-east-1", service="sagemaker", timestamp=time.time())


class RawClient:
    """Sends what it is given; a fault is an answer like any other."""

    def __init__(self, url: str) -> None:
        self._host = urlsplit(url).netloc
        self._connection = http.client.HTTPConnection(self._host, timeout=30)

    def send(self, operation: str | None, body: bytes, path: str = "/", **signing: str) -> tuple[int, dict[str, Any]]:
        """Send a body; gives status and content."""
        headers = signed_headers(self._host, operation, body, path=path, **signing)
        self._connection.request("POST", path, body, dict(headers))
        answer = self._connection.getresponse()
        content = answer.read()
        return answer.status, json.loads(content) if content else {}

    def ask(self, operation: str, members: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Send members as JSON."""
        return self.send(operation, json.dumps(members).encode())

    def close(self) -> None:
        """End the connection."""
        self._connection.close()
