"""Does one invocation: takes its body in, has it decided by the stages, forwards it, gives the answer back.

The answer is taken in whole before its first byte goes to the client, because an answer that breaks in the middle is
a ModelError and not a success (data-plane.md section 1.7). A request goes to another instance only when the first
one refused the connection, so when no byte of it had been sent.
"""

import hashlib
import logging

from moorage.aws.errors import ClientFault, OurFault, ServiceError
from moorage.gateway import answers, model_errors, stages
from moorage.gateway.connection import ClientConnection
from moorage.gateway.exchange import AnswerHead, Break
from moorage.gateway.requests import RequestHead
from moorage.gateway.stages import Invocation
from moorage.gateway.upstream import UpstreamConnection

log = logging.getLogger(__name__)

BODY_SECONDS = 120.0
"""For the whole body of an invocation to come in."""

DISCARD_BODIES = 8
"""An oversize body is read and dropped up to this many times the limit, so that the client sees the error."""

MOST_ATTEMPTS = 16

_FORWARDED = (
    (b"Content-Type", "content-type"),
    (b"Accept", "accept"),
    (b"X-Amzn-SageMaker-Custom-Attributes", "x-amzn-sagemaker-custom-attributes"),
    (b"X-Amzn-SageMaker-Inference-Id", "x-amzn-sagemaker-inference-id"),
)
"""What the container sees of the client's headers (data-plane.md section 1.3)."""


class InvocationHandling:
    """One invocation on one client connection."""

    def __init__(self, client: ClientConnection, head: RequestHead) -> None:
        self._client = client
        self._shared = client.shared
        self._head = head
        self._request_id = client.shared.ids.request_id()
        self._limit = client.shared.limits.invocation_body_bytes
        self._chunks: list[bytes] = []
        self._size = 0
        self._hash: hashlib._Hash | None = None
        self._invocation: Invocation | None = None
        self._upstream: UpstreamConnection | None = None
        self._answer: AnswerHead | None = None
        self._answer_chunks: list[bytes] = []
        self._answer_size = 0
        self._done = False

    # Handling

    def start(self) -> None:
        """Begin; the head is known."""
        self._client.deadline = self._shared.clock.monotonic() + BODY_SECONDS
        expects_continue = self._head.expects_continue
        # Who does not wait to be asked may look at the answer only when all is sent: a body that is too large is read,
        # but not one of which it is clear that it will not be read to its end.
        if self._head.content_length > (self._limit if expects_continue else DISCARD_BODIES * self._limit):
            self._fail(stages.oversize(self._request_id))
        elif expects_continue:
            self._client.send_continue()

    def body_received(self, data: bytes) -> None:
        """Take a piece of the body; what is beyond the limit is dropped."""
        self._size += len(data)
        if self._size > self._limit:
            self._chunks.clear()
            if self._size > DISCARD_BODIES * self._limit:
                self._fail(stages.oversize(self._request_id))
            return
        if self._chunks:  # a body in pieces is hashed while it comes, so that none takes long
            if self._hash is None:
                self._hash = hashlib.sha256(self._chunks[0])
            self._hash.update(data)
        self._chunks.append(data)

    def request_ended(self) -> None:
        """Decide and forward: the body is complete."""
        if self._done:
            return
        try:
            self._invocation = self._decide()
        except ServiceError as fault:
            self._fail(fault)
            return
        except Exception:
            log.exception("request %s could not be decided", self._request_id)
            self._fail(OurFault("InternalFailure", "Moorage failed; its log says why."))
            return
        self._client.deadline = self._shared.clock.monotonic() + self._shared.limits.invocation_timeout_seconds
        self._forward(self._invocation)

    def client_gone(self) -> None:
        """Stop the container's work."""
        self._done = True
        self._let_go()

    def client_writable(self, *, writable: bool) -> None:
        """Do nothing: nothing is written before the answer is whole."""

    def time_is_up(self) -> None:
        """Fail: the body, or the container's answer, did not come in time."""
        if self._invocation is None:
            message = f"The body of request {self._request_id} did not come in time."
            self._fail(ClientFault("RequestTimeoutException", message, status=408))
            return
        choice = self._invocation.choice
        self._fail(model_errors.timed_out(self._invocation.routes.endpoint, choice.variant.container))

    # Borrower

    def upstream_ready(self, connection: UpstreamConnection) -> None:
        """Send the request."""
        if self._done or self._invocation is None:
            connection.give_back()
            return
        self._upstream = connection
        connection.exchange.begin(self)
        head = make_request_head(self._head, self._size, self._invocation.choice.instance.address)
        connection.send([head, *self._chunks])

    def upstream_refused(self, reason: str) -> None:  # noqa: ARG002 - the text for the client is AWS's
        """Try another instance: nothing has been sent."""
        invocation = self._invocation
        if self._done or invocation is None:
            return
        instance_id = invocation.choice.instance.instance_id
        self._shared.instances.suspect(instance_id)
        invocation.tried.add(instance_id)
        try:
            if len(invocation.tried) >= MOST_ATTEMPTS:
                raise model_errors.no_response(invocation.routes.endpoint, invocation.choice.variant.container)
            stages.choose(invocation)
        except ServiceError as fault:
            self._fail(fault)
        else:
            self._forward(invocation)

    def upstream_writable(self, *, writable: bool) -> None:
        """Do nothing: the body is in memory already, there is nobody to slow down."""

    # AnswerSink

    def interim_received(self, head: AnswerHead) -> None:
        """Do nothing: interim answers are not for the client."""

    def answer_received(self, head: AnswerHead) -> None:
        """Take the head of the answer."""
        self._answer = head
        if head.content_length is not None and head.has_body and head.content_length > self._limit:
            self._not_loaded()

    def answer_body_received(self, data: bytes) -> None:
        """Take a piece of the answer, up to the limit."""
        self._answer_size += len(data)
        if self._answer_size > self._limit:
            self._not_loaded()
        else:
            self._answer_chunks.append(data)

    def answer_ended(self) -> None:
        """Give the answer to the client."""
        head, invocation = self._answer, self._invocation
        if head is None or invocation is None or self._done:
            return
        self._let_go()
        if 200 <= head.status < 300:
            self._succeed(invocation, head)
            return
        body = b"".join(self._answer_chunks).decode("utf-8", "replace")
        container = invocation.choice.variant.container
        self._fail(model_errors.from_status(invocation.routes.endpoint, container, head.status, body))

    def answer_broken(self, how: Break) -> None:
        """Fail: the instance closed the connection, or sent what is no answer."""
        invocation = self._invocation
        if invocation is None or self._done:
            return
        if how is Break.IN_BODY:
            self._not_loaded()
            return
        if how is Break.NO_ANSWER:
            self._shared.instances.suspect(invocation.choice.instance.instance_id)
        self._fail(model_errors.no_response(invocation.routes.endpoint, invocation.choice.variant.container))

    # Inside

    def _decide(self) -> Invocation:
        if self._size > self._limit:
            raise stages.oversize(self._request_id)
        shared = self._shared
        if shared.routing is None:
            raise stages.starting()
        if self._hash is None:
            digest = hashlib.sha256(self._chunks[0] if self._chunks else b"").hexdigest()
        else:
            digest = self._hash.hexdigest()
        invocation = Invocation(
            head=self._head,
            size=self._size,
            payload_sha256=digest,
            source_ip=self._client.source_ip,
            secure=shared.secure,
            request_id=self._request_id,
            routing=shared.routing,
            chance=shared.chance,
            suspects=shared.instances.suspects,
            now=shared.clock.now(),
        )
        for stage in stages.STAGES:
            stage(invocation)
        return invocation

    def _forward(self, invocation: Invocation) -> None:
        self._shared.instances.borrow(invocation.choice.instance, self)

    def _succeed(self, invocation: Invocation, head: AnswerHead) -> None:
        headers = [
            (b"x-amzn-RequestId", self._request_id.encode()),
            (b"x-Amzn-Invoked-Production-Variant", invocation.choice.variant.name.encode()),
        ]
        for name, field in (
            (b"Content-Type", b"content-type"),
            (b"X-Amzn-SageMaker-Custom-Attributes", b"x-amzn-sagemaker-custom-attributes"),
        ):
            if (value := head.field(field)) is not None:
                headers.append((name, value))
        closes = self._client.closes()
        encoded = answers.encode_head(
            200, headers, self._answer_size, self._shared.date, close=closes, version=self._head.version
        )
        self._done = True
        self._client.send([encoded, *self._answer_chunks])
        self._client.finished(close=closes)

    def _not_loaded(self) -> None:
        if self._invocation is not None:
            container = self._invocation.choice.variant.container
            self._fail(model_errors.not_loaded(self._invocation.routes.endpoint, container))

    def _fail(self, fault: ServiceError) -> None:
        if self._done:
            return
        self._done = True
        self._let_go()
        self._client.answer(answers.invocation_error(fault, self._request_id))

    def _let_go(self) -> None:
        """Give back what was borrowed; an answer that is not complete closes the connection."""
        connection, self._upstream = self._upstream, None
        if connection is not None:
            connection.give_back()


def make_request_head(head: RequestHead, size: int, address: str) -> bytes:
    """Make the head that the container sees: only the headers of the API (data-plane.md section 1.3)."""
    host = b"localhost" if address.startswith("unix:") else address.encode()
    fields = head.fields
    lines = [b"%b: %b\r\n" % (name, fields[key].encode("latin-1")) for name, key in _FORWARDED if key in fields]
    return b"POST /invocations HTTP/1.1\r\nHost: %b\r\n%bContent-Length: %d\r\n\r\n" % (
        host,
        b"".join(lines),
        size,
    )
