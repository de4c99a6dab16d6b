"""Records a sample of the invocations (data capture; data-plane.md section 5), beside them and never in their way.

Invocations with small bodies are made lines of at once (``sheets``); of those with larger ones the event loop keeps
references to the bodies that are in memory anyway. Both wait for a thread, bounded in number and bytes; what does not
fit is dropped and counted. The thread makes lines of the large ones and appends all to files (``files``, ``spool``),
``delivery`` brings the finished files into their buckets.

Thread and loop share the interpreter's lock, and a thread that computes gives it up only after 5 ms when asked. So
this one works in slices of a tenth of a millisecond or two and rests in between: that is what an invocation can be
held up by, whatever there is to record. The counters have one writer each, so none needs a lock.
"""

import asyncio
import logging
import threading
from collections import deque
from pathlib import Path

from moorage.base.chance import Chance
from moorage.base.clock import Clock
from moorage.base.ids import Ids
from moorage.base.settings import Settings
from moorage.base.tasks import Tasks
from moorage.gateway.capture.delivery import Delivery
from moorage.gateway.capture.files import Captured, CaptureFiles, Lines, Waiting
from moorage.gateway.capture.sheets import SMALL_BYTES, Sheets
from moorage.gateway.capture.spool import Spool, Target
from moorage.kms.ring import open_ring
from moorage.objects.store import ObjectStore
from moorage.routing.decide import Routing
from moorage.routing.snapshot import Capture, Endpoint
from moorage.telemetry.capture import RECORD_BYTES, Payload

QUEUE_RECORDS = 10_000
QUEUE_BYTES = 67_108_864

RECORD_OVERHEAD_BYTES = 1_000
"""What a waiting record holds beside its bodies, about."""

HURRY_BYTES = 4_194_304
"""From so much on that waits, the thread is woken before its time."""

SLICE_BYTES = 65_536
REST_SECONDS = 0.0002
LEAST_FLUSH_SECONDS = 0.05

MEASURE_SECONDS = 10.0
"""Between two looks how much all gateways have in the spool."""

TELL_SECONDS = 60.0
"""Between two lines in the log about what was dropped."""

STOP_SECONDS = 5.0
"""For the thread to write what waits, at the end."""

DELIVER_SECONDS = 10.0
"""For the files to be delivered, at the end; the next gateway takes over what is left."""

log = logging.getLogger(__name__)


class Recorder:
    """Takes samples of invocations; one per gateway."""

    def __init__(  # noqa: PLR0913 - where everything comes from
        self, settings: Settings, clock: Clock, chance: Chance, ids: Ids, store: ObjectStore, *, event_ids: Ids
    ) -> None:
        """``event_ids`` are asked by the event loop alone, once for each small record."""
        limits = settings.limits
        self.offered = 0
        """Invocations that were sampled and came here."""
        self.dropped_queue_full = 0
        self.dropped_too_large = 0
        self._failed_in_loop = self._failed_in_thread = 0
        self._clock = clock
        self._chance = chance
        self._queue: deque[Waiting] = deque()
        self._sheets = Sheets(event_ids, limits, self._queue_lines)
        self._records_in = self._records_out = 0
        self._bytes_in = self._bytes_out = 0
        self._flush_seconds = max(limits.capture_flush_seconds, LEAST_FLUSH_SECONDS)
        self._live: frozenset[tuple[str, Capture]] = frozenset()
        self._seen_live = self._live
        self._wake = threading.Event()
        self._rest = threading.Event()
        """Never set."""
        self._stopping = False
        self._writer: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handing_over: asyncio.TimerHandle | None = None
        self._delivering: asyncio.Task[None] | None = None
        ring = open_ring(settings, clock, ids)
        self._spool = Spool(settings.data_dir / "spool" / "capture", ids, limits.capture_spool_bytes, ring)
        self._files = CaptureFiles(self._spool, ids, limits, self._finished)
        self._delivery = Delivery(self._spool, store, clock)
        self._measured_at: float | None = None
        self._told_at = 0.0
        self._told = 0
        self._slice_bytes = 0

    def __repr__(self) -> str:
        return (
            f"<Recorder: {self._records_in - self._records_out} waiting, {self._bytes_in - self._bytes_out} bytes, "
            f"{self.offered} offered, {self._files.counts.recorded} recorded, {self.dropped} dropped>"
        )

    # In the event loop

    def start(self, tasks: Tasks) -> None:
        """Begin to deliver, first what dead gateways have left."""
        self._loop = asyncio.get_running_loop()
        self._delivering = tasks.start("deliver captured data", self._delivery.run())

    def samples(self, endpoint: Endpoint) -> bool:
        """Decide whether an invocation of an endpoint is recorded, its shadow copy with it: before it is forwarded."""
        capture = endpoint.capture
        if capture is None:
            return False
        return capture.percentage >= 100.0 or self._chance.random() * 100.0 < capture.percentage

    def offer(  # noqa: PLR0913 - what a record is made of
        self,
        endpoint: Endpoint,
        variant: str,
        inputs: Payload,
        outputs: Payload,
        *,
        at: float,
        custom_attributes: str | None = None,
        inference_id: str | None = None,
    ) -> None:
        """Take a sampled invocation that a variant has answered with success.

        ``at`` is ``clock.now()`` of the invocation. The chunks of the payloads must not be changed afterwards.
        """
        capture = endpoint.capture
        if capture is None:
            return
        self.offered += 1
        kept_inputs = inputs if capture.inputs else None
        kept_outputs = outputs if capture.outputs else None
        size = (inputs.size if capture.inputs else 0) + (outputs.size if capture.outputs else 0)
        if size > RECORD_BYTES:
            self.dropped_too_large += 1
            return
        held = size + RECORD_OVERHEAD_BYTES
        waiting_bytes = self._bytes_in - self._bytes_out + held
        if self._records_in - self._records_out >= QUEUE_RECORDS or waiting_bytes > QUEUE_BYTES or self._stopping:
            self.dropped_queue_full += 1
            return
        if size <= SMALL_BYTES:
            try:
                held = self._sheets.add(
                    endpoint, capture, variant, at, kept_inputs, kept_outputs, custom_attributes, inference_id, held
                )
            except Exception:
                self._failed_in_loop += 1
                log.exception("a captured invocation could not be recorded")
                return
            if self._handing_over is None and self._loop is not None:
                self._handing_over = self._loop.call_later(self._flush_seconds, self._hand_over)
        else:
            self._queue.append(
                Captured(
                    endpoint, capture, variant, at, kept_inputs, kept_outputs, custom_attributes, inference_id, held
                )
            )
            self._hurry()
        self._records_in += 1
        self._bytes_in += held

    def miss(self) -> None:
        """Count a sampled invocation whose bodies were too large to be kept for a record."""
        self.offered += 1
        self.dropped_too_large += 1

    def apply(self, routing: Routing) -> None:
        """Note a new snapshot: the files of what is no longer captured in the same way are closed soon."""
        self._sheets.give_all()
        self._live = frozenset(
            (routes.endpoint.arn, routes.endpoint.capture)
            for routes in routing.endpoints.values()
            if routes.endpoint.capture is not None
        )
        if self._live and self._writer is None and not self._stopping:
            self._writer = threading.Thread(target=self._run, name="recorder", daemon=True)
            self._writer.start()

    @property
    def dropped_failed(self) -> int:
        """Count the sampled invocations that could not be made a record of; the log says why."""
        return self._failed_in_loop + self._failed_in_thread

    @property
    def dropped(self) -> int:
        """Count the sampled invocations that are not recorded, and those whose record is given up."""
        files = self._files.counts
        dropped = self.dropped_queue_full + self.dropped_too_large + self.dropped_failed
        dropped += files.dropped_spool_full + files.dropped_disk + files.dropped_destination
        return dropped + self._delivery.counts.records_given_up

    def counts(self) -> dict[str, int]:
        """Give the counters and gauges.

        Of records: ``offered``, ``recorded``, ``waiting``, ``waiting_bytes`` and ``dropped_queue_full``,
        ``dropped_too_large``, ``dropped_failed``, ``dropped_spool_full``, ``dropped_disk``, ``dropped_destination``. Of
        files: ``files_waiting``, ``files_delivered``, ``files_adopted``, ``files_given_up``; attempts to deliver one
        that failed because of the store, ``delivery_failures``, or of the bucket, ``delivery_refusals``.
        ``spool_bytes`` is what lies on the disk.
        """
        files, delivery = self._files.counts, self._delivery.counts
        return {
            "offered": self.offered,
            "recorded": files.recorded,
            "waiting": self._records_in - self._records_out,
            "waiting_bytes": self._bytes_in - self._bytes_out,
            "dropped_queue_full": self.dropped_queue_full,
            "dropped_too_large": self.dropped_too_large,
            "dropped_failed": self.dropped_failed,
            "dropped_spool_full": files.dropped_spool_full,
            "dropped_disk": files.dropped_disk,
            "dropped_destination": files.dropped_destination,
            "files_waiting": self._delivery.waiting,
            "files_delivered": delivery.delivered,
            "files_adopted": delivery.adopted,
            "files_given_up": delivery.given_up,
            "delivery_failures": delivery.failures,
            "delivery_refusals": delivery.refusals,
            "spool_bytes": self._spool.used_bytes,
        }

    async def close(self) -> None:
        """Write what waits, deliver what can be delivered soon, and leave the rest to the next gateway."""
        if self._handing_over is not None:
            self._handing_over.cancel()
        self._sheets.give_all()
        self._stopping = True
        self._wake.set()
        await asyncio.to_thread(self._end_thread)
        if self._delivering is not None:
            self._delivering.cancel()
            await asyncio.wait([self._delivering])
            try:
                async with asyncio.timeout(DELIVER_SECONDS):
                    await self._delivery.finish()
            except TimeoutError:
                log.warning("%d files of captured data are left to the next gateway", self._delivery.waiting)
        await asyncio.to_thread(self._spool.close)

    def _queue_lines(self, lines: Lines) -> None:
        """Let the thread write the lines of a sheet."""
        self._queue.append(lines)
        self._hurry()

    def _hurry(self) -> None:
        """Wake the thread before its time when much waits."""
        if self._bytes_in - self._bytes_out >= HURRY_BYTES and not self._wake.is_set():
            self._wake.set()

    def _hand_over(self) -> None:
        """Let the thread write what is on the sheets: it has been in memory for as long as it may."""
        self._handing_over = None
        self._sheets.give_all()
        self._wake.set()

    # In the thread

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(self._flush_seconds)
            self._wake.clear()
            try:
                self._turn()
            except Exception:
                log.exception("captured invocations are lost")
        self._end()

    def _end_thread(self) -> None:
        if self._writer is None:
            self._end()
            return
        self._writer.join(STOP_SECONDS)
        if self._writer.is_alive():
            log.warning("captured invocations are lost: the disk does not take them in time")

    def _end(self) -> None:
        self._turn()
        self._files.close(self._clock.monotonic())

    def _turn(self) -> None:
        """Write all that waits, close the files that are due."""
        clock, queue, files, live = self._clock, self._queue, self._files, self._live
        now = clock.monotonic()
        self._look_around(now)
        while queue:
            waiting = queue.popleft()
            try:
                files.add(waiting, now, self._breathe)
            except Exception:
                self._failed_in_thread += waiting.records
                log.exception("a captured invocation could not be recorded")
            self._records_out += waiting.records
            self._bytes_out += waiting.size
            del waiting
            now = clock.monotonic()
        files.flush(now)
        if live is not self._seen_live:
            files.keep_only(live, now)
            self._seen_live = live

    def _breathe(self, size: int) -> None:
        """Rest when the pieces of large bodies were work enough for a slice."""
        self._slice_bytes += size
        if self._slice_bytes >= SLICE_BYTES:
            self._take_rest()

    def _take_rest(self) -> None:
        self._slice_bytes = 0
        self._rest.wait(REST_SECONDS)

    def _look_around(self, now: float) -> None:
        if self._measured_at is None or now >= self._measured_at + MEASURE_SECONDS:
            self._measured_at = now
            self._spool.measure()
        if self.dropped > self._told and now >= self._told_at + TELL_SECONDS:
            log.warning("captured invocations were dropped: %s", _only_drops(self.counts()))
            self._told, self._told_at = self.dropped, now

    def _finished(self, path: Path, target: Target) -> None:
        """Hand a file over to the event loop."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._delivery.add, path, target)


def _only_drops(counts: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if name.startswith("dropped") and count}
