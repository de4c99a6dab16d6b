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
from moorage.telemetry.capture import Encodings, Payload, Record, encode_record, object_key

MOST_OPEN = 256
"""Open files; for one more the oldest is closed early."""

PAUSE_SECONDS = 1.0
"""After a disk has refused, for which nothing is written: a full disk is not asked a thousand times a second."""

log = logging.getLogger(__name__)


class Waiting:
    """What waits for the recorder's thread."""

    __slots__ = ("at", "capture", "endpoint", "records", "size", "variant")

    def __init__(  # noqa: PLR0913, PLR0917 - where it goes, and how much it is
        self, endpoint: Endpoint, capture: Capture, variant: str, at: float, records: int, size: int
    ) -> None:
        self.endpoint = endpoint
        self.capture = capture
        """The endpoint's."""
        self.variant = variant
        self.at = at
        """Of the first record, in seconds since the epoch."""
        self.records = records
        self.size = size
        """What it holds in memory."""


class Captured(Waiting):
    """An invocation whose line is still to be made."""

    __slots__ = ("custom_attributes", "inference_id", "inputs", "outputs")

    def __init__(  # noqa: PLR0913, PLR0917 - what a record is made of
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
        super().__init__(endpoint, capture, variant, at, 1, size)
        self.inputs = inputs
        self.outputs = outputs
        self.custom_attributes = custom_attributes
        self.inference_id = inference_id


class Lines(Waiting):
    """Invocations of one variant that are lines already."""

    __slots__ = ("lines",)

    def __init__(  # noqa: PLR0913, PLR0917 - where they go, and how much they are
        self, endpoint: Endpoint, capture: Capture, variant: str, at: float, lines: list[bytes], size: int
    ) -> None:
        super().__init__(endpoint, capture, variant, at, len(lines), size)
        self.lines = lines

    def split(self, records: int) -> "tuple[Lines, Lines]":
        """Give the first so many, and the rest."""
        size = self.size * records // self.records
        return (
            Lines(self.endpoint, self.capture, self.variant, self.at, self.lines[:records], size),
            Lines(self.endpoint, self.capture, self.variant, self.at, self.lines[records:], self.size - size),
        )


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
        self._paused_until = 0.0

    def __repr__(self) -> str:
        return f"<CaptureFiles: {len(self._open)} open, {self.counts}>"

    def add(self, waiting: Waiting, now: float, breathe: Callable[[int], None]) -> None:
        """Write records, or count why not; ``now`` is ``clock.monotonic()``."""
        counts = self.counts
        if now < self._paused_until:
            counts.dropped_disk += waiting.records
            return
        if not self._spool.has_room(waiting.size):
            counts.dropped_spool_full += waiting.records
            return
        try:
            key, opened = self._find(waiting, now)
        except (UnusableUri, UnusableTarget):
            counts.dropped_destination += waiting.records
            return
        except OSError as fault:
            counts.dropped_disk += waiting.records
            self._refused(fault, now)
            return
        room = self._limits.capture_file_records - opened.file.records
        if isinstance(waiting, Lines) and waiting.records > room:
            for part in waiting.split(room):
                self.add(part, now, breathe)
        else:
            self._write(waiting, key, opened, now, breathe)

    def _write(self, waiting: Waiting, key: _Key, opened: _Open, now: float, breathe: Callable[[int], None]) -> None:
        file, counts = opened.file, self.counts
        size = file.size
        try:
            if isinstance(waiting, Lines):
                file.append_lines(waiting.lines)
            elif isinstance(waiting, Captured):
                file.append(encode_record(self._record(waiting), opened.encodings), breathe)
        except OSError as fault:
            counts.dropped_disk += waiting.records
            self._broken(key, fault, now)
            return
        counts.recorded += waiting.records
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

    def _find(self, waiting: Waiting, now: float) -> tuple[_Key, _Open]:
        """Find or begin the file of what waits."""
        key = (waiting.endpoint.arn, waiting.variant, waiting.capture)
        return key, self._open.get(key) or self._begin(key, waiting, now)

    def _begin(self, key: _Key, first: Waiting, now: float) -> _Open:
        if len(self._open) >= MOST_OPEN:
            self._close(min(self._open, key=lambda one: self._open[one].file.opened_at), now)
        capture = first.capture
        bucket, prefix = parse_s3_uri(capture.destination)
        endpoint = first.endpoint
        name = object_key(prefix, endpoint.name, first.variant, first.at, self._ids.request_id())
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
