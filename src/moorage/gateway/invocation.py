"""Does one invocation: takes its body in, has it decided by the stages, forwards it, gives the answer back.

The answer is taken in whole before its first byte goes to the client, because an answer that breaks in the middle is
a ModelError and not a success (data-plane.md section 1.7). A request goes to another instance only when the first
one refused the connection, so when no byte of it had been sent. When nobody can take it and capacity is on its way, it
waits (``hold``).

Beside its way to the client an invocation is counted (``telemetry.meters``), written into the access log, copied to a
shadow variant and recorded; each takes references and returns at once.
"""

import logging
from collections.abc import Callable, Sequence
from typing import ClassVar

from moorage.aws.errors import ClientFault, ModelFault, OurFault, ServiceError
from moorage.aws.response import Response
from moorage.gateway import answers, front_faults, model_errors, stages
from moorage.gateway.connection import ClientConnection
from moorage.gateway.exchange import AnswerHead, Break
from moorage.gateway.fronts import Fault, FaultKind, Told, read_told
from moorage.gateway.intake import Intake
from moorage.gateway.requests import RequestHead
from moorage.gateway.session_stages import settle
from moorage.gateway.stages import Invocation
from moorage.gateway.upstream import UpstreamConnection
from moorage.routing.choice import Refusal
from moorage.routing.snapshot import Mode
from moorage.telemetry.capture import Payload
from moorage.telemetry.meters import Meter

log = logging.getLogger(__name__)

MOST_ATTEMPTS = 16

RECOVERY_SECONDS = 2.0
"""How long an invocation waits when all have refused and nothing is known to be on its way."""

FRONT_GRACE_SECONDS = 1.0
"""A front keeps the time limit itself, since it knows whom to blame; it is given so much longer to say so."""

JOINED_BYTES = 16_384
"""Up to this size head and body go out as one piece: copying is cheaper than a list of pieces."""

_SUCCESS = (
    b"HTTP/1.1 200 OK\r\nx-amzn-RequestId: %b\r\nx-Amzn-Invoked-Production-Variant: %b\r\n"
    b"%bDate: %b\r\nContent-Length: %d\r\n%b\r\n"
)


class InvocationHandling(Intake):
    """One invocation on one client connection."""

    ADMISSION: ClassVar[Sequence[Callable[[Invocation], None]]] = stages.ADMISSION

    __slots__ = (
        "_answer",
        "_answer_size",
        "_begun_at",
        "_forwarded_at",
        "_inputs",
        "_invocation",
        "_meter",
        "_refusal",
        "_sampled",
        "_told",
        "_upstream",
        "_waiting",
        "_waiting_since",
    )

    def __init__(self, client: ClientConnection, head: RequestHead) -> None:
        super().__init__(client, head)
        self._invocation: Invocation | None = None
        self._upstream: UpstreamConnection | None = None
        self._meter: Meter | None = None
        """Of the variant that it was forwarded to; None before, and when its end has been counted."""
        self._forwarded_at = 0.0
        self._refusal: Refusal | None = None
        """Why it waits."""
        self._waiting: Meter | None = None
        """Where it is counted as waiting."""
        self._waiting_since = 0.0
        self._sampled = False
        self._inputs: Payload | None = None
        """What it sends, for the record and for the shadow variant."""
        self._answer: AnswerHead | None = None
        self._answer_size = 0
        self._told: Told | None = None
        """What the instance's front has told with the answer."""
        self._begun_at = 0.0
        """When it has."""

    # Handling

    def request_ended(self) -> None:
        """Decide and forward: the body is complete."""
        if self._done:
            return
        try:
            self._invocation = self._admit()
            self._choose(self._invocation)
        except ServiceError as fault:
            self._fail(fault)
        except Exception:
            log.exception("request %s could not be decided", self._request_id)
            self._fail(OurFault("InternalFailure", "Moorage failed; its log says why."))

    def client_gone(self) -> None:
        """Stop the container's work."""
        if self._done:
            return
        self._done = True
        if self._meter is not None and self._invocation is not None:
            self._meter.client_gone(len(self._invocation.choice.variant.instances))
            self._meter = None
        self._note(0, None, None)
        self._let_go()

    def client_writable(self, *, writable: bool) -> None:
        """Do nothing: nothing is written before the answer is whole."""

    def time_is_up(self) -> None:
        """Fail: the body, an instance, or the container's answer did not come in time."""
        invocation = self._invocation
        if self._done:  # it has ended, and a fault of ours has kept the answer from the client
            self._client.abort()
        elif invocation is None:
            message = f"The body of request {self._request_id} did not come in time."
            self._fail(ClientFault("RequestTimeoutException", message, status=408))
        elif self._refusal is not None:
            self._fail(stages.refused(invocation, self._refusal))
        else:
            self._fail(model_errors.timed_out(invocation.routes.endpoint, self._container()))

    def break_off(self) -> None:
        """Break the connection: the container has not answered before the gateway had to stop."""
        self._client.abort()

    # Held

    def try_again(self) -> bool:
        """Go on if an instance can be had now; True: it does not wait any more."""
        invocation, shared = self._invocation, self._shared
        if invocation is None or shared.routing is None:
            return False
        endpoint = invocation.routes.endpoint
        routes = shared.routing.endpoints.get((endpoint.account, endpoint.region, endpoint.name))
        try:
            if routes is None:
                raise stages.endpoint_not_found(endpoint.account, endpoint.name)
            invocation.routing, invocation.routes = shared.routing, routes
            invocation.tried.clear()
            self._choose(invocation)
        except ServiceError as fault:
            self._fail(fault)
        return self._refusal is None or self._done

    # Borrower

    def upstream_ready(self, connection: UpstreamConnection) -> None:
        """Send the request."""
        invocation = self._invocation
        if self._done or invocation is None:
            connection.give_back()
            return
        self._upstream = connection
        connection.exchange.begin(self)
        head = connection.request_head(invocation.forwarded, self._size)
        if self._size <= JOINED_BYTES:
            connection.send_whole(head + b"".join(self._chunks))
        else:
            connection.send([head, *self._chunks])

    def upstream_refused(self, reason: str) -> None:  # noqa: ARG002 - the text for the client is AWS's
        """Try another instance: nothing has been sent."""
        invocation = self._invocation
        if not self._done and invocation is not None:
            self._try_another(invocation)

    def _try_another(self, invocation: Invocation) -> None:
        instance_id = invocation.choice.instance.instance_id
        self._shared.instances.suspect(instance_id)
        invocation.tried.add(instance_id)
        try:
            if len(invocation.tried) >= MOST_ATTEMPTS:
                raise model_errors.no_response(invocation.routes.endpoint, self._container())
            self._choose(invocation)
        except ServiceError as fault:
            self._fail(fault)

    def upstream_writable(self, *, writable: bool) -> None:
        """Do nothing: the body is in memory already, there is nobody to slow down."""

    # AnswerSink

    def interim_received(self, head: AnswerHead) -> None:
        """Do nothing: interim answers are not for the client."""

    def answer_received(self, head: AnswerHead) -> None:
        """Take the head of the answer."""
        self._answer = head
        self._hear_front(head)
        if head.content_length is not None and head.has_body and head.content_length > self._limit:
            self._not_loaded()

    def answer_body_received(self, data: bytes) -> None:
        """Take a piece of the answer, up to the limit."""
        if self._done:
            return
        self._answer_size += len(data)
        if self._answer_size > self._limit:
            self._not_loaded()
            return
        if self._answer_chunks:
            self._count_buffered(len(data))
        self._answer_chunks.append(data)

    def answer_ended(self) -> None:
        """Give the answer to the client."""
        head, invocation = self._answer, self._invocation
        if head is None or invocation is None or self._done:
            return
        if 200 <= head.status < 300:
            self._succeed(invocation, head)
            return
        body = b"".join(self._answer_chunks)
        if self._told is not None and self._told.fault is not None:
            self._end_by_front(invocation, Fault.from_body(self._told.fault, body))
            return
        text = body.decode("utf-8", "replace")
        fault = model_errors.from_status(invocation.routes.endpoint, self._container(), head.status, text)
        self._fail(fault, model_status=head.status)

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
        self._fail(model_errors.no_response(invocation.routes.endpoint, self._container()))

    # Fronts

    def _hear_front(self, head: AnswerHead) -> None:
        """Take what the front has told, where there is one: a container could write the same."""
        invocation = self._invocation
        if invocation is not None and invocation.choice.variant.has_front:
            self._told = read_told(head)
            self._begun_at = self._shared.clock.monotonic()

    def _end_by_front(self, invocation: Invocation, fault: Fault) -> None:
        """Fail as the front has told; where nothing has run, another instance is asked."""
        if fault.kind != FaultKind.REFUSED:
            self._fail(front_faults.error_of(invocation.routes.endpoint, self._container(), fault))
            return
        connection, self._upstream = self._upstream, None
        if connection is not None:
            connection.give_back()
        self._answer = self._told = None
        self._answer_chunks, self._answer_size = [], 0
        self._try_another(invocation)

    def _container(self) -> str:
        """Name the container that has answered, or is to blame."""
        if self._told is not None and self._told.container is not None:
            return self._told.container
        invocation = self._invocation
        if invocation is None:
            return ""
        return str(invocation.members.get("TargetContainerHostname", invocation.choice.variant.container))

    # Deciding

    def _admit(self) -> Invocation:
        if self._size > self._limit:
            raise stages.oversize(self._request_id)
        shared = self._shared
        if shared.routing is None:
            raise stages.starting()
        invocation = Invocation(
            self._head,
            self._chunks,
            payload_sha256=self._sha256(),
            source_ip=self._client.source_ip,
            secure=shared.secure,
            request_id=self._request_id,
            routing=shared.routing,
            chance=shared.chance,
            conditions=shared.instances.conditions,
            sessions=shared.sessions,
            now=shared.clock.now(),
        )
        if not shared.familiar.recognise(invocation):
            for stage in self.ADMISSION:
                stage(invocation)
            if self._head.form is None:
                shared.quick.learn(self._head)
            else:
                shared.familiar.learn(invocation)
        stages.follow_session(invocation)
        return invocation

    def _choose(self, invocation: Invocation) -> None:
        """Choose an instance and forward, or wait for one; raises the error of what cannot wait."""
        refusal = stages.choose(invocation)
        if refusal is None:
            self._wait_no_longer()
            self._forward(invocation)
        elif self._refusal is None:
            self._wait(invocation, refusal)
        else:  # it goes on waiting, for as long as it may by what is known now
            self._refusal = refusal
            until = self._waiting_since + self._patience(invocation, refusal)
            self._client.deadline = max(self._client.deadline, until)

    def _forward(self, invocation: Invocation) -> None:
        shared, choice = self._shared, invocation.choice
        meter = self._meter_of(invocation, choice.variant.name)
        if meter is not self._meter:
            if self._meter is None:
                first, self._forwarded_at = not self._forwarded_at, shared.clock.monotonic()
                self._client.deadline = self._time_limit()
                endpoint = invocation.routes.endpoint
                if first and (endpoint.capture is not None or endpoint.shadows):
                    self._copy(invocation)
            else:
                self._meter.withdraw()
            self._meter = meter
            meter.begin()
        shared.instances.borrow(choice.instance, self)

    def _time_limit(self) -> float:
        """Say until when, in monotonic seconds, the container must have answered."""
        grace = FRONT_GRACE_SECONDS if self._has_front() else 0.0
        return self._shared.ticked_at + self._shared.limits.invocation_timeout_seconds + grace

    def _has_front(self) -> bool:
        return self._invocation is not None and self._invocation.choice.variant.has_front

    def _meter_of(self, invocation: Invocation, variant: str) -> Meter:
        endpoint = invocation.routes.endpoint
        return self._shared.meters.of(endpoint.account, endpoint.region, endpoint.name, variant)

    # Waiting

    def _wait(self, invocation: Invocation, refusal: Refusal) -> None:
        fault = stages.refused(invocation, refusal)
        meter = self._meter_of(invocation, stages.expected_variant(invocation))
        if refusal is Refusal.FULL:
            meter.throttle()
            raise fault
        seconds = self._patience(invocation, refusal)
        if not seconds or not self._shared.hold.enter(invocation.routes.endpoint.arn, self):
            raise fault
        if self._meter is not None:  # it had been forwarded, and was refused
            self._meter.withdraw()
            self._meter = None
        self._refusal, self._waiting = refusal, meter
        meter.hold()
        self._waiting_since = self._shared.clock.monotonic()
        self._client.deadline = self._waiting_since + seconds

    def _patience(self, invocation: Invocation, refusal: Refusal) -> float:
        """Say for how many seconds an invocation that nobody takes may wait."""
        if stages.capacity_is_coming(invocation):
            return self._shared.limits.hold_seconds
        # Where all have refused, the control plane will hear of it in a moment, or they come back.
        brief = refusal is Refusal.NONE_LEFT and invocation.binding is None
        return min(RECOVERY_SECONDS, self._shared.limits.hold_seconds) if brief else 0.0

    def _wait_no_longer(self) -> None:
        if self._waiting is not None and self._invocation is not None:
            self._waiting.hold_ended()
            self._waiting = self._refusal = None
            self._shared.hold.leave(self._invocation.routes.endpoint.arn, self)

    # Beside its way

    def _copy(self, invocation: Invocation) -> None:
        """Let it be recorded if it is in the sample, and copied if it is the shadow variant's turn."""
        shared, endpoint, members = self._shared, invocation.routes.endpoint, invocation.members
        self._sampled = shared.recorder.samples(endpoint)
        self._inputs = Payload(members.get("ContentType"), self._chunks, self._size)
        if endpoint.shadows:
            forwarded = invocation.forwarded
            if "SessionId" in members:  # the session is with the production variant
                forwarded = stages.make_forwarded(invocation.operation, invocation.head.fields, session=False)
            shared.mirror.copy(
                endpoint,
                self._inputs,
                forwarded,
                at=invocation.now,
                sampled=self._sampled,
                custom_attributes=members.get("CustomAttributes"),
                inference_id=members.get("InferenceId"),
            )

    def _record(self, invocation: Invocation, head: AnswerHead, chunks: Sequence[bytes], size: int) -> None:
        """Offer what the client sent and got."""
        if self._inputs is not None:
            self._shared.recorder.offer(
                invocation.routes.endpoint,
                invocation.choice.variant.name,
                self._inputs,
                Payload(head.content_type, chunks, size),
                at=invocation.now,
                custom_attributes=invocation.members.get("CustomAttributes"),
                inference_id=invocation.members.get("InferenceId"),
            )

    def _count_containers(self, meter: Meter, invocation: Invocation, told: Told, now: float) -> float:
        """Count what each container has taken; gives the sum in seconds.

        What the front has told of the last one is up to its head.
        """
        *before, (name, microseconds) = told.latencies
        whole = (*before, (name, microseconds + int((now - self._begun_at) * 1_000_000)))
        meter.containers(whole, direct=invocation.choice.variant.mode is Mode.DIRECT)
        return sum(taken for _, taken in whole) / 1_000_000

    def _note(self, status: int, model_status: int | None, error: str | None, *, bytes_out: int = 0) -> None:
        """Count the end, and write it into the access log."""
        shared, invocation = self._shared, self._invocation
        now = shared.clock.monotonic()
        forwarded = bool(self._forwarded_at) and self._refusal is None  # who waits has been refused where it was sent
        model_seconds = now - self._forwarded_at if forwarded else None
        if self._meter is not None and invocation is not None and model_seconds is not None:
            if self._told is not None and self._told.latencies:
                model_seconds = self._count_containers(self._meter, invocation, self._told, now)
            if self._told is not None and self._told.measures:
                self._meter.models(self._told.measures)
            instances = len(invocation.choice.variant.instances)
            self._meter.end(model_status or 0, model_seconds, now - self._started, instances)
            self._meter = None
        if shared.access_log is None:
            return
        caller = endpoint = choice = None
        if invocation is not None:
            caller, endpoint = invocation.caller, invocation.routes.endpoint
            choice = invocation.choice if forwarded else None
        shared.access_log.offer(
            (
                shared.clock.now(),
                self._request_id,
                None if endpoint is None else endpoint.account,
                None if endpoint is None else endpoint.name,
                None if choice is None else choice.variant.name,
                None if choice is None else choice.instance.instance_id,
                None if invocation is None else invocation.operation.name,
                status,
                model_status if choice is None else model_status or 0,
                self._size,
                bytes_out,
                now - self._started,
                model_seconds,
                self._client.source_ip,
                None if caller is None else caller.credential.user_arn,
                error,
            )
        )

    # Ending

    def _succeed(self, invocation: Invocation, head: AnswerHead) -> None:
        lines = head.passed_on
        if "SessionId" in invocation.members:
            try:
                lines += self._settle_session(invocation, head)
            except ServiceError as fault:
                self._fail(fault, model_status=head.status)
                return
        closes = self._client.closes()
        encoded = _SUCCESS % (
            self._request_id.encode(),
            invocation.choice.variant.name.encode(),
            lines,
            self._shared.date,
            self._answer_size,
            answers.connection_header(close=closes, version=self._head.version),
        )
        self._done = True
        chunks = self._answer_chunks
        if self._answer_size <= JOINED_BYTES:
            self._client.send_whole(encoded + b"".join(chunks))
        else:
            self._client.send([encoded, *chunks])
        self._note(200, head.status, None, bytes_out=self._answer_size)
        if self._sampled:
            self._record(invocation, head, chunks, self._answer_size)
        self._let_go()
        self._client.finished(close=closes)

    def _settle_session(self, invocation: Invocation, head: AnswerHead) -> bytes:
        """Do what the answer says of its session; gives the lines for the client."""
        headers = settle(
            self._shared.sessions,
            invocation.routes.endpoint,
            invocation.members["SessionId"],
            choice=invocation.choice,
            version=invocation.routing.version,
            raw_headers=head.raw_headers,
            now=self._shared.clock.now(),
        )
        return b"".join([b"%b: %b\r\n" % header for header in headers])

    def _not_loaded(self) -> None:
        if self._invocation is not None:
            self._fail(model_errors.not_loaded(self._invocation.routes.endpoint, self._container()))

    def _fail(self, fault: ServiceError, *, model_status: int | None = None) -> None:
        if self._done:
            return
        self._done = True
        if model_status is None and isinstance(fault, ModelFault):
            model_status = 0
        response = self._error_response(fault)
        self._note(fault.status, model_status, fault.code, bytes_out=len(response.body))
        self._let_go()
        self._client.answer(response)

    def _error_response(self, fault: ServiceError) -> Response:
        """Make the answer of an invocation that failed."""
        return answers.invocation_error(fault, self._request_id)

    def _let_go(self) -> None:
        """Give back what was borrowed; an answer that is not complete closes the connection."""
        self._wait_no_longer()
        self._forget_bodies()
        connection, self._upstream = self._upstream, None
        if connection is not None:
            connection.give_back()
            hold = self._shared.hold
            if hold.occupied and self._invocation is not None:
                hold.release_one(self._invocation.routes.endpoint.arn)
