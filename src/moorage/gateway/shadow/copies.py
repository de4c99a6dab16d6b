"""One invocation's copy on its way to a shadow variant: sends it, reads the answer, keeps nothing (``mirror``)."""

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Protocol

from moorage.base.clock import Clock
from moorage.gateway.capture.recorder import Recorder
from moorage.gateway.exchange import AnswerHead, Break
from moorage.gateway.shadow.outbox import Outbox
from moorage.gateway.shadow.refusals import Refusals
from moorage.gateway.upstream import UpstreamConnection
from moorage.routing.decide import make_routes
from moorage.routing.shadow import ShareCounter, shadow_share
from moorage.routing.snapshot import Endpoint, Instance
from moorage.telemetry.capture import RECORD_BYTES, Payload

SHADOW_BYTES = 67_108_864
"""Bodies that the copies in flight of one endpoint hold."""

JOINED_BYTES = 16_384
"""Up to this size head and body go out as one piece."""

READ_BYTES = 16_777_216
"""Of answers, between two ticks."""

_NOTHING = Payload(None, (), 0)


class Observer(Protocol):
    """Who is told what has become of each copy that was sent."""

    def __call__(self, endpoint: Endpoint, variant: str, status: int, seconds: float) -> None:
        """Note the status of the answer, 0 when there was none, and the time from the request to its end."""


def observe_nothing(endpoint: Endpoint, variant: str, status: int, seconds: float) -> None:
    """Note nothing."""


@dataclass(eq=False, slots=True)
class MirrorCounts:
    """What has become of the invocations that were to be copied."""

    copied: int = 0
    """Given to an instance of the shadow variant."""
    answered: int = 0
    """With 2xx."""
    model_errors: int = 0
    """Answered otherwise."""
    broken: int = 0
    """The instance closed the connection, or sent what is no answer."""
    timed_out: int = 0
    answer_too_large: int = 0
    refused: int = 0
    """The instance took no connection."""
    skipped_full: int = 0
    skipped_too_large: int = 0
    skipped_no_instance: int = 0
    abandoned: int = 0
    """In flight when the gateway was stopped, or their instance left the snapshot."""


class Common:
    """What the copies of a gateway share."""

    def __init__(
        self, recorder: Recorder, refusals: Refusals, clock: Clock, answer_bytes: int, observe: Observer
    ) -> None:
        self.recorder = recorder
        self.refusals = refusals
        self.clock = clock
        self.answer_bytes = answer_bytes
        self.observe = observe
        self.total = MirrorCounts()
        self.outbox = Outbox()
        self.in_flight: dict[Copy, None] = {}
        """The oldest first."""
        self._readable = READ_BYTES
        self._paused: list[Copy] = []

    def may_read(self, size: int, copy: "Copy") -> bool:
        """Count bytes of answers; False when the copy's connection must rest until the next tick."""
        self._readable -= size
        if self._readable > 0:
            return True
        self._paused.append(copy)
        return False

    def read_on(self) -> None:
        """Let all connections be read again."""
        self._readable = READ_BYTES
        paused, self._paused = self._paused, []
        for copy in paused:
            copy.read_on()


class Shadowed:
    """An endpoint with a shadow variant."""

    __slots__ = ("counter", "endpoint", "held_bytes", "in_flight", "routes", "variant")

    def __init__(self, endpoint: Endpoint) -> None:
        self.in_flight = 0
        self.held_bytes = 0
        self.counter = ShareCounter(_share_of(endpoint))
        self.renew(endpoint)

    def renew(self, endpoint: Endpoint) -> None:
        """Take the endpoint of another snapshot; counting goes on unless the share has changed."""
        self.endpoint = endpoint
        self.routes = make_routes(replace(endpoint, variants=endpoint.shadows[:1], shadows=()))
        self.variant = endpoint.shadows[0].name
        share = _share_of(endpoint)
        if share != self.counter.share:
            self.counter = ShareCounter(share)


def _share_of(endpoint: Endpoint) -> Fraction:
    """Give the share of the shadow variant; beside it there is one production variant."""
    return shadow_share(endpoint.shadows[0].weight, sum(variant.weight for variant in endpoint.variants))


class Copy:
    """One copy in flight: borrows a connection, sends, reads, gives it back."""

    __slots__ = (
        "_at",
        "_chunks",
        "_common",
        "_content_type",
        "_custom_attributes",
        "_ended",
        "_endpoint",
        "_forwarded",
        "_inference_id",
        "_inputs",
        "_keeps_answer",
        "_recorded",
        "_shadowed",
        "_size",
        "_status",
        "_variant",
        "connection",
        "held_bytes",
        "instance",
        "leaving",
        "started",
    )

    def __init__(  # noqa: PLR0913, PLR0917 - one for each copied invocation
        self,
        common: Common,
        shadowed: Shadowed,
        instance: Instance,
        forwarded: bytes,
        inputs: Payload,
        at: float,
        custom_attributes: str | None,
        inference_id: str | None,
        recorded: bool,  # noqa: FBT001
    ) -> None:
        self.started = common.clock.monotonic()
        self.instance = instance
        self.leaving = False
        """Whether the instance has left the snapshot."""
        self.connection: UpstreamConnection | None = None
        self.held_bytes = 0
        """Bodies that are in memory for this copy."""
        self._common = common
        self._shadowed = shadowed
        self._endpoint = shadowed.endpoint
        self._variant = shadowed.variant
        self._forwarded = forwarded
        self._inputs = inputs
        self._at = at
        self._custom_attributes = custom_attributes
        self._inference_id = inference_id
        capture = shadowed.endpoint.capture
        self._recorded = recorded and capture is not None
        """Whether the copy and its answer become a record."""
        self._keeps_answer = self._recorded and capture is not None and capture.outputs
        self._ended = False
        self._status = 0
        self._size = 0
        """Of the answer's body until now."""
        self._content_type: str | None = None
        self._chunks: list[bytes] = []
        shadowed.in_flight += 1
        self._hold(inputs.size)
        common.in_flight[self] = None

    def __repr__(self) -> str:
        return f"<Copy to {self.instance.instance_id}: {self.held_bytes} bytes held, status {self._status}>"

    def read_on(self) -> None:
        """Read again after a rest."""
        if self.connection is not None:
            self.connection.resume_reading()

    def end(self, status: int | None) -> None:
        """Let everything go; an answer that is not complete closes the connection.

        The status is what is observed: 0 is no answer, None nothing.
        """
        common, shadowed = self._common, self._shadowed
        connection, self.connection = self.connection, None
        self._ended = True
        self._recorded = self._keeps_answer = False
        self._inputs, self._chunks = _NOTHING, []
        shadowed.in_flight -= 1
        shadowed.held_bytes -= self.held_bytes
        del common.in_flight[self]
        if connection is not None:
            connection.give_back()
        if status is not None:
            common.observe(self._endpoint, self._variant, status, common.clock.monotonic() - self.started)

    # Borrower

    def upstream_ready(self, connection: UpstreamConnection) -> None:
        """Send the request."""
        if self._ended:  # the gateway is being stopped
            connection.give_back()
            return
        self.connection = connection
        self._common.refusals.takes(self.instance.instance_id)
        connection.exchange.begin(self)
        inputs = self._inputs
        head = connection.request_head(self._forwarded, inputs.size)
        if inputs.size <= JOINED_BYTES:
            self._common.outbox.add(connection, head + b"".join(inputs.chunks))
        else:
            connection.send([head, *inputs.chunks])

    def upstream_refused(self, reason: str) -> None:  # noqa: ARG002 - nobody is told
        """Give up: a copy is not tried again."""
        if self._ended:
            return
        common = self._common
        common.total.refused += 1
        common.refusals.refuses(self.instance.instance_id)
        self.end(0)

    def upstream_writable(self, *, writable: bool) -> None:
        """Do nothing: the body is in memory already, there is nobody to slow down."""

    # AnswerSink

    def interim_received(self, head: AnswerHead) -> None:
        """Do nothing: the real answer follows."""

    def answer_received(self, head: AnswerHead) -> None:
        """Take the head of the answer."""
        self._status = head.status
        if head.has_body and head.content_length is not None and head.content_length > self._common.answer_bytes:
            self._too_large()
        elif not 200 <= head.status < 300:
            self._recorded = self._keeps_answer = False
        elif self._recorded:
            self._content_type = head.content_type

    def answer_body_received(self, data: bytes) -> None:
        """Drop a piece of the answer, or keep it for the record."""
        connection = self.connection
        if connection is None:
            return
        size = len(data)
        self._size += size
        if self._size > self._common.answer_bytes:
            self._too_large()
            return
        if self._keeps_answer:
            self._keep(data, size)
        if not self._common.may_read(size, self):
            connection.pause_reading()

    def answer_ended(self) -> None:
        """Give the answer to the recorder, if it wants it."""
        total = self._common.total
        if 200 <= self._status < 300:
            total.answered += 1
        else:
            total.model_errors += 1
        if self._recorded:
            self._common.recorder.offer(
                self._endpoint,
                self._variant,
                self._inputs,
                Payload(self._content_type, self._chunks, self._size),
                at=self._at,
                custom_attributes=self._custom_attributes,
                inference_id=self._inference_id,
            )
        self.end(self._status)

    def answer_broken(self, how: Break) -> None:  # noqa: ARG002 - no answer is no answer
        """Give up: the instance closed the connection, or sent what is no answer."""
        self._common.total.broken += 1
        self.end(0)

    # Inside

    def _keep(self, data: bytes, size: int) -> None:
        """Keep a piece, within what the copies of an endpoint may hold."""
        if self._size > RECORD_BYTES or self._shadowed.held_bytes + size > SHADOW_BYTES:
            self._recorded = self._keeps_answer = False
            self._chunks = []
            self._common.recorder.miss()
        else:
            self._chunks.append(data)
            self._hold(size)

    def _hold(self, size: int) -> None:
        self.held_bytes += size
        self._shadowed.held_bytes += size

    def _too_large(self) -> None:
        self._common.total.answer_too_large += 1
        self.end(0)
