"""The reader against h11, at length: what we let through h11 lets through, and reads alike; however the bytes come."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.parsing import disagreement, read, read_by_h11

POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
SECOND = b"GET /second HTTP/1.1\r\nHost: a\r\n\r\n"

REFUSED = {
    # Which framing?
    "coding named twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "chunked twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked, chunked": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked, identity": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "identity": POST + b"Transfer-Encoding: identity\r\nContent-Length: 1\r\n\r\na",
    "nearly chunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked with a parameter": POST + b"Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
    "chunked in quotes": POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "chunked behind a vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "chunked behind NUL": POST + b"Transfer-Encoding: \x00chunked\r\n\r\n0\r\n\r\n",
    "empty coding": POST + b"Transfer-Encoding:\r\nContent-Length: 1\r\n\r\na",
    "coding with a space before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "coding with a tab before the colon": POST + b"Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
    "coding on a folded line": POST + b"X: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "folded coding": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "space before the first header": b"POST / HTTP/1.1\r\n Host: a\r\n\r\n",
    "length and coding": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding of HTTP/1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    # How long?
    "two lengths": POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "two equal lengths": POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
    "list of lengths": POST + b"Content-Length: 1, 1\r\n\r\na",
    "empty length": POST + b"Content-Length:\r\n\r\n",
    "blank length": POST + b"Content-Length: \t \r\n\r\n",
    "hexadecimal length": POST + b"Content-Length: 0x1\r\n\r\na",
    "signed length": POST + b"Content-Length: +1\r\n\r\na",
    "negative length": POST + b"Content-Length: -1\r\n\r\na",
    "length with a space in it": POST + b"Content-Length: 1 1\r\n\r\n12345678901",
    "length in other digits": POST + "Content-Length: ٣\r\n\r\nabc".encode(),
    "length of 2**64": POST + b"Content-Length: 18446744073709551616\r\n\r\n",
    "length of a thousand digits": POST + b"Content-Length: " + b"9" * 1000 + b"\r\n\r\n",
    # Chunks
    "negative chunk": CHUNKED + b"-1\r\na\r\n0\r\n\r\n",
    "signed chunk": CHUNKED + b"+1\r\na\r\n0\r\n\r\n",
    "chunk in C's notation": CHUNKED + b"0x1\r\na\r\n0\r\n\r\n",
    "space before the size": CHUNKED + b" 1\r\na\r\n0\r\n\r\n",
    "no size": CHUNKED + b"\r\na\r\n0\r\n\r\n",
    "size of 2**64 and one": CHUNKED + b"10000000000000001\r\na\r\n0\r\n\r\n",
    "chunk longer than its size": CHUNKED + b"1\r\nab\r\n0\r\n\r\n",
    "no line end behind a chunk": CHUNKED + b"1\r\na0\r\n\r\n",
    "bare LF behind a size": CHUNKED + b"1\na\r\n0\r\n\r\n",
    "bare LF behind a chunk": CHUNKED + b"1\r\na\n0\r\n\r\n",
    "bare LF in an extension": CHUNKED + b"1;x\n\r\na\r\n0\r\n\r\n",
    "bare CR in an extension": CHUNKED + b"1;x\ra\r\na\r\n0\r\n\r\n",
    "NUL in an extension": CHUNKED + b"1;\x00\r\na\r\n0\r\n\r\n",
    "bare LF at the end of all chunks": CHUNKED + b"0\n\n",
    "trailer without a colon": CHUNKED + b"0\r\nnonsense\r\n\r\n",
    "trailer about the length": CHUNKED + b"0\r\nContent-Length: 5\r\n\r\n",
    "trailer about the coding": CHUNKED + b"0\r\nTransfer-Encoding: x\r\n\r\n",
    "trailer on a folded line": CHUNKED + b"0\r\nA: b\r\n c\r\n\r\n",
    # Lines
    "bare LF": b"GET / HTTP/1.1\nHost: a\n\n",
    "bare LF after the request line": b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    "bare LF after a header": b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
    "bare LF at the end": b"GET / HTTP/1.1\r\nHost: a\r\n\n",
    "bare CR in the request line": b"GET /\r HTTP/1.1\r\nHost: a\r\n\r\n",
    "bare CR in a value": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rY: b\r\n\r\n",
    "bare CR at the end": b"GET / HTTP/1.1\r\nHost: a\r\n\rGET / HTTP/1.1\r\n\r\n",
    "NUL in a value": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
    "NUL in a name": b"GET / HTTP/1.1\r\nHost: a\r\nX\x00: a\r\n\r\n",
    "NUL in the target": b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
    "DEL in the target": b"GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n",
    "space in the target": b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    "tabs in the request line": b"GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n",
    "two spaces in the request line": b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    "space behind the version": b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
    "space before the method": b" GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "header without a colon": b"GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n",
    "header without a name": b"GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n",
    "header with a space in its name": b"GET / HTTP/1.1\r\nHost: a\r\nX Y: z\r\n\r\n",
    "header with brackets in its name": b"GET / HTTP/1.1\r\nHost: a\r\nX(Y): z\r\n\r\n",
    "header with a letter of another script": b"GET / HTTP/1.1\r\nHost: a\r\n\xc3\xa9: z\r\n\r\n",
    # For whom?
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "two equal hosts": b"GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n",
    "absolute target": b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "authority as target": b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "asterisk as target": b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT": b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT with a path": b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n",
    # Which protocol?
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/2.0": b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
    "HTTP/1.10": b"GET / HTTP/1.10\r\nHost: a\r\n\r\n",
    "HTTP/01.1": b"GET / HTTP/01.1\r\nHost: a\r\n\r\n",
    "http/1.1": b"GET / http/1.1\r\nHost: a\r\n\r\n",
    "ICY": b"SOURCE / ICE/1.0\r\nHost: a\r\n\r\n",
    "RTSP": b"DESCRIBE / RTSP/1.0\r\nHost: a\r\n\r\n",
    "RTSP with a method of HTTP": b"POST / RTSP/1.0\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "RTSP of another version": b"GET / RTSP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/2 with prior knowledge": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "upgrade to HTTP/2": SECOND[:-2]
    + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: A\r\n\r\n",
    "upgrade to a WebSocket": SECOND[:-2] + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(64),
    "small letters in the method": b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
    "unknown method": b"SMUGGLE / HTTP/1.1\r\nHost: a\r\n\r\n",
}

ACCEPTED = {
    "chunked in capitals": POST + b"TRANSFER-ENCODING:\tCHUNKED \r\n\r\n1\r\na\r\n0\r\n\r\n",
    "length with zeros in front": POST + b"Content-Length: 0001\r\n\r\na",
    "size with zeros in front": CHUNKED + b"0001\r\na\r\n000\r\n\r\n",
    "size in both cases": CHUNKED + b"aA\r\n" + b"x" * 170 + b"\r\n0\r\n\r\n",
    "extensions": CHUNKED + b'1;a=b;c="d e"\r\na\r\n0;last\r\n\r\n',
    "trailers": CHUNKED + b"0\r\nDigest: x\r\nHost: b\r\n\r\n",
    "body of GET": b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    "empty lines before": b"\r\n\r\n" + SECOND,
    "value of any byte": b"GET / HTTP/1.1\r\nHost: a\r\nX: " + bytes(range(0x80, 0x100)) + b"\t\x21\r\n\r\n",
    "every letter of a name": b"GET / HTTP/1.1\r\nHost: a\r\n!#$%&'*+-.^_`|~09azAZ: x\r\n\r\n",
    "old client": b"POST / HTTP/1.0\r\nContent-Length: 1\r\n\r\na",
    "old client that stays": b"POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na",
    "last request": b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "many requests": b"".join(
        b"PUT /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na"
        b"PUT /%d/chunked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nb\r\n0\r\n\r\n"
        b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % (number, number, number)
        for number in range(3)
    ),
    "expectation": POST + b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\na",
    "empty host": b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
}


@pytest.mark.parametrize("raw", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_clear_is_refused(raw: bytes) -> None:
    found = read(raw + SECOND)
    assert (found.requests, found.refused) == ((), True)


def test_a_size_with_more_zeros_than_h11_likes_is_still_clear() -> None:
    raw = CHUNKED + b"0" * 30 + b"1\r\na\r\n0\r\n\r\n"
    assert read_by_h11(raw).refused
    assert [request.body for request in read(raw + SECOND).requests] == [b"a", b""]


@pytest.mark.parametrize("raw", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_what_is_clear_is_read_as_h11_reads_it(raw: bytes) -> None:
    ours = read(raw)
    assert ours.requests
    assert not ours.refused
    assert ours.requests == read_by_h11(raw).requests


EVERYTHING = {**REFUSED, **ACCEPTED}


@pytest.mark.parametrize("raw", EVERYTHING.values(), ids=EVERYTHING.keys())
def test_every_split_reads_the_same(raw: bytes) -> None:
    whole = read(raw + SECOND)
    cuts = {read(raw[:cut], raw[cut:] + SECOND) for cut in range(1, len(raw))}
    assert cuts | {read(*(bytes([byte]) for byte in raw + SECOND))} == {whole}


TELLING = [b"\r\n", b"\n", b"\r", b" ", b"\t", b"\x00", b"\x0b", b":", b";", b",", b"0", b"1", b"a", b"-", b"+",
           b"\xff", b"\r\n\r\n", b"Content-Length: 1\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: b\r\n",
           b"HTTP/1.1", b"X: y\r\n", b"chunked", b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n", b"Connection: close\r\n",
           b"Upgrade: h2c\r\n"]  # fmt: skip
POSITION = st.integers(0, 10_000)
MUTATION = st.tuples(st.sampled_from(["insert", "remove", "replace", "double"]), POSITION, st.sampled_from(TELLING))


@st.composite
def hostile(draw: st.DrawFn) -> bytes:
    """Give bytes that are nearly requests."""
    raw = draw(st.sampled_from(list(EVERYTHING.values()))) + draw(st.sampled_from([b"", SECOND]))
    for kind, number, piece in draw(st.lists(MUTATION, min_size=1, max_size=4)):
        place = number % (len(raw) + 1)
        end = min(len(raw), place + len(piece))
        match kind:
            case "insert":
                raw = raw[:place] + piece + raw[place:]
            case "remove":
                raw = raw[:place] + raw[end:]
            case "replace":
                raw = raw[:place] + piece + raw[end:]
            case _:
                lines = raw.split(b"\r\n")
                line = number % len(lines)
                raw = b"\r\n".join([*lines[: line + 1], *lines[line:]])
    return raw


@settings(max_examples=1000, deadline=None)
@given(hostile())
def test_nothing_gets_through_that_h11_refuses_or_reads_otherwise(raw: bytes) -> None:
    assert disagreement(raw) == ""


@settings(max_examples=300, deadline=None)
@given(hostile(), st.sets(POSITION, max_size=6))
def test_mutations_read_the_same_however_they_are_split(raw: bytes, places: set[int]) -> None:
    cuts = [0, *sorted(place % (len(raw) + 1) for place in places), len(raw)]
    parts = [raw[start:end] for start, end in itertools.pairwise(cuts)]
    assert read(*(part for part in parts if part)) == read(raw)
