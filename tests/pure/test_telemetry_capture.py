"""Records of captured invocations: AWS's lines byte for byte, and its keys."""

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.telemetry import capture
from moorage.telemetry.capture import Encoding, Encodings, Payload, Record, encode_record, object_key

LISTED = Encodings(["text/csv"], ["application/json", "Application/JSONLines"])
AT = datetime(2019, 11, 20, 23, 33, 12, 999_000, UTC).timestamp()
EVENT = "feca1ab1-8025-47e3-8f6a-99e3fdd7b8d9"


def payload(content_type: str | None, *chunks: bytes) -> Payload:
    return Payload(content_type, chunks, sum(map(len, chunks)))


def line(record: Record, encodings: Encodings = LISTED) -> bytes:
    return b"".join(encode_record(record, encodings))


def side(content_type: str | None, *chunks: bytes) -> dict[str, Any]:
    record = Record(EVENT, AT, payload(content_type, *chunks), None)
    found: dict[str, Any] = json.loads(line(record))["captureData"]["endpointInput"]
    return found


def cut(body: bytes, places: Sequence[int]) -> list[bytes]:
    ends = sorted(place % (len(body) + 1) for place in places)
    return [body[start:end] for start, end in zip([0, *ends], [*ends, len(body)], strict=True)]


def test_the_specification_s_record_byte_for_byte() -> None:
    record = Record(
        EVENT,
        AT,
        payload("text/csv", b"132,25,", b"113.2"),
        payload("text/csv; charset=utf-8", b"0.0107"),
        custom_attributes="k=v",
        inference_id="my-id",
    )
    assert line(record) == (
        b'{"captureData":{"endpointInput":{"observedContentType":"text/csv","mode":"INPUT","data":"132,25,113.2",'
        b'"encoding":"CSV"},"endpointOutput":{"observedContentType":"text/csv; charset=utf-8","mode":"OUTPUT",'
        b'"data":"0.0107","encoding":"CSV"}},"eventMetadata":{"eventId":"feca1ab1-8025-47e3-8f6a-99e3fdd7b8d9",'
        b'"customAttributes":["k=v"],"inferenceId":"my-id","inferenceTime":"2019-11-20T23:33:12Z"},'
        b'"eventVersion":"0"}\n'
    )


def test_what_the_caller_did_not_send_is_absent() -> None:
    assert line(Record(EVENT, AT, payload(None, b"\x00\x01"), None)) == (
        b'{"captureData":{"endpointInput":{"mode":"INPUT","data":"AAE=","encoding":"BASE64"}},"eventMetadata":'
        b'{"eventId":"feca1ab1-8025-47e3-8f6a-99e3fdd7b8d9","inferenceTime":"2019-11-20T23:33:12Z"},'
        b'"eventVersion":"0"}\n'
    )


def test_the_output_alone() -> None:
    found = json.loads(line(Record(EVENT, AT, None, payload("application/json", b'{"a": "\xc3\xa4"}\n'))))
    assert found["captureData"] == {
        "endpointOutput": {
            "observedContentType": "application/json",
            "mode": "OUTPUT",
            "data": '{"a": "ä"}\n',
            "encoding": "JSON",
        }
    }


def test_text_is_not_escaped_beyond_need() -> None:
    assert 'ä"€😀"'.replace('"', '\\"').encode() in line(
        Record(EVENT, AT, payload("text/csv", 'ä"€😀"'.encode()), None)
    )


@pytest.mark.parametrize(
    ("content_type", "encoding"),
    [
        ("text/csv", Encoding.CSV),
        ("Text/CSV ; charset=utf-8", Encoding.CSV),
        ("application/json", Encoding.JSON),
        ("application/jsonlines", Encoding.JSON),
        ("application/x-npy", Encoding.BASE64),
        ("text/csvx", Encoding.BASE64),
        ("", Encoding.BASE64),
        (None, Encoding.BASE64),
    ],
)
def test_the_encoding_follows_the_media_type(content_type: str | None, encoding: Encoding) -> None:
    assert LISTED.of(content_type) is encoding


def test_nothing_is_listed_by_default() -> None:
    assert Encodings([], []).of("text/csv") is Encoding.BASE64


@pytest.mark.parametrize("body", [b"\xff", b"1,2\xc3", b"\xed\xa0\x80"])
def test_a_listed_body_that_is_not_utf_8_is_base64(body: bytes) -> None:
    found = side("text/csv", body)
    assert (found["encoding"], base64.b64decode(found["data"])) == ("BASE64", body)


@given(st.text(), st.lists(st.integers(0), max_size=4), st.integers(1, 9))
def test_text_comes_back_however_it_was_cut(text: str, places: list[int], piece_bytes: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capture, "PIECE_BYTES", piece_bytes)
        found = side("text/csv", *cut(text.encode("utf-8", "ignore"), places))
    assert (found["encoding"], found["data"]) == ("CSV", text.encode("utf-8", "ignore").decode())


@given(st.binary(), st.lists(st.integers(0), max_size=4), st.integers(1, 9))
def test_bytes_come_back_however_they_were_cut(body: bytes, places: list[int], piece_bytes: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capture, "PIECE_BYTES", piece_bytes)
        found = side("image/png", *cut(body, places))
    assert (found["encoding"], base64.b64decode(found["data"], validate=True)) == ("BASE64", body)


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "ignore")), st.text(), st.text(max_size=9))
def test_a_record_is_one_line_of_json(body: bytes, custom: str, content_type: str) -> None:
    custom = custom.encode("utf-8", "ignore").decode()
    content_type = content_type.encode("latin-1", "ignore").decode("latin-1")
    made = line(Record(EVENT, AT, payload(content_type, body), payload("text/csv", body), custom, custom))
    assert made.endswith(b"\n")
    assert made.count(b"\n") == 1
    assert json.loads(made)["eventMetadata"]["customAttributes"] == [custom]


@given(
    st.binary() | st.text().map(lambda text: text.encode("utf-8", "ignore")),
    st.sampled_from([None, "text/csv", "application/json; a=b", "image/png"]),
    st.lists(st.integers(0), max_size=4),
    st.sampled_from(["both", "input", "output"]),
)
def test_large_and_small_records_are_written_alike(
    body: bytes, content_type: str | None, places: list[int], sides: str
) -> None:
    pieces = payload(content_type, *cut(body, places))
    record = Record(
        EVENT, AT, pieces if sides != "output" else None, pieces if sides != "input" else None, inference_id="id"
    )
    small = line(record)
    assert b"".join(capture._encode_in_pieces(record, LISTED)) == small


def test_a_large_body_is_encoded_in_small_pieces() -> None:
    body = "ä,1\n".encode() * 100_000
    for content_type in ("text/csv", "image/png"):
        pieces = list(encode_record(Record(EVENT, AT, payload(content_type, body), None), LISTED))
        assert max(map(len, pieces)) <= 2 * capture.PIECE_BYTES


@pytest.mark.parametrize(
    ("prefix", "key"),
    [
        ("model-monitor/data-capture", "model-monitor/data-capture/My-EP/AllTraffic/"),
        ("model-monitor/", "model-monitor/My-EP/AllTraffic/"),
        ("a//", "a/My-EP/AllTraffic/"),
        ("", "My-EP/AllTraffic/"),
    ],
)
def test_the_key_is_aws_s(prefix: str, key: str) -> None:
    at = datetime(2022, 4, 18, 0, 20, 48, 871_000, UTC).timestamp()
    made = object_key(prefix, "My-EP", "AllTraffic", at, "0b7bfd33-c8a7-4adf-a09a-98fd0af79974")
    assert made == f"{key}2022/04/18/00/20-48-871-0b7bfd33-c8a7-4adf-a09a-98fd0af79974.jsonl"


def test_a_payload_says_what_it_is() -> None:
    assert repr(payload("text/csv", b"12")) == "<Payload: text/csv, 2 bytes>"
