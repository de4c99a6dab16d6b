"""Frames of ``application/vnd.amazon.eventstream`` as the runtime API sends them (data-plane.md section 3.2). Pure.

A frame is its length and that of its headers with a CRC of both, the headers, the payload, and a CRC of all of it.
The events of one stream differ in nothing but payload and length, so what stands before the payload, and the CRC so
far, are kept for the lengths that were seen: chunks of a language model have few.
"""

import zlib
from collections.abc import Iterator, Mapping
from functools import lru_cache

import orjson

MEDIA_TYPE = "application/vnd.amazon.eventstream"

PART_BYTES = 65_536
"""Largest payload of one PayloadPart."""

_STRING = b"\x07"
_PRELUDE_BYTES = 12
_CRC_BYTES = 4


def payload_parts(data: bytes) -> Iterator[bytes]:
    """Make the frames that carry some bytes of a container's answer: none for no bytes."""
    if 0 < len(data) <= PART_BYTES:
        yield _part(data)
        return
    for start in range(0, len(data), PART_BYTES):
        yield _part(data[start : start + PART_BYTES])


def exception(name: str, members: Mapping[str, str]) -> bytes:
    """Make the frame of a modelled exception, such as ModelStreamError; the client raises it."""
    headers = _encode_headers(
        {":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}
    )
    return _frame(headers, orjson.dumps(members, option=orjson.OPT_SORT_KEYS))


def _part(data: bytes) -> bytes:
    before, crc = _before_part(len(data))
    return b"%b%b%b" % (before, data, zlib.crc32(data, crc).to_bytes(_CRC_BYTES, "big"))


@lru_cache(maxsize=4096)
def _before_part(length: int) -> tuple[bytes, int]:
    """Give what precedes a payload of this length, and its CRC."""
    before = _prelude(len(_PART_HEADERS), length) + _PART_HEADERS
    return before, zlib.crc32(before)


def _frame(headers: bytes, payload: bytes) -> bytes:
    content = _prelude(len(headers), len(payload)) + headers + payload
    return content + zlib.crc32(content).to_bytes(_CRC_BYTES, "big")


def _prelude(headers_length: int, payload_length: int) -> bytes:
    total = _PRELUDE_BYTES + headers_length + payload_length + _CRC_BYTES
    lengths = total.to_bytes(4, "big") + headers_length.to_bytes(4, "big")
    return lengths + zlib.crc32(lengths).to_bytes(_CRC_BYTES, "big")


def _encode_headers(headers: Mapping[str, str]) -> bytes:
    return b"".join(
        bytes([len(name)]) + name.encode() + _STRING + len(value).to_bytes(2, "big") + value.encode()
        for name, value in headers.items()
    )


_PART_HEADERS = _encode_headers(
    {":event-type": "PayloadPart", ":content-type": "application/octet-stream", ":message-type": "event"}
)
