"""Our reader of requests and h11, the oracle, behind one face."""

from typing import Any, NamedTuple

import h11

from moorage.gateway.requests import BadRequest, RequestHead, RequestReader


class Request(NamedTuple):
    """A whole request, as a reader has understood it."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Reading(NamedTuple):
    """What a reader has made of some bytes."""

    requests: tuple[Request, ...]
    """Those that are complete, in order."""
    refused: bool
    """Whether what came then was refused."""
    closes: bool
    """Whether nothing may come after the last of them."""


class Sink:
    """Takes what our reader reads."""

    def __init__(self) -> None:
        self.heads: list[RequestHead] = []
        self.bodies: list[bytes] = []
        self.ended = 0

    def head_received(self, head: RequestHead) -> None:
        self.heads.append(head)
        self.bodies.append(b"")

    def body_received(self, data: bytes) -> None:
        self.bodies[-1] += data

    def request_ended(self) -> None:
        self.ended += 1


def read(*parts: bytes) -> Reading:
    """Read with our reader."""
    sink, refused = Sink(), False
    reader = RequestReader(sink)
    try:
        for part in parts:
            reader.feed(part)
    except BadRequest:
        refused = True
    whole = list(zip(sink.heads, sink.bodies, strict=True))[: sink.ended]
    requests = tuple(
        Request(head.method, head.target, tuple(_plain(name, value) for name, value in head.headers), body)
        for head, body in whole
    )
    return Reading(requests, refused, bool(whole) and not whole[-1][0].keep_alive)


def _plain(name: str, value: str) -> tuple[str, str]:
    """Write a header as h11 gives it."""
    value = value.strip(" \t")
    return name, value.lower() if name == "transfer-encoding" else value


def read_by_h11(raw: bytes) -> Reading:
    """Read with h11, which answers each request at once.

    It has no patience with empty lines before a request, which a server should pass over (RFC 9112, section 2.2).
    """
    requests: list[Request] = []
    while raw := raw.lstrip(b"\r\n"):
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=10**6)
        connection.receive_data(raw)
        try:
            request = connection.next_event()
            body = _body(connection) if isinstance(request, h11.Request) else None
        except h11.RemoteProtocolError:
            return Reading(tuple(requests), refused=True, closes=False)
        if body is None:
            break
        requests.append(_request(request, body))
        connection.send(h11.Response(status_code=404, headers=[("content-length", "0")]))
        connection.send(h11.EndOfMessage())
        if connection.our_state is not h11.DONE:
            return Reading(tuple(requests), refused=False, closes=True)
        raw = connection.trailing_data[0]
    return Reading(tuple(requests), refused=False, closes=False)


def _body(connection: h11.Connection) -> bytes | None:
    """Read a body to its end; None when there is no end."""
    body = b""
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        if not isinstance(event, h11.Data):
            return None
        body += bytes(event.data)
    return body


def _request(request: Any, body: bytes) -> Request:
    headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers)
    return Request(request.method.decode("latin-1"), request.target.decode("latin-1"), headers, body)


def disagreement(raw: bytes) -> str:
    """Say where our reader has let through what h11 refuses or reads differently; empty: nowhere."""
    ours, theirs = read(raw), read_by_h11(raw)
    for number, request in enumerate(ours.requests):
        if number < len(theirs.requests):
            if request != theirs.requests[number]:
                return f"request {number}: we read {request}, h11 {theirs.requests[number]}"
        elif not theirs.closes:
            return f"request {number}: we read {request}, h11 {'refuses' if theirs.refused else 'waits for more'}"
    return ""
