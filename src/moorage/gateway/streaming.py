"""Does one invocation whose answer is passed on while it comes: InvokeEndpointWithResponseStream.

Up to the first byte of the container's body it is an invocation like any other: the same intake, stages, attempts, and
errors as plain answers. That byte begins the answer; from there on the client has its 200, and what fails is told in
the stream, which then ends in good order (data-plane.md section 3). What moves an answer that has begun:

    ==============================  ==============================================================
    event                           effect
    ==============================  ==============================================================
    a chunk of the container        sent at once; kept back while the client is slow
    the client is slow              the instance is not read any more: at most one read is kept back
    the client reads again          what was kept back is sent as few large parts; the instance is read
    the client does not read        the connection is broken after a time
    the container's end             end
    the container breaks            ModelStreamError StreamBroken, end
    the time is up                  ModelStreamError ModelInvocationTimeExceeded, end
    the gateway stops               InternalStreamFailure, end
    the client is gone              the connection to the instance is closed, which stops its work
    ==============================  ==============================================================
"""

from collections.abc import Iterable

from moorage.aws import event_stream
from moorage.aws.errors import OurFault, ServiceError
from moorage.gateway import answers, model_errors
from moorage.gateway.connection import WRITE_SECONDS, ClientConnection
from moorage.gateway.exchange import AnswerHead, Break
from moorage.gateway.invocation import InvocationHandling
from moorage.gateway.requests import RequestHead
from moorage.telemetry.capture import RECORD_BYTES

_LAST_CHUNK = b"0\r\n\r\n"


class StreamHandling(InvocationHandling):
    """One invocation with a streamed answer; subclasses say how the stream is written."""

    def __init__(self, client: ClientConnection, head: RequestHead) -> None:
        super().__init__(client, head)
        self._passes_on = False
        """The container's answer is one to be streamed."""
        self._begun = False
        """The client has its 200."""
        self._ends_at = 0.0
        """When, in monotonic seconds, the whole stream has lasted too long."""
        self._in_chunks = False
        self._closes = False
        self._slow = False
        self._kept_back: list[bytes] = []
        self._recorded: list[bytes] = []
        """The container's bytes of a stream in the sample, as far as a record may be large."""
        self._broken: ServiceError | None = None
        """What ended the stream before its time."""

    # For subclasses

    def _is_streamed(self, head: AnswerHead) -> bool:
        """Say whether this answer of the container, a success, is passed on while it comes."""
        raise NotImplementedError

    def _headers(self, head: AnswerHead) -> list[tuple[bytes, bytes]]:
        """Give the headers of the answer that are about its content."""
        raise NotImplementedError

    def _encode(self, data: bytes) -> Iterable[bytes]:
        """Write bytes of the container's body as the client expects them; each piece is a chunk of its own."""
        raise NotImplementedError

    def _encode_fault(self, fault: ServiceError) -> bytes | None:
        """Write what went wrong as the last of the stream; None when there is no way to say it here."""
        raise NotImplementedError

    # Handling

    def client_writable(self, *, writable: bool) -> None:
        """Slow the container down to the client's pace."""
        self._slow = not writable
        if not self._begun or self._done:
            return
        if not writable:
            self._client.deadline = self._reading_limit()
            if self._upstream is not None:
                self._upstream.pause_reading()
            return
        self._client.deadline = self._ends_at
        if self._kept_back:
            self._client.send(self._rest())  # the client may be slow again after it
        if not self._slow and self._upstream is not None:
            self._upstream.resume_reading()

    def time_is_up(self) -> None:
        """Tell that the container has not finished in time, or break with a client that does not read."""
        if not self._begun:
            super().time_is_up()
        elif self._shared.clock.monotonic() >= self._ends_at:
            self._break(model_errors.stream_timed_out(self._container()))
        elif self._client.has_read():
            self._client.deadline = self._reading_limit()
        else:
            self.client_gone()
            self._client.abort()

    def break_off(self) -> None:
        """Tell that the gateway stops in the middle of the stream."""
        if self._begun and not self._done:
            self._break(OurFault("InternalStreamFailure", "Moorage stopped before the response was complete."))
        else:
            super().break_off()

    # AnswerSink

    def answer_received(self, head: AnswerHead) -> None:
        """Take the head; the client sees it with the first byte of the body."""
        if 200 <= head.status < 300 and self._is_streamed(head):
            self._answer = head
            self._hear_front(head)
            self._passes_on = True
        else:
            super().answer_received(head)

    def answer_body_received(self, data: bytes) -> None:
        """Pass on a piece of the answer, or keep it back while the client is slow."""
        if not self._passes_on:
            super().answer_body_received(data)
            return
        if self._done:
            return
        self._answer_size += len(data)
        if self._sampled and self._answer_size <= RECORD_BYTES:
            self._recorded.append(data)
        if self._slow and self._begun:
            self._kept_back.append(data)
            if self._upstream is not None:
                self._upstream.pause_reading()
        elif self._begun:
            self._client.send(self._framed(data))
        else:
            self._begin(data)

    def answer_ended(self) -> None:
        """End the stream; one without a byte begins and ends here."""
        if not self._passes_on:
            super().answer_ended()
        elif not self._done:
            if not self._begun:
                self._begin(b"")
            if not self._done:
                self._record_stream()
                self._end([])

    def answer_broken(self, how: Break) -> None:
        """Tell that the container's answer broke: in the stream, or as a plain answer when there is none yet."""
        if not self._begun:
            super().answer_broken(how)
        elif not self._done:
            self._break(model_errors.stream_broken(self._container()))

    # Inside

    def _time_limit(self) -> float:
        """Say until when the first byte must have come; from now on the time of the whole stream runs, too."""
        self._ends_at = self._shared.ticked_at + self._shared.limits.stream_timeout_seconds
        return min(super()._time_limit(), self._ends_at)

    def _begin(self, data: bytes) -> None:
        """Send the head and the first bytes; from here on the client has its 200."""
        head, invocation = self._answer, self._invocation
        assert head is not None  # noqa: S101 - a piece of its body has come
        assert invocation is not None  # noqa: S101
        try:
            if "SessionId" in invocation.members:
                self._settle_session(invocation, head)  # its headers are not part of this operation
        except ServiceError as fault:
            self._fail(fault, model_status=head.status)
            return
        if self._meter is not None:
            now = self._shared.clock.monotonic()
            self._meter.first_chunk(now - self._forwarded_at, now - self._started)
        version = self._head.version
        self._begun = True
        self._in_chunks = version == "1.1"
        self._closes = self._client.closes() or not self._in_chunks
        self._client.deadline = self._ends_at
        headers = [
            (b"x-amzn-RequestId", self._request_id.encode()),
            (b"x-Amzn-Invoked-Production-Variant", invocation.choice.variant.name.encode()),
            *self._headers(head),
        ]
        if (value := head.field(b"x-amzn-sagemaker-custom-attributes")) is not None:
            headers.append((b"X-Amzn-SageMaker-Custom-Attributes", value))
        encoded = answers.encode_stream_head(
            headers, self._shared.date, chunked=self._in_chunks, close=self._closes, version=version
        )
        self._client.send([encoded, *(self._framed(data) if data else ())])

    def _record_stream(self) -> None:
        """Offer a stream that has come to its end; one that is too large is counted there."""
        if self._sampled and self._answer is not None and self._invocation is not None:
            self._record(self._invocation, self._answer, self._recorded, self._answer_size)

    def _framed(self, data: bytes) -> list[bytes]:
        return [self._chunk(piece) for piece in self._encode(data)]

    def _chunk(self, piece: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(piece), piece) if self._in_chunks else piece

    def _rest(self) -> list[bytes]:
        """Give what was kept back, framed."""
        kept, self._kept_back = self._kept_back, []
        return self._framed(b"".join(kept)) if kept else []

    def _break(self, fault: ServiceError) -> None:
        self._broken = fault
        if self._meter is not None:
            self._meter.stream_broke()
        rest = self._rest()
        last = self._encode_fault(fault)
        if last is not None:
            self._end([*rest, self._chunk(last)])
        elif self._in_chunks:  # the chunk that is missing tells the client
            self._finish(rest, close=True)
        else:
            self.client_gone()
            self._client.abort()

    def _end(self, parts: list[bytes]) -> None:
        last = [_LAST_CHUNK] if self._in_chunks else []
        self._finish([*self._rest(), *parts, *last], close=self._closes or self._client.closes())

    def _finish(self, parts: list[bytes], *, close: bool) -> None:
        self._done = True
        model_status = 0 if self._broken or self._answer is None else self._answer.status
        error = self._broken.code if self._broken is not None else None
        self._note(200, model_status, error, bytes_out=self._answer_size)
        self._let_go()
        self._client.send(parts)
        self._client.deadline = self._shared.clock.monotonic() + WRITE_SECONDS  # to read the end
        self._client.finished(close=close)

    def _reading_limit(self) -> float:
        return min(self._ends_at, self._shared.clock.monotonic() + WRITE_SECONDS)


class ResponseStreamHandling(StreamHandling):
    """InvokeEndpointWithResponseStream: whatever the container answers is sent as an event stream."""

    def _is_streamed(self, head: AnswerHead) -> bool:  # noqa: ARG002 - all are
        return True

    def _headers(self, head: AnswerHead) -> list[tuple[bytes, bytes]]:
        headers = [(b"Content-Type", event_stream.MEDIA_TYPE.encode())]
        if (value := head.field(b"content-type")) is not None:
            headers.append((b"X-Amzn-SageMaker-Content-Type", value))
        return headers

    def _encode(self, data: bytes) -> Iterable[bytes]:
        return event_stream.payload_parts(data)

    def _encode_fault(self, fault: ServiceError) -> bytes:
        members = {name: str(value) for name, value in fault.members.items()}
        return event_stream.exception(fault.code, {"Message": fault.message, **members})
