"""The reader against h11: what both accept they must read alike; what only one accepts is in the table below."""

import contextlib
from typing import Any

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.gateway.requests import HEAD_BYTES, BadRequest, RequestHead, RequestReader


class Sink:
    def __init__(self) -> None:
        self.requests: list[tuple[RequestHead, bytes]] = []
        self.ended = 0

    def head_received(self, head: RequestHead) -> None:
        self.requests.append((head, b""))

    def body_received(self, data: bytes) -> None:
        head, body = self.requests[-1]
        self.requests[-1] = (head, body + data)

    def request_ended(self) -> None:
        self.ended += 1


def read(*parts: bytes) -> Sink:
    sink = Sink()
    reader = RequestReader(sink)
    for part in parts:
        reader.feed(part)
    return sink


def read_by_h11(raw: bytes) -> tuple[str, str, list[tuple[str, str]], bytes] | None:
    """Read one request with the oracle; None when it refuses."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
    connection.receive_data(raw)
    body = b""
    try:
        request: Any = connection.next_event()
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if not isinstance(event, h11.Data):
                return None
            body += bytes(event.data)
    except h11.RemoteProtocolError:
        return None
    if not isinstance(request, h11.Request):
        return None
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers]
    return request.method.decode(), request.target.decode("latin-1"), headers, body


BOTH_ACCEPT = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /a%2Fb?c=d&e HTTP/1.1\r\nHOST: a\r\nX-Two:  b  c \r\nContent-Length: 3\r\n\r\nabc",
    b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x\r\nc\r\n0\r\nT: t\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: \xe9\r\nEmpty:\r\n\r\n",
    b"HEAD /b/k HTTP/1.1\r\nHost:\r\n\r\n",
]

BOTH_REFUSE = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1_0\r\n\r\n0123456789",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00\r\n\r\n",
    b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n ",
]

ONLY_WE_REFUSE = [
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET / HTTP/1.1\nHost: a\n\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
    b"GET http://other/ HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
]


@pytest.mark.parametrize("raw", BOTH_ACCEPT)
def test_request_is_read_as_h11_reads_it(raw: bytes) -> None:
    sink = read(raw)
    head, body = sink.requests[0]
    assert (head.method, head.target, [(n, v.strip()) for n, v in head.headers], body) == read_by_h11(raw)
    assert sink.ended == 1


@pytest.mark.parametrize("raw", BOTH_REFUSE)
def test_request_that_h11_refuses_is_refused(raw: bytes) -> None:
    assert read_by_h11(raw) is None
    with pytest.raises(BadRequest):
        read(raw)


@pytest.mark.parametrize("raw", ONLY_WE_REFUSE)
def test_request_that_h11_reads_in_one_of_two_ways_is_refused(raw: bytes) -> None:
    assert read_by_h11(raw) is not None
    with pytest.raises(BadRequest):
        read(raw)


@pytest.mark.parametrize("raw", BOTH_ACCEPT)
def test_every_split_of_the_bytes_reads_the_same(raw: bytes) -> None:
    whole = read(raw).requests
    for cut in range(1, len(raw)):
        split = read(raw[:cut], raw[cut:])
        assert [(h.target, h.headers, b) for h, b in split.requests] == [(h.target, h.headers, b) for h, b in whole]
        assert split.ended == 1


PIECES = [b"GET ", b"/", b" HTTP/1.1", b"\r\n", b"\n", b"Host: a", b"Content-Length: ", b"1", b"Transfer-Encoding: ",
          b"chunked", b":", b" ", b"\t", b"X", b"\x00", b"\x80", b"0\r\n\r\n", b"a", b";", b",", b"POST "]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=25).map(b"".join))
def test_nothing_is_accepted_that_h11_refuses(raw: bytes) -> None:
    try:
        sink = read(raw)
    except BadRequest:
        return
    if sink.ended:
        theirs = read_by_h11(raw)
        assert theirs is not None
        head, body = sink.requests[0]
        assert (head.method, head.target, body) == (theirs[0], theirs[1], theirs[3])


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    with contextlib.suppress(BadRequest):
        read(raw)


def test_pipelined_requests_are_all_read() -> None:
    sink = read(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx" * 3)
    assert [(head.target, body) for head, body in sink.requests] == [("/1", b""), ("/2", b"x")] * 3
    assert sink.ended == 6


def test_nothing_is_read_behind_the_last_request() -> None:
    sink = read(b"GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", b"\x00")
    assert [head.target for head, _ in sink.requests] == ["/1"]
    assert not sink.requests[0][0].keep_alive


def test_head_may_be_large_but_not_too_large() -> None:
    fits = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * (HEAD_BYTES - 100) + b"\r\n\r\n"
    assert read(fits).ended == 1
    with pytest.raises(BadRequest, match="too large"):
        read(fits[:-4] + b"x" * 200 + b"\r\n\r\n")
    with pytest.raises(BadRequest, match="too large"):
        read(*[b"GET / HTTP/1.1\r\nHost: a\r\nX: ", *[b"x" * 1000] * 70])


def test_large_body_in_many_pieces_is_no_flood() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"
    assert len(read(head, *[b"x" * 1000] * 1000).requests[0][1]) == 1_000_000


def test_fields_give_the_first_of_a_repeated_header() -> None:
    head, _ = read(b"GET /p?q=1 HTTP/1.1\r\nHost: a\r\nX: 1\r\nX: 2\r\n\r\n").requests[0]
    assert (head.fields["x"], head.path, head.query) == ("1", "/p", "q=1")
