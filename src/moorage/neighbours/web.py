"""Requests and answers of the neighbours over ASGI, with a deadline for each wait."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from moorage.aws.sigv4 import HttpRequest
from moorage.base.tasks import Tasks

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

RECEIVE_SECONDS = 60.0
"""How long a client may send nothing in the middle of a body."""

SEND_SECONDS = 300.0
"""How long a client may read nothing of an answer."""


class ClientGone(ConnectionError):
    """The client closed the connection before its request was complete."""


class ClientTooSlow(TimeoutError):
    """The client stopped sending in the middle of its request."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer whose body may stream."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | AsyncIterator[bytes] = b""
    length: int | None = None
    """Of a body that streams, or of the one that a HEAD request does not get."""
    close: Callable[[], Awaitable[None]] | None = None
    """Called when the answer has been sent or given up."""


class Body:
    """The bytes of a request, as they come."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._ended = False
        self.begun = False
        """Whether anybody has asked for them; a client that expects a 100 sends none before."""

    async def pieces(self) -> AsyncIterator[bytes]:
        """Give the bytes; raises ClientGone or ClientTooSlow."""
        self.begun = True
        while not self._ended:
            try:
                async with asyncio.timeout(RECEIVE_SECONDS):
                    message = await self._receive()
            except TimeoutError as fault:
                raise ClientTooSlow from fault
            if message["type"] == "http.disconnect":
                raise ClientGone
            self._ended = not message.get("more_body", False)
            if piece := message.get("body", b""):
                yield piece


def wire_request(scope: Scope) -> HttpRequest:
    """Give the request as a signature covers it."""
    return HttpRequest(
        method=scope["method"],
        path=scope["raw_path"].decode("latin-1"),
        query=scope["query_string"].decode("latin-1"),
        headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]],
    )


async def send_answer(answer: Answer, receive: Receive, send: Send, *, with_body: bool = True) -> None:
    """Send an answer; raises TimeoutError when the client stops reading, ClientGone when it leaves a stream."""
    try:
        length = len(answer.body) if isinstance(answer.body, bytes) else answer.length
        headers = [*answer.headers]
        if answer.status not in (204, 304):
            headers.append(("content-length", str(length if answer.length is None else answer.length)))
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        await _send(send, {"type": "http.response.start", "status": answer.status, "headers": raw})
        if isinstance(answer.body, bytes):
            await _send(send, {"type": "http.response.body", "body": answer.body if with_body else b""})
        else:
            await _stream(answer.body, receive, send)
    finally:
        if answer.close is not None:
            await answer.close()


async def _stream(body: AsyncIterator[bytes], receive: Receive, send: Send) -> None:
    tasks = Tasks()
    # The server drops what is sent to a client that has gone without a word: watch for it.
    gone = tasks.start("watch for the client's leaving", _until_gone(receive))
    try:
        async for piece in body:
            if gone.done():
                raise ClientGone
            await _send(send, {"type": "http.response.body", "body": piece, "more_body": True})
        await _send(send, {"type": "http.response.body", "body": b""})
    finally:
        await tasks.close()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send(send: Send, message: Message) -> None:
    async with asyncio.timeout(SEND_SECONDS):
        await send(message)
