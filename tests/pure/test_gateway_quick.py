"""The quick reader against the reader that is the law: what it reads, that one must read alike."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.gateway.quick import QuickReader
from moorage.gateway.requests import BadRequest, RequestHead, RequestReader

BOTO3 = (
    b"POST /endpoints/ep/invocations HTTP/1.1\r\nHost: 127.0.0.1:8410\r\nAccept-Encoding: identity\r\n"
    b"Content-Type: text/csv\r\nUser-Agent: Boto3/1.44.5 md/x (y; z)\r\nX-Amz-Date: 20261125T170000Z\r\n"
    b"Authorization: AWS4-HMAC-SHA256 Credential=A/20261125/us-east-1/sagemaker/aws4_request, "
    b"SignedHeaders=content-type;host;x-amz-date, Signature=" + b"a" * 64 + b"\r\n"
    b"amz-sdk-request: attempt=1\r\nContent-Length: 5\r\n\r\n1,2,3"
)


class Sink:
    def __init__(self) -> None:
        self.heads: list[RequestHead] = []
        self.body = b""
        self.ended = 0

    def head_received(self, head: RequestHead) -> None:
        self.heads.append(head)

    def body_received(self, data: bytes) -> None:
        self.body += data

    def request_ended(self) -> None:
        self.ended += 1


def read_fully(raw: bytes) -> tuple[RequestHead, bytes] | None:
    """Read exactly one complete request the long way."""
    sink = Sink()
    try:
        RequestReader(sink).feed(raw)
    except BadRequest:
        return None
    return (sink.heads[0], sink.body) if (len(sink.heads), sink.ended) == (1, 1) else None


def taught(*requests: bytes) -> QuickReader:
    quick = QuickReader()
    for raw in requests:
        read = read_fully(raw)
        assert read is not None
        quick.learn(read[0])
    return quick


def parts(head: RequestHead) -> tuple[object, ...]:
    return (
        head.method,
        head.target,
        head.path,
        head.query,
        head.version,
        head.keep_alive,
        head.content_length,
        head.chunked,
        head.expects_continue,
        list(head.headers),
        head.fields,
    )


def assert_read_alike(quick: QuickReader, raw: bytes) -> bool:
    """Check that what is read quickly is read alike fully; says whether it was read quickly."""
    read = quick.read(raw)
    if read is None:
        return False
    law = read_fully(raw)
    assert law is not None
    assert parts(read[0]) == parts(law[0])
    assert read[1] == law[1]
    return True


def test_a_request_of_a_known_form_is_read_quickly_and_alike() -> None:
    quick = taught(BOTO3)
    assert assert_read_alike(quick, BOTO3)
    assert assert_read_alike(quick, BOTO3.replace(b"1,2,3", b"\r\n\r\n\0"))
    assert assert_read_alike(quick, BOTO3.replace(b"/ep/", b"/other/"))


def test_nothing_is_read_before_a_form_is_known() -> None:
    assert QuickReader().read(BOTO3) is None


HOST = b"Host: 127.0.0.1:8410\r\n"

UNUSUAL = {
    "in two pieces": BOTO3[:-1],
    "with another behind it": BOTO3 + b"POST",
    "another order of headers": BOTO3.replace(HOST, b"").replace(b"Content-Type", HOST + b"Content-Type"),
    "a header more": BOTO3.replace(b"Host:", b"X: y\r\nHost:"),
    "a header twice": BOTO3.replace(b"Host:", b"Host: a\r\nHost:"),
    "a bare line feed": BOTO3.replace(b"identity\r\n", b"identity\n"),
    "a folded header": BOTO3.replace(b"identity", b"identity\r\n x"),
    "a NUL": BOTO3.replace(b"identity", b"iden\0tity"),
    "a tab": BOTO3.replace(b"identity", b"iden\ttity"),
    "space before the colon": BOTO3.replace(b"Host:", b"Host :"),
    "space behind the value": BOTO3.replace(b"identity", b"identity "),
    "two spaces before the value": BOTO3.replace(b": identity", b":  identity"),
    "an empty value": BOTO3.replace(b" identity", b""),
    "a byte above ASCII": BOTO3.replace(b"identity", b"identit\xe9"),
    "a length with a sign": BOTO3.replace(b"Length: 5", b"Length: +5"),
    "HTTP/1.0": BOTO3.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "another method": BOTO3.replace(b"POST", b"PUT"),
    "a query": BOTO3.replace(b"/invocations ", b"/invocations?a=b "),
    "another operation": BOTO3.replace(b"/invocations ", b"/async-invocations2 "),
    "an absolute target": BOTO3.replace(b" /endpoints", b" http://a/endpoints"),
}  # fmt: skip


@pytest.mark.parametrize("raw", UNUSUAL.values(), ids=UNUSUAL.keys())
def test_what_is_unusual_goes_the_long_way(raw: bytes) -> None:
    assert taught(BOTO3).read(raw) is None


@pytest.mark.parametrize(
    "header",
    [
        b"Transfer-Encoding: chunked",
        b"Expect: 100-continue",
        b"Connection: close",
        b"Upgrade: h2c",
    ],
)
def test_a_form_with_a_header_about_the_connection_is_not_learned(header: bytes) -> None:
    quick = QuickReader()
    head, _ = read_fully(BOTO3) or (None, None)
    assert head is not None
    name, _, value = header.partition(b": ")
    head.raw_headers = [*head.raw_headers, (name, value)]
    quick.learn(head)
    assert repr(quick) == "<QuickReader: 0 forms>"


def test_the_forms_that_are_used_stay() -> None:
    others = [BOTO3.replace(b"Host:", b"X-%d: y\r\nHost:" % number) for number in range(40)]
    quick = taught(BOTO3)
    for other in others:
        read = read_fully(other)
        assert read is not None
        quick.learn(read[0])
        assert quick.read(BOTO3) is not None
    assert repr(quick) == "<QuickReader: 16 forms>"
    assert assert_read_alike(quick, others[-1])


PIECES = [b"\r", b"\n", b"\r\n", b":", b" ", b"\t", b"\0", b"\x7f", b"a", b"5", b"\xe9", b"%", b""]


@given(st.data())
def test_a_changed_request_is_read_alike_or_not_at_all(data: st.DataObject) -> None:
    quick = taught(BOTO3)
    raw = bytearray(BOTO3)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(raw) - 1))
        end = place + data.draw(st.integers(0, 2))
        raw[place:end] = data.draw(st.sampled_from(PIECES))
    assert_read_alike(quick, bytes(raw))
