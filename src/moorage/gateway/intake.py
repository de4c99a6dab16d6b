"""Takes the body of an invocation in: hashed while it comes, bounded, and counted among what is in memory."""

import hashlib

from moorage.aws.errors import OurFault, ServiceError
from moorage.gateway.connection import ClientConnection
from moorage.gateway.requests import RequestHead
from moorage.gateway.shared import Shared
from moorage.gateway.stages import oversize

BODY_SECONDS = 120.0
"""For the whole body of an invocation to come in."""

DISCARD_BODIES = 8
"""An oversize body is read and dropped up to this many times the limit, so that the client sees the error."""


class Intake:
    """The first half of an invocation on a client connection; ``InvocationHandling`` is the second."""

    __slots__ = (
        "_answer_chunks",
        "_buffered",
        "_chunks",
        "_client",
        "_done",
        "_hash",
        "_head",
        "_limit",
        "_request_id",
        "_shared",
        "_size",
        "_started",
    )

    def __init__(self, client: ClientConnection, head: RequestHead) -> None:
        shared = client.shared
        self._client = client
        self._shared: Shared = shared
        self._head = head
        self._started = shared.clock.monotonic()
        self._request_id = shared.ids.request_id()
        self._limit = shared.limits.invocation_body_bytes
        self._chunks: list[bytes] = []
        self._answer_chunks: list[bytes] = []
        self._size = 0
        self._buffered = 0
        """Bytes of both bodies that are counted as in memory."""
        self._hash: hashlib._Hash | None = None
        self._done = False

    def start(self) -> None:
        """Begin; the head is known."""
        self._client.deadline = self._shared.ticked_at + BODY_SECONDS
        expects_continue = self._head.expects_continue
        # Who does not wait to be asked may look at the answer only when all is sent: a body that is too large is read,
        # but not one of which it is clear that it will not be read to its end.
        if self._head.content_length > (self._limit if expects_continue else DISCARD_BODIES * self._limit):
            self._fail(oversize(self._request_id))
        elif expects_continue:
            self._client.send_continue()

    def body_received(self, data: bytes) -> None:
        """Take a piece of the body; what is beyond the limit is dropped."""
        if self._done:
            return
        self._size += len(data)
        if self._size > self._limit:
            self._forget_bodies()
            if self._size > DISCARD_BODIES * self._limit:
                self._fail(oversize(self._request_id))
            return
        if self._chunks:  # a body in pieces is hashed while it comes, so that none takes long
            if self._hash is None:
                self._hash = hashlib.sha256(self._chunks[0])
            self._hash.update(data)
        self._chunks.append(data)
        self._count_buffered(len(data))

    def request_received(self, body: bytes) -> None:
        """Take a body that is complete, decide and forward."""
        self._size = len(body)
        if self._size <= self._limit:
            self._chunks.append(body)
        self.request_ended()

    def request_ended(self) -> None:
        """Go on: the body is complete."""
        raise NotImplementedError

    def _fail(self, fault: ServiceError, *, model_status: int | None = None) -> None:
        """Answer with an error, and let everything go."""
        raise NotImplementedError

    def _sha256(self) -> str:
        """Give the hash of the body, in hexadecimal."""
        if self._hash is None:
            return hashlib.sha256(self._chunks[0] if self._chunks else b"").hexdigest()
        return self._hash.hexdigest()

    def _count_buffered(self, size: int) -> None:
        """Count a piece of a body in memory; who would need more memory than there may be is refused."""
        shared = self._shared
        self._buffered += size
        shared.buffered_bytes += size
        shared.buffered_peak = max(shared.buffered_peak, shared.buffered_bytes)
        if shared.buffered_bytes > shared.limits.buffered_bytes:
            self._fail(OurFault("ServiceUnavailable", "Moorage has no memory left for bodies. Try again.", status=503))

    def _forget_bodies(self) -> None:
        """Let go of the bodies; who records or copies them has references of its own."""
        if self._buffered:
            self._shared.buffered_bytes -= self._buffered
            self._buffered = 0
        self._chunks, self._answer_chunks = [], []
