"""Requests byte for byte: those of a Dart client, and those that no client should send."""

import hashlib
import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.support.control import IMAGE, KEY_ID, ROLE, SECRET, ControlPlane, control_plane
from tests.support.product import wait_until

from moorage.aws.credentials import Credential
from moorage.aws.sigv4 import HttpRequest, sign


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with control_plane(tmp_path_factory.mktemp("c")) as running:
        yield running


def send(
    plane: ControlPlane,
    body: bytes,
    *,
    target: str | None = "SageMaker.ListModels",
    method: str = "POST",
    path: str = "/",
    at: float | None = None,
    secret: str = SECRET,
    service: str = "sagemaker",
    signed_body: bytes | None = None,
    signed: bool = True,
) -> tuple[int, dict[str, Any], dict[str, str]]:
    host = urlsplit(plane.url).netloc
    headers = [("host", host), ("content-type", "application/x-amz-json-1.1")]
    if target is not None:
        headers.append(("x-amz-target", target))
    if signed:
        digest = hashlib.sha256(body if signed_body is None else signed_body).hexdigest()
        credential = Credential(KEY_ID, secret, "000000000000", "tester")
        request = HttpRequest(method, path, "", headers)
        headers += sign(request, digest, credential, region="us-east-1", service=service, timestamp=at or time.time())
    connection = http.client.HTTPConnection(host, timeout=10)
    connection.request(method, path, body, dict(headers))
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, json.loads(content) if content else {}, dict(answer.getheaders())


def code_of(answer: tuple[int, dict[str, Any], dict[str, str]]) -> tuple[int, str]:
    status, content, headers = answer
    assert content["__type"] == headers["x-amzn-errortype"]
    assert content["message"] == content["Message"]
    assert len(headers["x-amzn-requestid"]) == 36
    return status, content["__type"]


def test_dart_client_creates_an_endpoint_configuration(plane: ControlPlane) -> None:
    model = {"ModelName": "dart", "PrimaryContainer": {"Image": IMAGE}, "ExecutionRoleArn": ROLE}
    status, _, _ = send(plane, json.dumps(model).encode(), target="SageMaker.CreateModel")
    assert status == 200
    body = (
        b'{"EndpointConfigName":"dart","ProductionVariants":[{"VariantName":"v","InitialInstanceCount":1,'
        b'"InitialVariantWeight":1,"InstanceType":"ml.m5.large","ModelName":"dart","ServerlessConfig":null}]}'
    )
    status, content, headers = send(plane, body, target="SageMaker.CreateEndpointConfig")
    assert status == 200
    arn = "arn:aws:sagemaker:us-east-1:000000000000:endpoint-config/dart"
    assert content == {"EndpointConfigArn": arn}
    assert headers["content-type"] == "application/x-amz-json-1.1"


def test_operations_without_output_answer_with_an_empty_body(plane: ControlPlane) -> None:
    model = {"ModelName": "gone", "PrimaryContainer": {"Image": IMAGE}}
    send(plane, json.dumps(model).encode(), target="SageMaker.CreateModel")
    status, content, headers = send(plane, b'{"ModelName":"gone"}', target="SageMaker.DeleteModel")
    assert (status, content, headers["content-length"]) == (200, {}, "0")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"body": b"{"}, (400, "SerializationException")),
        ({"body": b'{"MaxResults":"x"}'}, (400, "SerializationException")),
        ({"body": b"[1]"}, (400, "SerializationException")),
        ({"body": b'{"MaxResults":101}'}, (400, "ValidationException")),
        ({"target": None}, (400, "UnknownOperationException")),
        ({"target": "SageMaker.Nonsense"}, (400, "UnknownOperationException")),
        ({"target": "SageMaker.CreateTrainingJob"}, (400, "UnknownOperationException")),
        ({"signed": False}, (400, "MissingAuthenticationTokenException")),
        ({"secret": "wrong"}, (400, "InvalidSignatureException")),
        ({"signed_body": b"{ }"}, (400, "InvalidSignatureException")),
        ({"service": "s3"}, (400, "InvalidSignatureException")),
        ({"body": b" " * 1_048_577}, (413, "RequestEntityTooLargeException")),
    ],
)
def test_bad_request_gets_aws_error(plane: ControlPlane, changes: dict[str, Any], expected: tuple[int, str]) -> None:
    given = {"body": b"{}", **changes}
    body = given.pop("body")
    assert code_of(send(plane, body, **given)) == expected


def test_old_and_future_signatures_are_refused(plane: ControlPlane) -> None:
    for seconds in (-301, 330):
        status, content, _ = send(plane, b"{}", at=time.time() + seconds)
        assert (status, content["__type"]) == (400, "InvalidSignatureException")
        assert content["message"].startswith("Signature ")


def test_what_cannot_be_read_is_refused_before_who_sent_it(plane: ControlPlane) -> None:
    assert code_of(send(plane, b"{", secret="wrong")) == (400, "SerializationException")
    assert code_of(send(plane, b'{"MaxResults":101}', secret="wrong")) == (400, "InvalidSignatureException")


def test_health_is_shown_to_everybody(plane: ControlPlane) -> None:
    def ask() -> tuple[int, Any]:
        return send(plane, b"", method="GET", path="/_moorage/health", target=None, signed=False)[:2]

    wait_until(lambda: ask()[0] == 200, within=10, what="the gateways know the keys")
    _, content = ask()
    assert content == {
        "status": "ok",
        "version": content["version"],
        "region": "us-east-1",
        "account": "000000000000",
    }


def test_keys_are_issued_used_and_taken_back(plane: ControlPlane) -> None:
    status, made, _ = send(plane, b'{"user_name":"ann"}', path="/_moorage/keys", target=None)
    assert (status, made["user_name"]) == (200, "ann")
    client = plane.client(key_id=made["access_key_id"], secret=made["secret_access_key"])
    assert client.list_models(MaxResults=1)["Models"] is not None
    _, listed, _ = send(plane, b"", method="GET", path="/_moorage/keys", target=None)
    assert [key["user_name"] for key in listed["keys"]] == ["tester", "ann"]
    assert "secret_access_key" not in listed["keys"][0]
    path = f"/_moorage/keys/{made['access_key_id']}"
    assert send(plane, b"", method="DELETE", path=path, target=None)[0] == 200
    assert code_of(send(plane, b"", method="DELETE", path=path, target=None)) == (400, "ValidationException")
    first = f"/_moorage/keys/{KEY_ID}"
    assert code_of(send(plane, b"", method="DELETE", path=first, target=None)) == (400, "ValidationException")


def test_own_pages_want_a_signature(plane: ControlPlane) -> None:
    for path in ("/_moorage/keys", "/_moorage/instances"):
        answer = send(plane, b"", method="GET", path=path, target=None, signed=False)
        assert code_of(answer) == (400, "MissingAuthenticationTokenException")
    answer = send(plane, b"", method="GET", path="/_moorage/none", target=None)
    assert code_of(answer) == (404, "UnknownOperationException")


@pytest.mark.slow  # the AWS CLI takes a second to start
def test_aws_cli_lists_with_its_own_paging_and_queries(plane: ControlPlane, tmp_path: Path) -> None:
    for number in range(3):
        model = {"ModelName": f"cli{number}", "PrimaryContainer": {"Image": IMAGE}}
        send(plane, json.dumps(model).encode(), target="SageMaker.CreateModel")
    command = [
        str(Path(sys.executable).with_name("aws")),
        "sagemaker",
        "list-models",
        *("--name-contains", "cli", "--sort-by", "Name", "--sort-order", "Ascending", "--page-size", "2"),
        *("--query", "Models[].ModelName", "--output", "text", "--endpoint-url", plane.url),
    ]
    environment = {
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "HOME": str(tmp_path),
        "PATH": "/usr/bin:/bin",
    }
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert answer.stdout.split() == ["cli0", "cli1", "cli2"]
