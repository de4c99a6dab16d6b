"""Captured invocations with small bodies: made lines of at once, in the event loop, and gathered for the files.

To make a line takes about a microsecond. To hand an invocation to a thread instead takes several, because thread and
event loop share the interpreter's lock. So only what can take long is left to the recorder's thread: large bodies, and
the files. It is given a *sheet* at a time: the lines of one endpoint, variant and configuration.
"""

from collections.abc import Callable

from moorage.base.ids import Ids
from moorage.base.settings import Limits
from moorage.gateway.capture.files import Lines
from moorage.routing.snapshot import Capture, Endpoint
from moorage.telemetry.capture import Encodings, Payload, encode_line

SMALL_BYTES = 2_048
"""Bodies up to this sum are small: 3 microseconds, and 25 if they are nothing but control characters."""

SHEET_BYTES = 65_536
"""A sheet of this size is given away."""


class _Sheet:
    """The lines of one endpoint and variant since the last ones were given away."""

    __slots__ = ("at", "capture", "encodings", "endpoint", "length", "lines", "size", "variant")

    def __init__(self, endpoint: Endpoint, capture: Capture, variant: str) -> None:
        self.endpoint = endpoint
        self.capture = capture
        self.variant = variant
        self.encodings = Encodings(capture.csv_types, capture.json_types)
        self.at = 0.0
        """Of the first record."""
        self.lines: list[bytes] = []
        self.length = 0
        """Bytes of the lines."""
        self.size = 0
        """What they count for in memory."""

    def tear_off(self) -> Lines:
        """Give what is written on it, and begin anew."""
        torn = Lines(self.endpoint, self.capture, self.variant, self.at, self.lines, self.size)
        self.lines, self.length, self.size = [], 0, 0
        return torn


class Sheets:
    """The sheets of a gateway; its event loop's alone."""

    def __init__(self, ids: Ids, limits: Limits, give: Callable[[Lines], None]) -> None:
        """``give`` takes the lines of a sheet that is full, or of another configuration than those that follow."""
        self._ids = ids
        self._give = give
        self._most_bytes = min(SHEET_BYTES, limits.capture_file_bytes)
        self._most_records = limits.capture_file_records
        self._sheets: dict[tuple[str, str], _Sheet] = {}
        """By the endpoint's ARN and the variant."""

    def __repr__(self) -> str:
        return f"<Sheets: {len(self._sheets)}, {sum(len(sheet.lines) for sheet in self._sheets.values())} lines>"

    def add(  # noqa: PLR0913, PLR0917 - what a record is made of
        self,
        endpoint: Endpoint,
        capture: Capture,
        variant: str,
        at: float,
        inputs: Payload | None,
        outputs: Payload | None,
        custom_attributes: str | None,
        inference_id: str | None,
        least_size: int,
    ) -> int:
        """Write the line of a record; gives what it holds in memory, which is at least ``least_size``."""
        sheet = self._sheets.get((endpoint.arn, variant))
        if sheet is None or sheet.endpoint is not endpoint:
            sheet = self._begin(endpoint, capture, variant)
        line = encode_line(
            self._ids.request_id(), at, inputs, outputs, custom_attributes, inference_id, sheet.encodings
        )
        lines, length = sheet.lines, len(line)
        if not lines:
            sheet.at = at
        size = length if length > least_size else least_size  # noqa: FURB136 - max() is a call, which takes longer
        lines.append(line)
        sheet.length += length
        sheet.size += size
        if sheet.length >= self._most_bytes or len(lines) >= self._most_records:
            self._give(sheet.tear_off())
        return size

    def give_all(self) -> None:
        """Give away what there is, and forget the endpoints."""
        for sheet in self._sheets.values():
            if sheet.lines:
                self._give(sheet.tear_off())
        self._sheets = {}

    def _begin(self, endpoint: Endpoint, capture: Capture, variant: str) -> _Sheet:
        """Begin a sheet, or go on with that of an earlier snapshot if nothing of the configuration has changed."""
        key = (endpoint.arn, variant)
        sheet = self._sheets.get(key)
        if sheet is not None and sheet.capture == capture:
            sheet.endpoint = endpoint
            return sheet
        if sheet is not None and sheet.lines:
            self._give(sheet.tear_off())
        sheet = self._sheets[key] = _Sheet(endpoint, capture, variant)
        return sheet
