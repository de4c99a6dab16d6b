"""Playbooks of the exchange: bytes in, the complete list of what the sink was told out."""

import pytest

from moorage.gateway.exchange import AnswerHead, Break, Exchange, Heads, State


class Sink:
    def __init__(self) -> None:
        self.told: list[object] = []

    def interim_received(self, head: AnswerHead) -> None:
        self.told.append(("interim", head.status))

    def answer_received(self, head: AnswerHead) -> None:
        self.told.append((head.status, head.content_length, head.has_body))

    def answer_body_received(self, data: bytes) -> None:
        if self.told and isinstance(self.told[-1], bytes):
            data = self.told.pop() + data  # type: ignore[operator]
        self.told.append(data)

    def answer_ended(self) -> None:
        self.told.append("end")

    def answer_broken(self, how: Break) -> None:
        self.told.append(how)


def play(*parts: bytes, close: bool = False, head_only: bool = False) -> tuple[list[object], bool]:
    sink, exchange = Sink(), Exchange(Heads())
    exchange.begin(sink, head_only=head_only)
    for part in filter(None, parts):
        exchange.feed(part)
    if close:
        exchange.closed()
    return sink.told, exchange.reusable


OK3 = (200, 3, True)
OPEN = (200, None, True)

COMPLETE = [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", [OK3, b"abc", "end"], True),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", [(200, 0, True), "end"], True),
    (b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", [OK3, b"abc", "end"], False),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc", [OK3, b"abc", "end"], False),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: t\r\n\r\n",
     [OPEN, b"abc", "end"], True),
    (b"HTTP/1.1 204 No\r\n\r\n", [(204, None, False), "end"], True),
    (b"HTTP/1.1 304 No\r\nContent-Length: 7\r\n\r\n", [(304, 7, False), "end"], True),
    (b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 E\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
     [("interim", 100), ("interim", 103), OK3, b"abc", "end"], True),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "told", "reusable"), COMPLETE)
def test_complete_answer_is_told_however_its_bytes_are_split(raw: bytes, told: list[object], reusable: object) -> None:
    assert play(raw) == (told, reusable)
    assert play(*(bytes([byte]) for byte in raw)) == (told, reusable)
    for cut in range(1, len(raw)):
        assert play(raw[:cut], raw[cut:]) == (told, reusable)


@pytest.mark.parametrize(("raw", "told", "reusable"), COMPLETE)
def test_answer_cut_anywhere_is_broken_and_never_complete(raw: bytes, told: list[object], reusable: object) -> None:
    for cut in range(len(raw)):
        got, still = play(raw[:cut], close=True)
        assert isinstance(got[-1], Break)
        assert "end" not in got
        assert not still


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"", [Break.NO_ANSWER]),
        (b"H", [Break.IN_HEAD]),
        (b"HTTP/1.1 100 C\r\n\r\n", [("interim", 100), Break.IN_HEAD]),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", [OK3, Break.IN_BODY]),
        (b"HTTP/1.1 200 OK\r\n\r\nabc", [OPEN, b"abc", "end"]),
        (b"HTTP/1.1 200 OK\r\n\r\n", [OPEN, "end"]),
    ],
)
def test_end_of_stream_is_an_end_only_where_it_is_the_framing(raw: bytes, told: list[object]) -> None:
    assert play(raw, close=True) == (told, False)


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"nonsense", [Break.MALFORMED]),
        (b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", [Break.MALFORMED]),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", [Break.MALFORMED]),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", [Break.MALFORMED]),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000, [Break.MALFORMED]),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nq", [OPEN, Break.IN_BODY]),
    ],
)
def test_bytes_that_are_no_answer_break_it(raw: bytes, told: list[object]) -> None:
    assert play(raw) == (told, False)


def test_answer_to_head_ends_with_its_head() -> None:
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"
    assert play(raw, head_only=True) == ([(200, 3, False), "end"], True)
    assert play(raw + b"abc", head_only=True) == ([(200, 3, False), "end"], False)


def test_bytes_nobody_asked_for_spoil_the_connection() -> None:
    exchange = Exchange(Heads())
    exchange.feed(b"HTTP/1.1 408 Timeout\r\n\r\n")
    assert not exchange.reusable
    told, reusable = play(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc" * 2)
    assert (told, reusable) == ([OK3, b"abc", "end"], False)


def test_exchanges_follow_each_other() -> None:
    exchange = Exchange(Heads())
    for _ in range(3):
        sink = Sink()
        exchange.begin(sink)
        exchange.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")
        assert sink.told == [OK3, b"abc", "end"]
    assert repr(exchange) == "<Exchange: IDLE, reusable>"


def test_abandoned_exchange_tells_nothing_more() -> None:
    sink, exchange = Sink(), Exchange(Heads())
    exchange.begin(sink)
    exchange.abandon()
    exchange.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")
    exchange.closed()
    assert (sink.told, exchange.state) == ([], State.BROKEN)


def test_exchange_cannot_begin_twice() -> None:
    exchange = Exchange(Heads())
    exchange.begin(Sink())
    with pytest.raises(RuntimeError, match="WAITING"):
        exchange.begin(Sink())
