"""Records of captured invocations as AWS writes them: the JSON line, and the key of the object that holds it.

Values in, bytes out (data-plane.md sections 5.3 to 5.5). A line is given in pieces, because the body of an
invocation can be large: whoever writes them holds one piece at a time and lets others run in between. A JSON string
can be escaped piece by piece, base64 in pieces of whole triples; only whether a body is UTF-8 is not known before
its end, so text is read twice.
"""

import codecs
from binascii import b2a_base64
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache

import orjson

RECORD_BYTES = 10_000_000
"""Largest sum of the bodies of one record; a larger one is not recorded (data-plane.md section 5.7)."""

_MOST_STARTS = 64

PIECE_BYTES = 49_152
"""Largest run of a body that is encoded at once."""


class Encoding(StrEnum):
    """How a body is written; the values are AWS's."""

    CSV = "CSV"
    JSON = "JSON"
    BASE64 = "BASE64"


class Encodings:
    """Which content types are written as text."""

    __slots__ = ("_csv", "_json", "_starts")

    def __init__(self, csv_types: Iterable[str], json_types: Iterable[str]) -> None:
        self._csv = frozenset(map(str.lower, csv_types))
        self._json = frozenset(map(str.lower, json_types))
        self._starts: dict[tuple[bytes, str | None], tuple[bytes, Encoding]] = {}

    def of(self, content_type: str | None) -> Encoding:
        """Give the encoding of a body by its Content-Type; parameters and case do not matter."""
        if content_type is None:
            return Encoding.BASE64
        media_type = content_type.partition(";")[0].strip().lower()
        if media_type in self._csv:
            return Encoding.CSV
        return Encoding.JSON if media_type in self._json else Encoding.BASE64

    def start_of(self, mode: bytes, content_type: str | None) -> tuple[bytes, Encoding]:
        """Give what stands before the body of a side of a record, and its encoding; worked out once for each type."""
        found = self._starts.get((mode, content_type))
        if found is None:
            seen = b"" if content_type is None else b'"observedContentType":%b,' % orjson.dumps(content_type)
            found = (b'{%b"mode":"%b","data":' % (seen, mode), self.of(content_type))
            if len(self._starts) >= _MOST_STARTS:
                self._starts.clear()
            self._starts[mode, content_type] = found
        return found


class Payload:
    """A body with its Content-Type: the pieces that came from the socket, not a copy of them."""

    __slots__ = ("chunks", "content_type", "size", "written")

    def __init__(self, content_type: str | None, chunks: Sequence[bytes], size: int) -> None:
        self.content_type = content_type
        self.chunks = chunks
        self.size = size
        self.written: bytes | None = None
        """As a side of a record: the request stands in that of the production variant and in that of its shadow."""

    def __repr__(self) -> str:
        return f"<Payload: {self.content_type}, {self.size} bytes>"


@dataclass(eq=False, slots=True)
class Record:
    """One invocation. A side that is not captured is None."""

    event_id: str
    at: float
    """Seconds since the epoch."""
    inputs: Payload | None
    outputs: Payload | None
    custom_attributes: str | None = None
    inference_id: str | None = None


def encode_record(record: Record, encodings: Encodings) -> Iterable[bytes]:
    """Give the line of a record with its newline, in pieces; an empty piece is a chance to let others run."""
    inputs, outputs = record.inputs, record.outputs
    size = (inputs.size if inputs is not None else 0) + (outputs.size if outputs is not None else 0)
    if size <= PIECE_BYTES:
        return (encode_small(record, encodings),)
    return _encode_in_pieces(record, encodings)


def object_key(prefix: str, endpoint: str, variant: str, at: float, file_id: str) -> str:
    """Give the key of the object whose first record is of this time; ``prefix`` may end in a slash or be empty."""
    moment = datetime.fromtimestamp(at, UTC)
    name = f"{moment:%Y/%m/%d/%H/%M-%S}-{moment.microsecond // 1000:03d}-{file_id}.jsonl"
    prefix = prefix.rstrip("/")
    return f"{prefix}/{endpoint}/{variant}/{name}" if prefix else f"{endpoint}/{variant}/{name}"


def _metadata(record: Record) -> bytes:
    at = _to_the_second(int(record.at))
    if record.custom_attributes is None and record.inference_id is None:
        return b'{"eventId":"%b","inferenceTime":"%b"}' % (record.event_id.encode(), at.encode())
    metadata: dict[str, object] = {"eventId": record.event_id}
    if record.custom_attributes is not None:
        metadata["customAttributes"] = [record.custom_attributes]
    if record.inference_id is not None:
        metadata["inferenceId"] = record.inference_id
    metadata["inferenceTime"] = at
    return orjson.dumps(metadata)


@lru_cache(maxsize=16)
def _to_the_second(at: int) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"


def encode_small(record: Record, encodings: Encodings) -> bytes:
    """Give the line of a record in one piece: what ``encode_record`` gives in many when the bodies are large."""
    data = b""
    if record.inputs is not None:
        if record.inputs.written is None:
            record.inputs.written = _side(b"INPUT", record.inputs, encodings)
        data = b'"endpointInput":' + record.inputs.written
    if record.outputs is not None:
        output = b'"endpointOutput":' + _side(b"OUTPUT", record.outputs, encodings)
        data = output if record.inputs is None else data + b"," + output
    return b'{"captureData":{%b},"eventMetadata":%b,"eventVersion":"0"}\n' % (data, _metadata(record))


def _side(mode: bytes, payload: Payload, encodings: Encodings) -> bytes:
    body = payload.chunks[0] if len(payload.chunks) == 1 else b"".join(payload.chunks)
    start, encoding = encodings.start_of(mode, payload.content_type)
    if encoding is not Encoding.BASE64:
        try:
            return b'%b%b,"encoding":"%b"}' % (start, orjson.dumps(body.decode()), encoding.encode())
        except UnicodeDecodeError:
            pass
    return b'%b"%b","encoding":"BASE64"}' % (start, b2a_base64(body, newline=False))


def _encode_in_pieces(record: Record, encodings: Encodings) -> Iterator[bytes]:
    yield b'{"captureData":{'
    if record.inputs is not None:
        yield b'"endpointInput":'
        yield from _side_in_pieces(b"INPUT", record.inputs, encodings)
    if record.outputs is not None:
        yield b'"endpointOutput":' if record.inputs is None else b',"endpointOutput":'
        yield from _side_in_pieces(b"OUTPUT", record.outputs, encodings)
    yield b'},"eventMetadata":%b,"eventVersion":"0"}\n' % _metadata(record)


def _side_in_pieces(mode: bytes, payload: Payload, encodings: Encodings) -> Iterator[bytes]:
    start, encoding = encodings.start_of(mode, payload.content_type)
    if encoding is not Encoding.BASE64 and not (yield from _is_text(payload.chunks)):
        encoding = Encoding.BASE64
    yield start + b'"'
    yield from _in_base64(payload.chunks) if encoding is Encoding.BASE64 else _escaped(payload.chunks)
    yield b'","encoding":"%b"}' % encoding.encode()


def _is_text(chunks: Sequence[bytes]) -> Generator[bytes, None, bool]:
    """Say whether a body is UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for piece in _pieces(chunks):
            decoder.decode(piece)
            yield b""
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _escaped(chunks: Sequence[bytes]) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    for piece in _pieces(chunks):
        yield orjson.dumps(decoder.decode(piece))[1:-1]


def _in_base64(chunks: Sequence[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in _pieces(chunks):
        data = rest + piece
        whole = len(data) - len(data) % 3
        yield b2a_base64(data[:whole], newline=False)
        rest = data[whole:]
    yield b2a_base64(rest, newline=False)


def _pieces(chunks: Sequence[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        for start in range(0, len(chunk), PIECE_BYTES):
            yield chunk[start : start + PIECE_BYTES]
