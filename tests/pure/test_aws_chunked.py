"""Bodies in aws-chunked come out whole, however they are cut; what was changed or cut short is refused."""

import io

import pytest
from botocore.httpchecksum import AwsChunkedWrapper, Crc32Checksum
from hypothesis import given, settings
from hypothesis import strategies as st

from moorage.aws import chunked
from moorage.aws.chunked import ChunkedDecoder, ChunkSignatureMismatch, MalformedChunks
from moorage.aws.sigv4 import Signature

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
EXAMPLE = b"a" * 66560
# The two examples of the S3 user guide ("Transferring payload in multiple chunks", without and with trailers).
SIGNED_BODY = (
    b"10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n"
    + EXAMPLE[:65536]
    + b"\r\n400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n"
    + EXAMPLE[65536:]
    + b"\r\n0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n"
)
SIGNED_TRAILER_BODY = (
    b"10000;chunk-signature=b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2\r\n"
    + EXAMPLE[:65536]
    + b"\r\n400;chunk-signature=1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7\r\n"
    + EXAMPLE[65536:]
    + b"\r\n0;chunk-signature=2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992\r\n"
    + b"x-amz-checksum-crc32c:sOO8/Q==\r\n"
    + b"x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n"
)


def decoder(payload_hash: str, seed: str = "") -> ChunkedDecoder:
    signature = Signature(
        access_key_id="AKIAIOSFODNN7EXAMPLE",
        date="20130524",
        region="us-east-1",
        service="s3",
        signed_headers=("host",),
        signature=seed,
        timestamp=0.0,
        expires_seconds=None,
        presigned=False,
        payload_hash=payload_hash,
        amz_date="20130524T000000Z",
    )
    return ChunkedDecoder(signature, SECRET)


def signed_decoder() -> ChunkedDecoder:
    return decoder(chunked.SIGNED, "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9")


def signed_trailer_decoder() -> ChunkedDecoder:
    return decoder(chunked.SIGNED_TRAILER, "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e")


def unsigned_decoder() -> ChunkedDecoder:
    return decoder(chunked.UNSIGNED_TRAILER)


def decode(decoder: ChunkedDecoder, body: bytes, piece: int = 1 << 20) -> bytes:
    return b"".join(part for at in range(0, len(body), piece) for part in decoder.feed(body[at : at + piece]))


@pytest.mark.parametrize("piece", [1000, 4096, 1 << 20])
def test_signed_chunks_of_aws_example_are_accepted(piece: int) -> None:
    signed = signed_decoder()
    assert decode(signed, SIGNED_BODY, piece) == EXAMPLE
    assert signed.finish() == {}
    assert signed.decoded_bytes == len(EXAMPLE)


def test_signed_trailers_of_aws_example_are_accepted() -> None:
    signed = signed_trailer_decoder()
    assert decode(signed, SIGNED_TRAILER_BODY, 777) == EXAMPLE
    assert signed.finish() == {"x-amz-checksum-crc32c": "sOO8/Q=="}


@settings(deadline=None)
@given(st.binary(max_size=400), st.integers(1, 60), st.integers(1, 60))
def test_what_botocore_sends_comes_out_however_it_is_cut(content: bytes, chunk: int, piece: int) -> None:
    wrapped = AwsChunkedWrapper(io.BytesIO(content), Crc32Checksum, "x-amz-checksum-crc32", chunk_size=chunk)
    unsigned = unsigned_decoder()
    assert decode(unsigned, wrapped.read(), piece) == content
    expected = Crc32Checksum().handle(content)
    assert unsigned.finish() == {"x-amz-checksum-crc32": expected}


def test_a_changed_chunk_is_refused() -> None:
    with pytest.raises(ChunkSignatureMismatch):
        decode(signed_decoder(), SIGNED_BODY.replace(b"aaaa\r\n", b"aaab\r\n", 1))


def test_a_changed_trailer_is_refused() -> None:
    with pytest.raises(ChunkSignatureMismatch):
        decode(signed_trailer_decoder(), SIGNED_TRAILER_BODY.replace(b"sOO8", b"sOO9"))


def test_signed_trailers_without_their_signature_are_refused() -> None:
    cut = SIGNED_TRAILER_BODY[: SIGNED_TRAILER_BODY.index(b"x-amz-trailer-signature")] + b"\r\n"
    signed = signed_trailer_decoder()
    decode(signed, cut)
    with pytest.raises(MalformedChunks):
        signed.finish()


@settings(deadline=None)
@given(st.data())
def test_a_body_that_ends_early_is_refused(data: st.DataObject) -> None:
    body = b"5\r\nhello\r\n3\r\nyou\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"
    unsigned = unsigned_decoder()
    decode(unsigned, body[: data.draw(st.integers(0, len(body) - 1))])
    with pytest.raises(MalformedChunks):
        unsigned.finish()


@pytest.mark.parametrize(
    "body",
    [
        b"hello\r\n",
        b"-5\r\nhello\r\n",
        b"5;chunk-signature=" + b"0" * 64 + b"\r\nhello\r\n",
        b"4\r\nhello\r\n",
        b"0\r\nno trailer\r\n\r\n",
        b"0\r\n\r\nmore\r\n",
        b"0\r\na:1\r\na:2\r\n\r\n",
        b"f" * 5000,
        b"f" * 16 + b"\r\n",
        b"0\r\n" + b"".join(b"x%d:1\r\n" % number for number in range(40)),
    ],
)
def test_a_malformed_body_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedChunks):
        decode(unsigned_decoder(), body)


def test_a_signed_body_needs_signatures() -> None:
    with pytest.raises(MalformedChunks):
        decode(signed_decoder(), b"5\r\nhello\r\n")


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(MalformedChunks):
        decoder("STREAMING-SOMETHING")
