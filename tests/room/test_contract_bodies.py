"""Bodies that no client should send: each gets its error over HTTP, at once."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.control import control_plane
from tests.support.raw import RawClient

QUICKLY_SECONDS = 5.0
"""Milliseconds on an idle machine."""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawClient]:
    with control_plane(tmp_path_factory.mktemp("c")) as plane:
        raw = RawClient(plane.url)
        yield raw
        raw.close()


def with_tags(value: str) -> bytes:
    return f'{{"ModelName":"m","PrimaryContainer":{{"Image":"i"}},"Tags":{value}}}'.encode()


NOT_JSON = "The request body is not valid JSON"

CASES: dict[str, tuple[bytes, str, str]] = {
    "empty": (b"", "ValidationException", "1 validation error detected: Value null at 'modelName'"),
    "not JSON": (b"ModelName=m", "SerializationException", NOT_JSON),
    "half": (b'{"ModelName":', "SerializationException", NOT_JSON),
    "two documents": (b'{"ModelName":"m"}{}', "SerializationException", NOT_JSON),
    "comment": (b'{"ModelName":"m"/**/}', "SerializationException", NOT_JSON),
    "not UTF-8": (b'{"ModelName":"\xff"}', "SerializationException", NOT_JSON),
    "UTF-16": ('{"ModelName":"m"}'.encode("utf-16"), "SerializationException", NOT_JSON),
    "byte order mark": (b'\xef\xbb\xbf{"ModelName":"m"}', "SerializationException", NOT_JSON),
    "lone surrogate": (rb'{"ModelName":"\ud800"}', "SerializationException", NOT_JSON),
    "surrogates in the wrong order": (rb'{"ModelName":"\udc00\ud800"}', "SerializationException", NOT_JSON),
    "control character": (b'{"ModelName":"a\tb"}', "SerializationException", NOT_JSON),
    "NaN": (b'{"MaxResults":NaN}', "SerializationException", NOT_JSON),
    "infinity": (b'{"MaxResults":-Infinity}', "SerializationException", NOT_JSON),
    "1e400": (b'{"x":1e400}', "SerializationException", NOT_JSON),
    "a million digits": (b'{"x":' + b"9" * 1_000_000 + b"}", "SerializationException", NOT_JSON),
    "double key": (
        b'{"ModelName":"m","ModelName":"n"}',
        "SerializationException",
        "The request body has an object with",
    ),
    "double key far below": (with_tags('[{"Key":"a","Key":"b"}]'), "SerializationException", "The request body has an"),
    "double key of an unknown member": (b'{"x":{"y":1,"y":1}}', "SerializationException", "The request body has an"),
    "list": (b"[]", "SerializationException", "Start of structure expected"),
    "text": (b'"ModelName"', "SerializationException", "Start of structure expected"),
    "null": (b"null", "SerializationException", "Start of structure expected"),
    "deep list": (b'{"x":' + b"[" * 101 + b"]" * 101 + b"}", "SerializationException", "The request body is nested"),
    "very deep list": (b'{"x":' + b"[" * 500_000 + b"]" * 500_000 + b"}", "SerializationException", NOT_JSON),
    "very deep object": (b'{"x":' * 170_000 + b"1" + b"}" * 170_000, "SerializationException", NOT_JSON),
    "100,000 elements": (with_tags(json.dumps([{}] * 100_000)), "ValidationException", "1 validation error detected"),
    "100,000 wrong elements": (
        with_tags(json.dumps([1] * 100_000)),
        "SerializationException",
        "NUMBER_VALUE can not be",
    ),
    "100,000 nulls": (with_tags(json.dumps([None] * 100_000)), "ValidationException", "1 validation error detected"),
    "larger than the limit": (
        b'{"x":"' + b"a" * 1_048_570 + b'"}',
        "RequestEntityTooLargeException",
        "The request body",
    ),
    "text for a list": (with_tags('"a"'), "SerializationException", "STRING_VALUE can not be converted to a list"),
    "object for a list": (
        with_tags("{}"),
        "SerializationException",
        "Start of structure or map found where not expected.",
    ),
    "list for a text": (b'{"ModelName":[]}', "SerializationException", "Start of list found where not expected."),
    "number for a text": (
        b'{"ModelName":1}',
        "SerializationException",
        "NUMBER_VALUE can not be converted to a String",
    ),
    "truth for a text": (
        b'{"ModelName":true}',
        "SerializationException",
        "TRUE_VALUE can not be converted to a String",
    ),
    "text for a truth": (
        b'{"EnableNetworkIsolation":"true"}',
        "SerializationException",
        "STRING_VALUE can not be converted to a Boolean",
    ),
}


@pytest.mark.parametrize(("body", "code", "text"), CASES.values(), ids=CASES)
def test_hostile_body_gets_its_error_at_once(client: RawClient, body: bytes, code: str, text: str) -> None:
    began = time.monotonic()
    status, content = client.send("CreateModel", body)
    assert time.monotonic() - began < QUICKLY_SECONDS
    assert (content["__type"], content["message"][: len(text)]) == (code, text)
    assert status == (413 if code == "RequestEntityTooLargeException" else 400)
    assert len(content["message"]) < 10_000 + 20 * len(body)


NUMBERS: dict[str, Any] = {
    "2147483648": "NUMBER_VALUE can not be converted to an Integer",
    "-2147483649": "NUMBER_VALUE can not be converted to an Integer",
    "1.5": "NUMBER_VALUE can not be converted to an Integer",
    "1e30": "NUMBER_VALUE can not be converted to an Integer",
    "1.0e2": None,
    "5.0": None,
    "0": "1 validation error detected: Value '0' at 'maxResults'",
    "-0": "1 validation error detected: Value '0' at 'maxResults'",
}


@pytest.mark.parametrize(("number", "text"), NUMBERS.items(), ids=NUMBERS)
def test_whole_numbers_are_those_that_fit(client: RawClient, number: str, text: str | None) -> None:
    status, content = client.send("ListModels", f'{{"MaxResults":{number}}}'.encode())
    assert content.get("message", "").startswith(text or "")
    assert status == (200 if text is None else 400)


@pytest.mark.parametrize("number", ["3.5e38", "-1e300"])
def test_weights_are_single_precision(client: RawClient, number: str) -> None:
    body = f'{{"EndpointName":"e","DesiredWeightsAndCapacities":[{{"VariantName":"v","DesiredWeight":{number}}}]}}'
    _, content = client.send("UpdateEndpointWeightsAndCapacities", body.encode())
    assert content["__type"] == "SerializationException"
    assert content["message"] == "NUMBER_VALUE can not be converted to a Float"


def test_unknown_members_are_ignored_at_every_depth(client: RawClient) -> None:
    body = {
        "MaxResults": 1,
        "Unknown": {"a": [1, None, {"b": "c"}]},
    }
    assert client.ask("ListModels", body)[0] == 200
    model = {
        "ModelName": "u",
        "PrimaryContainer": {"Image": "none", "Unknown": [1]},
        "Tags": [{"Key": "k", "Value": "", "X": 1}],
    }
    assert client.ask("CreateModel", model)[1]["message"] == "Requested image none not found."
    older = "683313688378.dkr.ecr.us-east-1.amazonaws.com/xgboost:2"
    said = f"Requested image {older} not found. Built-in images of xgboost: 1, latest."
    assert client.ask("CreateModel", {**model, "PrimaryContainer": {"Image": older}})[1]["message"] == said


def test_null_is_absent(client: RawClient) -> None:
    assert client.ask("ListModels", {"MaxResults": None, "NameContains": None})[0] == 200
