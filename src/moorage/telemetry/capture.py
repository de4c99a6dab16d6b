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

_MOST_FRAMES = 64
_END_OF_BASE64 = b',"encoding":"BASE64"}'

PIECE_BYTES = 49_152
"""Largest run of a body that is encoded at once."""


class Encoding(StrEnum):
    """How a body is written; the values are AWS's."""

    CSV = "CSV"
    JSON = "JSON"
    BASE64 = "BASE64"


class Encodings:
    """Which content types are written as text."""

    __slots__ = ("_csv", "_inputs", "_json", "_outputs")

    def __init__(self, csv_types: Iterable[str], json_types: Iterable[str]) -> None:
        self._csv = frozenset(map(str.lower, csv_types))
        self._json = frozenset(map(str.lower, json_types))
        self._inputs: dict[str | None, Frame] = {}
        self._outputs: dict[str | None, Frame] = {}

    def of(self, content_type: str | None) -> Encoding:
        """Give the encoding of a body by its Content-Type; parameters and case do not matter."""
        if content_type is None:
            return Encoding.BASE64
        media_type = content_type.partition(";")[0].strip().lower()
        if media_type in self._csv:
            return Encoding.CSV
        return Encoding.JSON if media_type in self._json else Encoding.BASE64

    def of_input(self, content_type: str | None) -> "Frame":
        """Give what stands around the body of a request; worked out once for each type."""
        found = self._inputs.get(content_type)
        return found if found is not None else self._learn(self._inputs, "Input", content_type)

    def of_output(self, content_type: str | None) -> "Frame":
        """Give what stands around the body of an answer."""
        found = self._outputs.get(content_type)
        return found if found is not None else self._learn(self._outputs, "Output", content_type)

    def _learn(self, frames: "dict[str | None, Frame]", side: str, content_type: str | None) -> "Frame":
        if len(frames) >= _MOST_FRAMES:
            frames.clear()
        made = frames[content_type] = Frame(side, content_type, self.of(content_type))
        return made


class Frame:
    """What stands around the body in a side of a record."""

    __slots__ = ("end", "is_text", "start")

    def __init__(self, side: str, content_type: str | None, encoding: Encoding) -> None:
        seen = b"" if content_type is None else b'"observedContentType":%b,' % orjson.dumps(content_type)
        self.start = b'"endpoint%b":{%b"mode":"%b","data":' % (side.encode(), seen, side.upper().encode())
        self.end = b',"encoding":"%b"}' % encoding.encode()
        self.is_text = encoding is not Encoding.BASE64
        """Whether the body is written as it is, if it is UTF-8."""


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


def encode_small(record: Record, encodings: Encodings) -> bytes:
    """Give the line of a record in one piece: what ``encode_record`` gives in many when the bodies are large."""
    return encode_line(
        record.event_id,
        record.at,
        record.inputs,
        record.outputs,
        record.custom_attributes,
        record.inference_id,
        encodings,
    )


def encode_line(  # noqa: PLR0913, PLR0917 - a record that is made without an object for it, thousands of times a second
    event_id: str,
    at: float,
    inputs: Payload | None,
    outputs: Payload | None,
    custom_attributes: str | None,
    inference_id: str | None,
    encodings: Encodings,
) -> bytes:
    """Give the line of a record with small bodies; the parameters are the fields of ``Record``."""
    input_side = output_side = b""
    if inputs is not None:
        if inputs.written is None:
            inputs.written = _side(inputs, encodings.of_input(inputs.content_type))
        input_side = inputs.written
    if outputs is not None:
        output_side = _side(outputs, encodings.of_output(outputs.content_type))
    between = b"," if input_side and output_side else b""
    if custom_attributes is None and inference_id is None:  # as most are: written at once
        return (
            b'{"captureData":{%b%b%b},"eventMetadata":{"eventId":"%b","inferenceTime":"%b"},"eventVersion":"0"}\n'
            % (input_side, between, output_side, event_id.encode(), _to_the_second(int(at)))
        )
    metadata = _metadata(event_id, at, custom_attributes, inference_id)
    return b'{"captureData":{%b%b%b},"eventMetadata":%b,"eventVersion":"0"}\n' % (
        input_side,
        between,
        output_side,
        metadata,
    )


def _metadata(event_id: str, at: float, custom_attributes: str | None, inference_id: str | None) -> bytes:
    metadata: dict[str, object] = {"eventId": event_id}
    if custom_attributes is not None:
        metadata["customAttributes"] = [custom_attributes]
    if inference_id is not None:
        metadata["inferenceId"] = inference_id
    metadata["inferenceTime"] = _to_the_second(int(at)).decode()
    return orjson.dumps(metadata)


@lru_cache(maxsize=16)
def _to_the_second(at: int) -> bytes:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}".encode()


def _side(payload: Payload, frame: Frame) -> bytes:
    body = payload.chunks[0] if len(payload.chunks) == 1 else b"".join(payload.chunks)
    if frame.is_text:
        try:
            return b"%b%b%b" % (frame.start, orjson.dumps(body.decode()), frame.end)
        except UnicodeDecodeError:
            pass
    return b'%b"%b"%b' % (frame.start, b2a_base64(body, newline=False), _END_OF_BASE64)


def _encode_in_pieces(record: Record, encodings: Encodings) -> Iterator[bytes]:
    yield b'{"captureData":{'
    inputs, outputs = record.inputs, record.outputs
    if inputs is not None:
        yield from _side_in_pieces(inputs, encodings.of_input(inputs.content_type))
    if inputs is not None and outputs is not None:
        yield b","
    if outputs is not None:
        yield from _side_in_pieces(outputs, encodings.of_output(outputs.content_type))
    metadata = _metadata(record.event_id, record.at, record.custom_attributes, record.inference_id)
    yield b'},"eventMetadata":%b,"eventVersion":"0"}\n' % metadata


def _side_in_pieces(payload: Payload, frame: Frame) -> Iterator[bytes]:
    is_text = frame.is_text and (yield from _is_text(payload.chunks))
    yield frame.start + b'"'
    yield from _escaped(payload.chunks) if is_text else _in_base64(payload.chunks)
    yield b'"' + (frame.end if is_text else _END_OF_BASE64)


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
