r"""Bodies in S3's own encoding ``aws-chunked``, decoded as they come: nothing but a line is ever held back.

    5;chunk-signature=<hex>\r\n hello\r\n 0;chunk-signature=<hex>\r\n x-amz-checksum-crc32:...\r\n \r\n

Three kinds, told by ``x-amz-content-sha256``: signed chunks, signed chunks with trailers, and unsigned chunks with
trailers. Each signature covers the one before it, the first that of the request. The bytes of a signed chunk are
given out before its end is seen: whoever stores them may not let anybody see them before ``finish`` has returned.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from enum import Enum, auto

from moorage.aws.sigv4 import Signature, signing_key

UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"

_LONGEST_LINE_BYTES = 4096
_MOST_TRAILERS = 32
_TRAILER_SIGNATURE = "x-amz-trailer-signature"
_EMPTY_HASH = hashlib.sha256().hexdigest()
_CHUNK_HEAD = re.compile(rb"([0-9a-fA-F]{1,15})(?:;chunk-signature=([0-9a-f]{64}))?[ \t]*")


class MalformedChunks(ValueError):
    """The body is not what it says, or ends too early; the text is for people."""


class ChunkSignatureMismatch(ValueError):
    """A chunk or the trailers were signed with another secret, or changed afterwards."""


class _Chain:
    """The signatures of a body, each made with the one before."""

    def __init__(self, signature: Signature, secret_access_key: str) -> None:
        self._key = signing_key(secret_access_key, signature.date, signature.region, signature.service)
        self._frame = f"{signature.amz_date}\n{signature.scope}"
        self._previous = signature.signature

    def check_chunk(self, signature: str, sha256: str) -> None:
        self._check("PAYLOAD", f"{_EMPTY_HASH}\n{sha256}", signature)

    def check_trailers(self, signature: str, trailers: Mapping[str, str]) -> None:
        canonical = "".join(f"{name}:{value}\n" for name, value in trailers.items())
        self._check("TRAILER", hashlib.sha256(canonical.encode("latin-1")).hexdigest(), signature)

    def _check(self, kind: str, covered: str, signature: str) -> None:
        text = f"AWS4-HMAC-SHA256-{kind}\n{self._frame}\n{self._previous}\n{covered}"
        expected = hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected.encode(), signature.encode("latin-1")):
            raise ChunkSignatureMismatch("A chunk's signature does not match the one that was calculated.")
        self._previous = expected


class _State(Enum):
    HEAD = auto()
    CONTENT = auto()
    CONTENT_END = auto()
    TRAILERS = auto()
    END = auto()


class ChunkedDecoder:
    """Decodes one body: ``feed`` it as it comes, then ``finish``."""

    def __init__(self, signature: Signature, secret_access_key: str) -> None:
        """Decode the body of a request with this signature.

        Raises MalformedChunks when its ``payload_hash`` is none of the three kinds.
        """
        if signature.payload_hash not in {SIGNED, SIGNED_TRAILER, UNSIGNED_TRAILER}:
            raise MalformedChunks(f"Unknown kind of streaming body: {str(signature.payload_hash)[:80]!a}.")
        self.decoded_bytes = 0
        """How many bytes have been given out so far."""
        self._chain = None if signature.payload_hash == UNSIGNED_TRAILER else _Chain(signature, secret_access_key)
        self._may_have_trailers = signature.payload_hash != SIGNED
        self._state = _State.HEAD
        self._line = bytearray()
        self._left = 0
        self._chunk_signature = ""
        self._hash = hashlib.sha256()
        self._trailers: dict[str, str] = {}
        self._trailer_signature: str | None = None

    def feed(self, received: bytes) -> list[bytes]:
        """Give the decoded parts of what has come; raises MalformedChunks or ChunkSignatureMismatch."""
        parts = []
        at = 0
        while at < len(received):
            if self._state is _State.CONTENT:
                part = received[at : at + self._left]
                at += len(part)
                self._take(part)
                parts.append(part)
                continue
            end = received.find(b"\n", at)
            self._line += received[at : end + 1 if end >= 0 else len(received)]
            if len(self._line) > _LONGEST_LINE_BYTES:
                raise MalformedChunks("A line of the chunked body is too long.")
            if end < 0:
                break
            at = end + 1
            line = bytes(self._line).rstrip(b"\r\n")
            self._line.clear()
            self._read_line(line)
        return parts

    def finish(self) -> Mapping[str, str]:
        """Say that no more comes; gives the trailers, names in lower case. Raises MalformedChunks when cut short."""
        # Without trailers some clients leave out the empty line at the end.
        ended = self._state is _State.END or (
            self._state is _State.TRAILERS and not self._may_have_trailers and not self._line.strip()
        )
        if not ended:
            raise MalformedChunks("The chunked body ends before its last chunk does.")
        return self._trailers

    def _take(self, part: bytes) -> None:
        self._left -= len(part)
        self.decoded_bytes += len(part)
        if self._chain is not None:
            self._hash.update(part)
        if self._left == 0:
            self._end_chunk()
            self._state = _State.CONTENT_END

    def _read_line(self, line: bytes) -> None:
        if self._state is _State.HEAD:
            self._read_head(line)
        elif self._state is _State.CONTENT_END:
            if line:
                raise MalformedChunks("A chunk is longer than it says.")
            self._state = _State.HEAD
        elif self._state is _State.TRAILERS:
            self._read_trailer(line)
        else:
            raise MalformedChunks("There is something behind the last chunk.")

    def _read_head(self, line: bytes) -> None:
        found = _CHUNK_HEAD.fullmatch(line)
        if found is None or (found[2] is None) != (self._chain is None):
            raise MalformedChunks(f"A chunk does not begin as one: {line[:40]!a}.")
        self._left = int(found[1], 16)
        self._chunk_signature = (found[2] or b"").decode()
        self._hash = hashlib.sha256()
        self._state = _State.CONTENT
        if self._left == 0:
            self._end_chunk()
            self._state = _State.TRAILERS

    def _end_chunk(self) -> None:
        if self._chain is not None:
            self._chain.check_chunk(self._chunk_signature, self._hash.hexdigest())

    def _read_trailer(self, line: bytes) -> None:
        if not line:
            # Signed trailers may have an empty line before their signature.
            if self._chain is None or not self._may_have_trailers or self._trailer_signature is not None:
                self._state = _State.END
            elif not self._trailers:
                raise MalformedChunks("The trailers are missing.")
            return
        name, colon, value = line.decode("latin-1").partition(":")
        name = name.strip().lower()
        if not self._may_have_trailers or not colon or not name or name in self._trailers:
            raise MalformedChunks(f"This is no trailer: {line[:40]!a}.")
        if len(self._trailers) == _MOST_TRAILERS or self._trailer_signature is not None:
            raise MalformedChunks("There are too many trailers.")
        if name == _TRAILER_SIGNATURE and self._chain is not None:
            self._trailer_signature = value.strip()
            self._chain.check_trailers(self._trailer_signature, self._trailers)
        else:
            self._trailers[name] = value.strip()
