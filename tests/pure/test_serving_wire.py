"""Requests out of bytes, in whatever pieces they come."""

import dataclasses

import pytest

from moorage.serving.wire import Answer, Refused, Request, RequestReader, bytes_of, head_of

LENGTH = b"POST /invocations?a=b HTTP/1.1\r\nHost: x\r\nAccept: a\r\naccept: b\r\nContent-Length: 5\r\n\r\nhello"
CHUNKS = (
    b"POST /invocations HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nX-Trailer: 1\r\n\r\n"
)
PING = b"GET /ping HTTP/1.1\r\n\r\n"


def _read(pieces: list[bytes]) -> list[Request]:
    reader = RequestReader()
    found = []
    for piece in pieces:
        reader.feed(piece)
        while (request := reader.next()) is not None:
            found.append(request)
    assert reader.idle
    return found


@pytest.mark.parametrize("text", [LENGTH, CHUNKS])
def test_a_request_is_the_same_wherever_the_bytes_are_cut(text: bytes) -> None:
    whole = _read([text + PING])
    assert [(request.path, request.body) for request in whole] == [("/invocations", b"hello"), ("/ping", b"")]
    for cut in range(1, len(text + PING)):
        assert _read([(text + PING)[:cut], (text + PING)[cut:]]) == whole
    assert _read([bytes([byte]) for byte in text + PING]) == whole


def test_repeated_headers_are_joined_and_names_lower() -> None:
    assert _read([LENGTH])[0].headers == {"host": "x", "accept": "a, b", "content-length": "5"}


@pytest.mark.parametrize(
    ("version_and_header", "kept"),
    [
        (b"HTTP/1.1\r\n", True),
        (b"HTTP/1.1\r\nConnection: close\r\n", False),
        (b"HTTP/1.0\r\n", False),
        (b"HTTP/1.0\r\nConnection: Keep-Alive\r\n", True),
    ],
)
def test_the_connection_is_kept_as_the_version_and_the_client_say(version_and_header: bytes, *, kept: bool) -> None:
    assert _read([b"GET /ping " + version_and_header + b"\r\n"])[0].keep_alive is kept


@pytest.mark.parametrize(
    "text",
    [
        b"GET /ping\r\n\r\n",
        b"GET ping HTTP/1.1\r\n\r\n",
        b"GET /ping HTTP/2.0\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nA: 1\r\n folded\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nA : 1\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nA: 1\nB: 2\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        b"GET /ping HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"GET /ping HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc",
        b"GET /ping HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
        b"GET /ping HTTP/1.1\r\nA: " + b"a" * 70_000,
    ],
)
def test_what_is_ambiguous_or_malformed_is_refused(text: bytes) -> None:
    with pytest.raises(Refused):
        _read([text])


def test_continue_is_wanted_only_while_the_body_is_missing() -> None:
    head = b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"
    waiting, sent = RequestReader(), RequestReader()
    waiting.feed(head)
    sent.feed(head + b"x")
    assert (waiting.next(), waiting.wants_continue) == (None, True)
    assert (sent.next() is not None, sent.wants_continue) == (True, False)


def test_an_answer_without_a_body_by_its_status_has_no_length() -> None:
    assert head_of(Answer(204, "", b""), keep_alive=False) == b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"


def test_a_head_is_the_same_the_first_time_and_later() -> None:
    texts = [_read([LENGTH, CHUNKS, LENGTH.replace(b"hello", b"world"), PING]) for _ in range(2)]
    assert texts[0] == texts[1]
    assert [request.body for request in texts[0]] == [b"hello", b"hello", b"world", b""]


@pytest.mark.parametrize("content_type", ["text/csv", "a\nContent-Length: 7", "x Content-Length: 7", ""])
def test_head_of_an_answer_says_its_type_and_length(content_type: str) -> None:
    named = f"Content-Type: {content_type}\r\n" if content_type else ""
    for body in (b"", b"four"):
        expected = f"HTTP/1.1 200 OK\r\n{named}Content-Length: {len(body)}\r\n\r\n".encode()
        assert head_of(Answer(200, content_type, body), keep_alive=True) == expected
    assert (
        head_of(Answer(204, content_type, b""), keep_alive=True) == f"HTTP/1.1 204 No Content\r\n{named}\r\n".encode()
    )


@pytest.mark.parametrize(
    "text",
    [
        LENGTH,
        CHUNKS,
        PING,
        b"POST /invocations HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
        b"POST /invocations?a=b%20c HTTP/1.1\r\nX: \xe9\r\nConnection: close\r\n\r\n",
    ],
)
def test_bytes_of_a_request_are_read_as_that_request(text: bytes) -> None:
    (request,) = _read([text])
    (again,) = _read([bytes_of(request)])
    of_the_framing = {"content-length": str(len(request.body))}
    kept = {name: value for name, value in request.headers.items() if name not in {"transfer-encoding", "expect"}}
    assert dataclasses.replace(again, headers={}) == dataclasses.replace(request, headers={})
    assert again.headers == {**kept, **of_the_framing}
