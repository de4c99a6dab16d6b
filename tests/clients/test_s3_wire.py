"""S3 as bytes on the wire: framed bodies, skewed clocks, and requests that no AWS client would send."""

import base64
import hashlib
import hmac
import http.client
import socket
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import urllib3
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from tests.support.neighbours import ALICE, Neighbours, neighbours_in

from moorage.aws.sigv4 import HttpRequest, sign, signing_key

CONTENT = b"0123456789" * 20_000
UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"


@pytest.fixture(scope="module")
def neighbours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neighbours]:
    with neighbours_in(tmp_path_factory.mktemp("n")) as running:
        running.s3().create_bucket(Bucket="wire")
        yield running


def signed_headers(
    neighbours: Neighbours, headers: dict[str, str], payload: str, *, method: str = "PUT", at: float | None = None
) -> dict[str, str]:
    """Sign a request for /wire/k."""
    whole = {"host": f"127.0.0.1:{neighbours.port}", "x-amz-content-sha256": payload, **headers}
    request = HttpRequest(method, "/wire/k", "", list(whole.items()))
    timestamp = datetime.now(UTC).timestamp() if at is None else at
    added = sign(request, payload, ALICE, region="us-east-1", service="s3", timestamp=timestamp)
    return {**whole, **dict(added)}


def put(neighbours: Neighbours, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
    answer = urllib3.request("PUT", f"{neighbours.url}/wire/k", headers=headers, body=body, retries=False)
    return answer.status, answer.data


def stored(neighbours: Neighbours) -> bytes:
    content: bytes = neighbours.s3().get_object(Bucket="wire", Key="k")["Body"].read()
    return content


def framed(content: bytes, *trailers: str) -> bytes:
    chunks = [content[at : at + 65_536] for at in range(0, len(content), 65_536)]
    lines = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return lines + b"0\r\n" + "".join(f"{trailer}\r\n" for trailer in trailers).encode() + b"\r\n"


def trailing_headers(size: int) -> dict[str, str]:
    return {
        "content-encoding": "aws-chunked",
        "x-amz-decoded-content-length": str(size),
        "x-amz-trailer": "x-amz-checksum-crc32",
    }


def crc(content: bytes) -> str:
    return base64.b64encode(zlib.crc32(content).to_bytes(4, "big")).decode()


def test_chunks_with_a_trailing_checksum(neighbours: Neighbours) -> None:
    headers = signed_headers(neighbours, trailing_headers(len(CONTENT)), UNSIGNED_TRAILER)
    assert put(neighbours, headers, framed(CONTENT, f"x-amz-checksum-crc32:{crc(CONTENT)}")) == (200, b"")
    assert stored(neighbours) == CONTENT
    head = neighbours.s3().head_object(Bucket="wire", Key="k", ChecksumMode="ENABLED")
    assert (head["ChecksumCRC32"], head.get("ContentEncoding")) == (crc(CONTENT), None)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (framed(b"new", f"x-amz-checksum-crc32:{crc(b'old')}"), b"BadDigest"),
        (framed(b"new"), b"MalformedTrailerError"),
        (framed(b"longer", f"x-amz-checksum-crc32:{crc(b'longer')}"), b"IncompleteBody"),
        (framed(b"n", f"x-amz-checksum-crc32:{crc(b'n')}"), b"IncompleteBody"),
        (b"3\r\nnew", b"IncompleteBody"),
        (b"new", b"IncompleteBody"),
    ],
)
def test_chunks_that_are_not_what_they_say_leave_the_old_object(
    neighbours: Neighbours, body: bytes, expected: bytes
) -> None:
    neighbours.s3().put_object(Bucket="wire", Key="k", Body=b"old")
    status, answer = put(neighbours, signed_headers(neighbours, trailing_headers(3), UNSIGNED_TRAILER), body)
    assert (status, b"<Code>" + expected + b"</Code>" in answer) == (400, True), answer
    assert stored(neighbours) == b"old"


def signed_chunks(headers: dict[str, str], content: bytes) -> bytes:
    """Frame a body with AWS's signed chunks (Signature Version 4, transferring in multiple chunks)."""
    date = headers["x-amz-date"]
    scope = f"{date[:8]}/us-east-1/s3/aws4_request"
    key = signing_key(ALICE.secret_access_key, date[:8], "us-east-1", "s3")
    previous = headers["authorization"].rpartition("Signature=")[2]
    body = b""
    for chunk in (content, b""):
        hashes = f"{hashlib.sha256(b'').hexdigest()}\n{hashlib.sha256(chunk).hexdigest()}"
        text = f"AWS4-HMAC-SHA256-PAYLOAD\n{date}\n{scope}\n{previous}\n{hashes}"
        previous = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        body += b"%x;chunk-signature=%s\r\n%s\r\n" % (len(chunk), previous.encode(), chunk)
    return body


def test_signed_chunks(neighbours: Neighbours) -> None:
    members = {"content-encoding": "aws-chunked", "x-amz-decoded-content-length": str(len(CONTENT))}
    headers = signed_headers(neighbours, members, SIGNED)
    body = signed_chunks(headers, CONTENT)
    assert put(neighbours, headers, body) == (200, b"")
    assert stored(neighbours) == CONTENT
    status, answer = put(neighbours, headers, body.replace(b"0123", b"0124", 1))
    assert (status, b"SignatureDoesNotMatch" in answer) == (403, True)
    assert stored(neighbours) == CONTENT


@pytest.mark.parametrize("minutes", [-16, 16])
def test_a_clock_that_is_wrong_is_refused(neighbours: Neighbours, minutes: int) -> None:
    at = datetime.now(UTC).timestamp() + minutes * 60
    empty = hashlib.sha256().hexdigest()
    status, answer = put(neighbours, signed_headers(neighbours, {}, empty, at=at), b"")
    assert (status, b"RequestTimeTooSkewed" in answer) == (403, True)


def test_a_clock_that_is_a_little_wrong_is_not(neighbours: Neighbours) -> None:
    at = datetime.now(UTC).timestamp() - 14 * 60
    empty = hashlib.sha256().hexdigest()
    assert put(neighbours, signed_headers(neighbours, {}, empty, at=at), b"")[0] == 200


def test_a_body_too_large_is_refused_before_it_is_sent(neighbours: Neighbours) -> None:
    headers = signed_headers(
        neighbours, {"content-length": str(5 * 2**30 + 1), "expect": "100-continue"}, "UNSIGNED-PAYLOAD"
    )
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with socket.create_connection(("127.0.0.1", neighbours.port), timeout=10) as connection:
        connection.sendall(f"PUT /wire/k HTTP/1.1\r\n{lines}\r\n".encode())
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert (answer.status, b"EntityTooLarge" in answer.read()) == (400, True)
        assert answer.getheader("connection") == "close"


def test_a_body_of_unknown_length_is_refused(neighbours: Neighbours) -> None:
    headers = signed_headers(neighbours, {}, "UNSIGNED-PAYLOAD")
    connection = http.client.HTTPConnection("127.0.0.1", neighbours.port, timeout=10)
    connection.request("PUT", "/wire/k", body=iter([b"x"]), headers=headers, encode_chunked=True)
    answer = connection.getresponse()
    assert (answer.status, b"MissingContentLength" in answer.read()) == (411, True)
    connection.close()


def test_a_client_that_leaves_in_the_middle_leaves_the_old_object(neighbours: Neighbours) -> None:
    neighbours.s3().put_object(Bucket="wire", Key="k", Body=b"old")
    headers = signed_headers(neighbours, {"content-length": "1000000"}, "UNSIGNED-PAYLOAD")
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with socket.create_connection(("127.0.0.1", neighbours.port), timeout=10) as connection:
        connection.sendall(f"PUT /wire/k HTTP/1.1\r\n{lines}\r\n".encode() + b"x" * 500_000)
    assert stored(neighbours) == b"old"


def document(neighbours: Neighbours, body: bytes) -> tuple[int, bytes]:
    """Send a DeleteObjects document, signed by botocore."""
    request = AWSRequest("POST", f"{neighbours.url}/wire?delete", data=body)
    S3SigV4Auth(Credentials(ALICE.access_key_id, ALICE.secret_access_key), "s3", "us-east-1").add_auth(request)
    prepared: Any = request.prepare()
    answer = urllib3.request("POST", prepared.url, headers=dict(prepared.headers), body=body)
    return answer.status, answer.data


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<Delete>",
        b"\xff\xfe",
        b"<Other/>",
        b"<Delete/>",
        b"<Delete><Object/></Delete>",
        b'<!DOCTYPE x [<!ENTITY a "b">]><Delete><Object><Key>&a;</Key></Object></Delete>',
        b'<?xml version="1.0" encoding="none-such"?><Delete/>',
        b"<Delete>" + b"<Object><Key>k</Key></Object>" * 1001 + b"</Delete>",
    ],
)
def test_a_document_that_is_none_is_refused(neighbours: Neighbours, body: bytes) -> None:
    status, answer = document(neighbours, body)
    assert (status, b"<Code>MalformedXML</Code>" in answer) == (400, True)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("PATCH", "/wire", 405, b"MethodNotAllowed"),
        ("DELETE", "/", 405, b"MethodNotAllowed"),
        ("GET", "/wire/%ff", 400, b"InvalidURI"),
        ("GET", "/wire/k?X-Amz-Algorithm=AWS4-HMAC-SHA256", 400, b"AuthorizationQueryParametersError"),
        ("GET", "/wire/k?AWSAccessKeyId=x&Signature=y&Expires=z", 403, b"InvalidAccessKeyId"),
        ("GET", "/wire/k", 403, b"AccessDenied"),
    ],
)
def test_requests_that_nobody_should_send(
    neighbours: Neighbours, method: str, path: str, status: int, code: bytes
) -> None:
    answer = urllib3.request(method, neighbours.url + path)
    assert (answer.status, b"<Code>" + code + b"</Code>" in answer.data) == (status, True), answer.data


@pytest.mark.parametrize("header", ["nonsense", "AWS a:b", "AWS4-HMAC-SHA256 Credential=x", ""])
def test_authorizations_that_cannot_be_read(neighbours: Neighbours, header: str) -> None:
    answer = urllib3.request("GET", f"{neighbours.url}/wire/k", headers={"Authorization": header})
    assert answer.status == 400, answer.data
    assert b"<Code>" in answer.data
