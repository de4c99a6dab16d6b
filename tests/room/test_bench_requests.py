"""The benchmarks load with requests as boto3 sends them, each validly signed, no two alike."""

import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import boto3
from benchmarks.gateway.requests import COUNT, ENDPOINT, KEY, REGION, RequestFile
from botocore.awsrequest import AWSResponse

from moorage.aws.sigv4 import HttpRequest
from moorage.iam.authenticate import Keys, identify

KEYS = Keys({KEY.access_key_id: KEY})


def read(path: Path) -> Iterator[tuple[HttpRequest, bytes]]:
    """Read a file as ``requests.lua`` does."""
    with path.open("rb") as file:
        while line := file.readline():
            head, _, body = file.read(int(line)).partition(b"\r\n\r\n")
            first, *lines = head.decode().split("\r\n")
            method, target, _ = first.split(" ")
            fields = [line.split(": ", 1) for line in lines]
            yield HttpRequest(method, target, "", [(name.lower(), value) for name, value in fields]), body


def test_every_request_of_the_load_is_validly_signed_and_unlike_the_others(tmp_path: Path) -> None:
    requests = list(read(RequestFile(tmp_path / "requests").fresh()))

    for request, body in requests:
        caller = identify(request, sha256(body).hexdigest(), KEYS, now=time.time(), skew_seconds=300.0)
        assert (caller.credential, caller.service) == (KEY, "sagemaker")
    headers = [dict(request.headers) for request, _ in requests]
    assert all(int(fields["content-length"]) == len(body) for fields, (_, body) in zip(headers, requests, strict=True))
    assert len(requests) == COUNT
    assert len({body for _, body in requests}) == COUNT
    assert len({fields["authorization"] for fields in headers}) == COUNT
    assert len({fields["amz-sdk-invocation-id"] for fields in headers}) == COUNT


def test_a_request_of_the_load_has_the_headers_that_boto3_sends(tmp_path: Path) -> None:
    sent: list[Any] = []

    def answer(request: Any, **_: Any) -> AWSResponse:
        sent.append(request)
        return AWSResponse(request.url, 200, {}, None)

    client = boto3.session.Session().client(
        "sagemaker-runtime",
        region_name=REGION,
        aws_access_key_id=KEY.access_key_id,
        aws_secret_access_key=KEY.secret_access_key,
    )
    client.meta.events.register("before-send.sagemaker-runtime.InvokeEndpoint", answer)
    client.invoke_endpoint(EndpointName=ENDPOINT, Body=b"1,2\n", ContentType="text/csv")

    ours, _ = next(read(RequestFile(tmp_path / "requests").fresh()))
    by_urllib3 = {"host", "accept-encoding"}
    assert {name for name, _ in ours.headers} == {name.lower() for name in sent[0].headers} | by_urllib3
    scope = "SignedHeaders=content-type;host;x-amz-date"
    assert scope in dict(ours.headers)["authorization"]
    assert scope in sent[0].headers["Authorization"].decode()
