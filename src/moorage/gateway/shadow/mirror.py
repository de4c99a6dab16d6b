"""Copies invocations to the shadow variant (data-plane.md section 6), without anybody waiting for it.

A copy is the production's request with the same bytes in memory, sent to an instance of the shadow variant; its
answer is read and dropped, or recorded when the invocation is captured. Whatever the shadow does, a client sees
nothing of it:

- copies in flight are bounded, per endpoint, in number and in the bytes that they hold; what does not fit is not
  copied, and counted;
- none lives longer than the time limit of an invocation, or a moment when its instance has left the snapshot: that
  may be stopped as soon as nobody waits for it; none is tried twice;
- an answer is read up to the largest size of an answer, and no faster than ``READ_BYTES`` a tick for all copies, so
  that an endless one does not keep the event loop busy;
- copies are sent when the event loop has done its turn, and sent what is for the clients and production: all those of
  a turn one after the other, so that their instance is woken once for them and not once for each;
- an instance that refuses is left alone for a growing time, and is reported once in that time (``refusals``).
"""

from collections import deque
from dataclasses import asdict

from moorage.base.chance import Chance
from moorage.base.clock import Clock
from moorage.base.settings import Limits
from moorage.gateway.capture.recorder import Recorder
from moorage.gateway.instances import Instances
from moorage.gateway.shadow.copies import (
    SHADOW_BYTES,
    Common,
    Copy,
    Observer,
    Shadowed,
    observe_nothing,
)
from moorage.gateway.shadow.refusals import Refusals
from moorage.routing.decide import Refusal, Routing, decide
from moorage.routing.snapshot import Endpoint
from moorage.telemetry.capture import Payload
from moorage.telemetry.meters import Meters

CLOSE_SECONDS = 1.0
"""For the copies in flight when the gateway is told to stop, or their instance has left the snapshot."""

_CLOSE_LOOK_SECONDS = 0.025


class Metered:
    """Counts copies like invocations of the shadow variant."""

    def __init__(self, meters: Meters) -> None:
        self._meters = meters

    def note(self, endpoint: Endpoint, variant: str, status: int, seconds: float) -> None:
        """Count one copy that has ended."""
        meter = self._meters.of(endpoint.account, endpoint.region, endpoint.name, variant)
        meter.begin()
        meter.end(status, seconds, seconds, max(1, len(endpoint.shadows[0].instances)))


class Mirror:
    """The copies of one gateway."""

    def __init__(  # noqa: PLR0913 - what a copy needs, and who hears of it
        self,
        instances: Instances,
        recorder: Recorder,
        limits: Limits,
        clock: Clock,
        chance: Chance,
        *,
        observe: Observer = observe_nothing,
    ) -> None:
        self._instances = instances
        self._refusals = Refusals(instances, clock)
        self._common = Common(recorder, self._refusals, clock, limits.invocation_body_bytes, observe)
        self._clock = clock
        self._chance = chance
        self._most_in_flight = limits.shadow_invocations
        self._timeout_seconds = limits.invocation_timeout_seconds
        self._shadowed: dict[str, Shadowed] = {}
        self._leaving: deque[tuple[float, Copy]] = deque()
        """Copies that are to end soon, and when."""
        self._closed = False

    def __repr__(self) -> str:
        counts = self.counts()
        return (
            f"<Mirror: {counts['in_flight']} in flight, {counts['held_bytes']} bytes, "
            f"{len(self._refusals)} instances refuse, {counts['copied']} copied>"
        )

    def copy(  # noqa: PLR0913 - what a request is made of
        self,
        endpoint: Endpoint,
        inputs: Payload,
        forwarded: bytes,
        *,
        at: float,
        sampled: bool,
        custom_attributes: str | None = None,
        inference_id: str | None = None,
    ) -> None:
        """Count an invocation that a production variant has been given, and copy it if it is the shadow's turn.

        ``forwarded`` are the lines of the client's headers that the container sees. ``sampled`` is what the recorder
        has said of this invocation, ``at`` its ``clock.now()``. The chunks of ``inputs`` must not be changed
        afterwards.
        """
        if not endpoint.shadows or self._closed:
            return
        shadowed = self._find(endpoint)
        if not shadowed.counter.next():
            return
        total, size = self._common.total, inputs.size
        if size > SHADOW_BYTES:
            total.skipped_too_large += 1
            return
        if shadowed.in_flight >= self._most_in_flight or shadowed.held_bytes + size > SHADOW_BYTES:
            total.skipped_full += 1
            return
        choice = decide(
            shadowed.routes, None, self._chance, self._instances.conditions, tried=self._refusals.left_alone()
        )
        if isinstance(choice, Refusal):
            total.skipped_no_instance += 1
            return
        total.copied += 1
        instance = choice.instance
        copy = Copy(self._common, shadowed, instance, forwarded, inputs, at, custom_attributes, inference_id, sampled)
        self._instances.borrow(instance, copy, look=False)

    def apply(self, routing: Routing) -> None:
        """Note a new snapshot: what is not in it is forgotten."""
        if self._shadowed:
            arns = {routes.endpoint.arn for routes in routing.endpoints.values() if routes.endpoint.shadows}
            self._shadowed = {arn: shadowed for arn, shadowed in self._shadowed.items() if arn in arns}
        self._refusals.keep_only(routing.instances)
        until = self._clock.monotonic() + CLOSE_SECONDS
        for copy in self._common.in_flight:
            if copy.instance.instance_id not in routing.instances and not copy.leaving:
                copy.leaving = True
                self._leaving.append((until, copy))

    def tick(self, now: float) -> None:
        """End the copies that have taken too long, let the others be read: ``now`` is ``clock.monotonic()``."""
        common = self._common
        common.read_on()
        due = []
        for copy in common.in_flight:
            if copy.started + self._timeout_seconds > now:
                break
            due.append(copy)
        for copy in due:
            if copy.connection is not None:  # dialling has its own, shorter end
                common.total.timed_out += 1
                copy.end(0)
        while self._leaving and self._leaving[0][0] <= now:
            _, copy = self._leaving.popleft()
            if copy in common.in_flight:
                common.total.abandoned += 1
                copy.end(None)

    def counts(self) -> dict[str, int]:
        """Give the counters and gauges.

        Of invocations that were to be copied: ``copied``, ``skipped_full``, ``skipped_too_large``,
        ``skipped_no_instance``; of copies: ``answered`` (2xx), ``model_errors`` (another status), ``broken``,
        ``timed_out``, ``answer_too_large``, ``refused``, ``abandoned``; ``in_flight`` and ``held_bytes``.
        """
        common = self._common
        return {
            **asdict(common.total),
            "in_flight": len(common.in_flight),
            "held_bytes": sum(copy.held_bytes for copy in common.in_flight),
        }

    async def close(self) -> None:
        """Copy no more; give those in flight a moment, then end them."""
        self._closed = True
        common, clock = self._common, self._clock
        until = clock.monotonic() + CLOSE_SECONDS
        while common.in_flight and clock.monotonic() < until:
            await clock.sleep_until(clock.monotonic() + _CLOSE_LOOK_SECONDS)
        for copy in list(common.in_flight):
            common.total.abandoned += 1
            copy.end(None)

    def _find(self, endpoint: Endpoint) -> Shadowed:
        shadowed = self._shadowed.get(endpoint.arn)
        if shadowed is None:
            shadowed = self._shadowed[endpoint.arn] = Shadowed(endpoint)
        elif shadowed.endpoint is not endpoint:
            shadowed.renew(endpoint)
        return shadowed
