"""The open files of a gateway's captured data: which record goes into which, and when one is closed.

One file an endpoint, variant and configuration. It is closed when it is old, large or has many records, when its
endpoint or its configuration is no longer in the snapshot, and at the end. Runs in the recorder's thread, without a
thought of threads: what time it is, is passed in.
"""

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from moorage.base.ids import Ids
from moorage.base.settings import Limits
from moorage.gateway.capture.spool import Spool, SpoolFile, Target, UnusableTarget
from moorage.objects.faults import UnusableUri
from moorage.objects.store import parse_s3_uri
from moorage.routing.snapshot import Capture, Endpoint
from moorage.telemetry.capture import Encodings, Payload, Record, encode_record, encode_small, object_key

SMALL_BYTES = 16_384
"""Records up to this size are work for so short a time that nobody needs a rest in between."""

MOST_OPEN = 256
"""Open files; for one more the oldest is closed early."""

PAUSE_SECONDS = 1.0
"""After a disk has refused, for which nothing is written: a full disk is not asked a thousand times a second."""

log = logging.getLogger(__name__)


class Captured:
    """An invocation as it waits for the recorder's thread."""

    __slots__ = (
        "at",
        "capture",
        "custom_attributes",
        "endpoint",
        "inference_id",
        "inputs",
        "outputs",
        "size",
        "variant",
    )

    def __init__(  # noqa: PLR0913, PLR0917 - one for each captured invocation
        self,
        endpoint: Endpoint,
        capture: Capture,
        variant: str,
        at: float,
        inputs: Payload | None,
        outputs: Payload | None,
        custom_attributes: str | None,
        inference_id: str | None,
        size: int,
    ) -> None:
        self.endpoint = endpoint
        self.capture = capture
        """The endpoint's."""
        self.variant = variant
        self.at = at
        self.inputs = inputs
        self.outputs = outputs
        self.custom_attributes = custom_attributes
        self.inference_id = inference_id
        self.size = size
        """What it holds in memory."""


@dataclass(eq=False, slots=True)
class FileCounts:
    """What has become of the captured invocations that came here."""

    recorded: int = 0
    dropped_spool_full: int = 0
    dropped_disk: int = 0
    """The disk refused."""
    dropped_destination: int = 0
    """The configuration's destination is not of the form ``s3://bucket/prefix``, or its key cannot be used."""


@dataclass(eq=False, slots=True)
class _Open:
    file: SpoolFile
    encodings: Encodings


_Key = tuple[str, str, Capture]


class CaptureFiles:
    """Takes captured invocations, and gives finished files away."""

    def __init__(self, spool: Spool, ids: Ids, limits: Limits, finished: Callable[[Path, Target], None]) -> None:
        """``finished`` is told of each file that is complete."""
        self.counts = FileCounts()
        self._spool = spool
        self._ids = ids
        self._limits = limits
        self._finished = finished
        self._open: dict[_Key, _Open] = {}
        self._last: dict[str, tuple[Endpoint, _Key, _Open]] = {}
        """By variant, because working out what a configuration is equal to takes long."""
        self._paused_until = 0.0

    def __repr__(self) -> str:
        return f"<CaptureFiles: {len(self._open)} open, {self.counts}>"

    def add(self, captured: Captured, now: float, breathe: Callable[[int], None]) -> None:
        """Write a record, or count why not; ``now`` is ``clock.monotonic()``."""
        counts = self.counts
        if now < self._paused_until:
            counts.dropped_disk += 1
            return
        if not self._spool.has_room(captured.size):
            counts.dropped_spool_full += 1
            return
        try:
            key, opened = self._find(captured, now)
        except (UnusableUri, UnusableTarget):
            counts.dropped_destination += 1
            return
        except OSError as fault:
            counts.dropped_disk += 1
            self._refused(fault, now)
            return
        file = opened.file
        size = file.size
        try:
            if captured.size <= SMALL_BYTES:
                file.append_line(encode_small(self._record(captured), opened.encodings))
            else:
                file.append(encode_record(self._record(captured), opened.encodings), breathe)
        except OSError as fault:
            counts.dropped_disk += 1
            self._broken(key, fault, now)
            return
        counts.recorded += 1
        self._spool.note(file.size - size)
        if file.size >= self._limits.capture_file_bytes or file.records >= self._limits.capture_file_records:
            self._close(key, now)

    def flush(self, now: float) -> None:
        """Leave nothing in memory; close what is old."""
        for key, opened in list(self._open.items()):
            try:
                opened.file.flush()
            except OSError as fault:
                self._broken(key, fault, now)
            else:
                if now - opened.file.opened_at >= self._limits.capture_file_seconds:
                    self._close(key, now)

    def keep_only(self, live: Collection[tuple[str, Capture]], now: float) -> None:
        """Close the files of endpoints and configurations that are no longer among these."""
        for key in [key for key in self._open if (key[0], key[2]) not in live]:
            self._close(key, now)

    def close(self, now: float) -> None:
        """Close all files."""
        for key in list(self._open):
            self._close(key, now)

    def _find(self, captured: Captured, now: float) -> tuple[_Key, _Open]:
        """Find or begin the file of a record: most often that of the last one of this variant."""
        last = self._last.get(captured.variant)
        if last is not None and last[0] is captured.endpoint and self._open.get(last[1]) is last[2]:
            return last[1], last[2]
        key = (captured.endpoint.arn, captured.variant, captured.capture)
        opened = self._open.get(key) or self._begin(key, captured, now)
        if len(self._last) >= MOST_OPEN:
            self._last.clear()
        self._last[captured.variant] = (captured.endpoint, key, opened)
        return key, opened

    def _begin(self, key: _Key, captured: Captured, now: float) -> _Open:
        if len(self._open) >= MOST_OPEN:
            self._close(min(self._open, key=lambda one: self._open[one].file.opened_at), now)
        capture = captured.capture
        bucket, prefix = parse_s3_uri(capture.destination)
        name = object_key(prefix, captured.endpoint.name, captured.variant, captured.at, self._ids.request_id())
        endpoint = captured.endpoint
        file = self._spool.create(Target(endpoint.account, bucket, name, endpoint.region, capture.kms_key), now)
        opened = self._open[key] = _Open(file, Encodings(capture.csv_types, capture.json_types))
        return opened

    def _record(self, captured: Captured) -> Record:
        return Record(
            self._ids.request_id(),
            captured.at,
            captured.inputs,
            captured.outputs,
            captured.custom_attributes,
            captured.inference_id,
        )

    def _close(self, key: _Key, now: float) -> None:
        file = self._open[key].file
        try:
            file.flush()
        except OSError as fault:
            self._broken(key, fault, now)
            return
        del self._open[key]
        file.close()
        self._finished(file.path, file.target)

    def _broken(self, key: _Key, fault: OSError, now: float) -> None:
        """Give up a file that the disk does not take; what is whole of it goes its way."""
        file = self._open.pop(key).file
        lost = file.records - file.flushed_records
        self.counts.recorded -= lost
        self.counts.dropped_disk += lost
        file.close()
        self._finished(file.path, file.target)
        self._refused(fault, now)

    def _refused(self, fault: OSError, now: float) -> None:
        if self._paused_until == 0.0 or now - self._paused_until > 60.0:
            log.warning("captured data cannot be written: %s", fault)
        self._paused_until = now + PAUSE_SECONDS
