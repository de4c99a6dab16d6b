"""The frame of a neighbour that answers requests with whole answers: read, perform, and one place for what fails."""

import logging
from abc import ABC, abstractmethod

from moorage.aws.errors import OurFault, ServiceError
from moorage.aws.response import Response
from moorage.aws.sigv4 import HttpRequest
from moorage.base.ids import Ids
from moorage.neighbours.web import (
    Answer,
    Body,
    ClientGone,
    ClientTooSlow,
    Receive,
    Scope,
    Send,
    send_answer,
    wire_request,
)

log = logging.getLogger(__name__)


class FramedApp(ABC):
    """An ASGI application; what it inherits from this knows the service's protocol."""

    def __init__(self, ids: Ids, *, longest_body_bytes: int) -> None:
        self._ids = ids
        self._longest_body_bytes = longest_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        wire, request_id = wire_request(scope), self._ids.request_id()
        try:
            response = await self._answer(wire, await self._read(Body(receive)), request_id)
            headers = tuple((name, value) for name, value in response.headers)
            await send_answer(Answer(response.status, headers, response.body), receive, send)
        except (ClientGone, ClientTooSlow, OSError) as fault:
            log.debug("request %s was given up: %s", request_id, fault)

    async def _read(self, body: Body) -> bytes | None:
        """Read the body; None when it is too large."""
        read = bytearray()
        async for piece in body.pieces():
            read += piece
            if len(read) > self._longest_body_bytes:
                return None
        return bytes(read)

    async def _answer(self, wire: HttpRequest, body: bytes | None, request_id: str) -> Response:
        try:
            return await self.perform(wire, body, request_id)
        except ServiceError as fault:
            return self.refuse(fault, request_id)
        except Exception:
            log.exception("request %s failed", request_id)
            ours = OurFault("InternalFailure", f"The request failed inside Moorage; its log has it as {request_id}.")
            return self.refuse(ours, request_id)

    @abstractmethod
    async def perform(self, wire: HttpRequest, body: bytes | None, request_id: str) -> Response:
        """Do what is asked for; the body is None when it was too large. Raises ServiceError."""

    @abstractmethod
    def refuse(self, fault: ServiceError, request_id: str) -> Response:
        """Make the answer of an error."""
