"""Frames of event streams: AWS's test vector, and botocore as the reader."""

from collections.abc import Sequence

import pytest
from botocore.eventstream import EventStreamBuffer, EventStreamMessage
from hypothesis import given
from hypothesis import strategies as st

from moorage.aws import event_stream

HELLO = bytes.fromhex(
    "0000006e000000595197ff150b3a6576656e742d7479706507000b5061796c6f6164506172740d3a636f6e74656e"
    "742d747970650700186170706c69636174696f6e2f6f637465742d73747265616d0d3a6d6573736167652d747970"
    "650700056576656e7468656c6c6f29738ab4"
)


def read(*pieces: bytes) -> list[EventStreamMessage]:
    """Read as botocore does, which checks both CRCs; nothing may be left over."""
    buffer = EventStreamBuffer()
    messages = []
    for piece in pieces:
        buffer.add_data(piece)
        messages.extend(buffer)
    assert not buffer._data
    return messages


def test_part_is_that_of_the_specification() -> None:
    assert b"".join(event_stream.payload_parts(b"hello")) == HELLO


def test_exception_is_that_of_the_specification() -> None:
    frame = event_stream.exception("ModelStreamError", {"Message": "x", "ErrorCode": "StreamBroken"})
    (message,) = read(frame)
    assert (frame[:12].hex(), frame[-4:].hex()) == ("000000980000005e0887cf4b", "58c10c51")
    assert message.headers == {
        ":exception-type": "ModelStreamError",
        ":content-type": "application/json",
        ":message-type": "exception",
    }
    assert message.payload == b'{"ErrorCode":"StreamBroken","Message":"x"}'


@given(st.text())
def test_any_text_of_an_exception_is_read_by_botocore(text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    (message,) = read(event_stream.exception("InternalStreamFailure", {"Message": text}))
    assert message.headers[":exception-type"] == "InternalStreamFailure"


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    ends = sorted({min(place, len(data)) for place in places} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@given(st.lists(st.binary(max_size=300), max_size=10), st.lists(st.integers(0, 5000), max_size=10))
def test_any_chunks_cut_anywhere_are_read_by_botocore(chunks: list[bytes], places: list[int]) -> None:
    stream = b"".join(frame for chunk in chunks for frame in event_stream.payload_parts(chunk))
    messages = read(*cut(stream, places))
    assert [message.payload for message in messages] == [chunk for chunk in chunks if chunk]
    for message in messages:
        assert message.headers == {
            ":event-type": "PayloadPart",
            ":content-type": "application/octet-stream",
            ":message-type": "event",
        }


@pytest.mark.parametrize(
    ("length", "lengths"),
    [
        (0, []),
        (1, [1]),
        (65_536, [65_536]),
        (65_537, [65_536, 1]),
        (200_000, [65_536, 65_536, 65_536, 3_392]),
    ],
)
def test_large_chunk_is_split(length: int, lengths: list[int]) -> None:
    data = bytes(range(256)) * (length // 256 + 1)
    messages = read(*event_stream.payload_parts(data[:length]))
    assert [len(message.payload) for message in messages] == lengths
    assert b"".join(message.payload for message in messages) == data[:length]
