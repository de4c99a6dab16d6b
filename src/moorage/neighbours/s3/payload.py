"""A request's body as the client means it: unframed, and refused unless it is what its signature and checksums say.

Everything is checked when the body is over and before the store lets anybody see it. The digests are computed where
the bytes are written, in threads; here they are only compared.
"""

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator
from typing import Final

from moorage.aws import chunked
from moorage.aws.chunked import ChunkedDecoder, ChunkSignatureMismatch, MalformedChunks
from moorage.aws.errors import ClientFault
from moorage.aws.sigv4 import UNSIGNED_PAYLOAD
from moorage.neighbours.s3.call import Call
from moorage.neighbours.s3.faults import (
    incomplete_body,
    invalid_argument,
    invalid_request,
    malformed_xml,
    missing_length,
    not_implemented,
    signature_does_not_match,
    too_large,
    wrong_body_hash,
)
from moorage.objects.digests import ALGORITHMS, digest_of
from moorage.objects.faults import BadDigest
from moorage.objects.store import Digests

MOST_BYTES: Final = 5 * 2**30
"""Largest body of one PutObject or UploadPart (S3's limit)."""

MOST_DOCUMENT_BYTES: Final = 8 * 2**20
"""Largest XML document: ten thousand parts with their checksums fit."""

_PREFIX = "x-amz-checksum-"
_FRAMED = {chunked.SIGNED, chunked.SIGNED_TRAILER, chunked.UNSIGNED_TRAILER}
_DECODE_BYTES = 2**18


class Payload:
    """The body of a call. ``pieces`` gives it, ``check`` is called with its ``digests`` when it is over."""

    def __init__(self, call: Call, *, most_bytes: int = MOST_BYTES, checksum_of_body: bool = True) -> None:
        """Read what the headers say of the body; raises what is wrong with them.

        ``checksum_of_body`` is False where ``x-amz-checksum-*`` is that of an object to be made.
        """
        headers = call.request.headers
        self._call = call
        self._declared_hash = call.signature.payload_hash if call.signature else headers.get("x-amz-content-sha256")
        self._framed = self._declared_hash in _FRAMED
        self._size = self._declared_size(most_bytes)
        self._expected: dict[str, bytes] = {}
        self._trailer: str | None = None
        self.algorithm = self._read_checksum() if checksum_of_body else None
        self._md5 = _read_digest("content-md5", headers.get("content-md5"), 16, "InvalidDigest")
        self._sha256 = self._read_hash()
        wanted = {self.algorithm: True, "md5": self._md5 is not None, "sha256": self._sha256 is not None}
        self.digests = frozenset(name for name, asked in wanted.items() if name and asked)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Give the bytes without their framing; raises what is wrong with it."""
        given = 0
        async for piece in self._unframed() if self._framed else self._call.body.pieces():
            given += len(piece)
            if given > self._size:
                break
            yield piece
        if given != self._size:
            raise incomplete_body("You did not provide the number of bytes specified by the Content-Length HTTP header")

    def check(self, values: Digests) -> None:
        """Refuse a body that is not the one that was meant; raises BadDigest, XAmzContentSHA256Mismatch."""
        if self._sha256 is not None and values["sha256"] != self._sha256:
            raise wrong_body_hash(self._sha256.hex(), values["sha256"].hex())
        if self._md5 is not None and values["md5"] != self._md5:
            raise ClientFault("BadDigest", "The Content-MD5 you specified did not match what we received.")
        for algorithm, expected in self._expected.items():
            if values[algorithm] != expected:
                raise BadDigest(algorithm)

    async def document(self) -> bytes:
        """Give a small body whole and checked."""
        content = b"".join([piece async for piece in self.pieces()])
        self.check({name: digest_of(name, content) for name in self.digests})
        return content

    async def _unframed(self) -> AsyncIterator[bytes]:
        signature = self._call.signature
        if signature is None:
            raise invalid_request("A presigned URL of Signature Version 2 has no chunks")
        try:
            decoder = ChunkedDecoder(signature, self._call.caller.credential.secret_access_key)
            async for framed in _gathered(self._call.body.pieces()):
                for piece in await asyncio.to_thread(decoder.feed, framed):
                    yield piece
            self._take_trailers(dict(decoder.finish()))
        except MalformedChunks as fault:
            raise incomplete_body(str(fault)) from fault
        except ChunkSignatureMismatch as fault:
            raise signature_does_not_match() from fault

    def _take_trailers(self, trailers: dict[str, str]) -> None:
        if self._trailer is None:
            return
        value = trailers.get(_PREFIX + self._trailer)
        if value is None:
            raise ClientFault("MalformedTrailerError", "The request contained trailing data that was not well-formed.")
        self._expected[self._trailer] = _checksum_value(self._trailer, value)

    def _declared_size(self, most_bytes: int) -> int:
        headers = self._call.request.headers
        name = "x-amz-decoded-content-length" if self._framed else "content-length"
        text = headers.get(name)
        if text is None and not self._framed and "transfer-encoding" not in headers:
            return 0  # RFC 9112, 6.3: no length, no body
        if text is None:
            raise missing_length()
        if not text.isdecimal() or len(text) > 18:
            raise invalid_argument(f"{name} must be a number", name, text)
        if int(text) > most_bytes:
            raise too_large(int(text), most_bytes) if most_bytes == MOST_BYTES else malformed_xml()
        return int(text)

    def _read_checksum(self) -> str | None:
        headers = self._call.request.headers
        given = [name for name in ALGORITHMS if _PREFIX + name in headers]
        trailing = [name.strip().lower() for name in headers.get("x-amz-trailer", "").split(",") if name.strip()]
        for name in trailing:
            if name.removeprefix(_PREFIX) not in ALGORITHMS:
                raise not_implemented(f"the trailer {name}")
        if len(given) + len(trailing) > 1:
            raise invalid_request("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
        if trailing:
            if not self._framed:
                raise invalid_request("x-amz-trailer needs a body in chunks.")
            self._trailer = trailing[0].removeprefix(_PREFIX)
            return self._trailer
        if given:
            self._expected[given[0]] = _checksum_value(given[0], headers[_PREFIX + given[0]])
            return given[0]
        return read_algorithm(headers.get("x-amz-sdk-checksum-algorithm"))

    def _read_hash(self) -> bytes | None:
        declared = self._declared_hash
        if declared is None or declared == UNSIGNED_PAYLOAD or self._framed:
            return None
        try:
            value = bytes.fromhex(declared)
        except ValueError:
            value = b""
        if len(value) != 32:
            raise invalid_argument(
                "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, or a valid "
                "sha256 value.",
                "x-amz-content-sha256",
                declared,
            )
        return value


def read_algorithm(name: str | None) -> str | None:
    """Read the name of a checksum algorithm; raises InvalidRequest."""
    if name is None:
        return None
    if name.lower() not in ALGORITHMS:
        raise invalid_request(
            "Checksum algorithm provided is unsupported. Please try again with any of the valid types: "
            "[CRC32, CRC32C, CRC64NVME, SHA1, SHA256]"
        )
    return name.lower()


async def _gathered(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    pending = bytearray()
    async for piece in pieces:
        pending += piece
        if len(pending) >= _DECODE_BYTES:
            yield bytes(pending)
            pending.clear()
    if pending:
        yield bytes(pending)


def _checksum_value(algorithm: str, text: str) -> bytes:
    name = _PREFIX + algorithm
    value = _read_digest(name, text, len(digest_of(algorithm, b"")), "InvalidRequest")
    return value or b""


def _read_digest(name: str, text: str | None, size: int, code: str) -> bytes | None:
    if text is None:
        return None
    try:
        value = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        value = b""
    if len(value) == size:
        return value
    if code == "InvalidDigest":
        raise ClientFault(code, "The Content-MD5 you specified was invalid.", members={"Content-MD5": text})
    raise invalid_request(f"Value for {name} header is invalid.")
