"""Reads one stream: by position, by time, forward and backward, a block of its files at a time."""

import bisect
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from moorage.logs import lines, names

_FIRST_BLOCK = 16_384
_LARGEST_BLOCK = 262_144
_PROBE_BYTES = 4_096


class Event(NamedTuple):
    """One line."""

    time: int
    """Milliseconds since the epoch."""
    position: int
    end: int
    """Position of what follows."""
    message: bytes
    """As it was printed, without the line end."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One file of a stream."""

    base: int
    path: Path
    size: int

    @property
    def end(self) -> int:
        """Position of what follows."""
        return self.base + self.size


class StreamReader:
    """A stream as it is when this is made. Segments that are removed meanwhile have no events."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.segments = _segments(folder)

    @property
    def start(self) -> int:
        """Position of the first event that is kept."""
        return self.segments[0].base if self.segments else 0

    @property
    def end(self) -> int:
        """Position after the last line that has an end."""
        for segment in reversed(self.segments):
            if (end := _last_line_end(segment)) > 0:
                return segment.base + end
        return self.start

    def is_finished(self) -> bool:
        """Say whether the last line has its end."""
        return not self.segments or self.end == self.segments[-1].end

    def unfinished(self) -> Event | None:
        """Give the line that has no end yet; None: there is none."""
        if not self.segments or self.is_finished():
            return None
        segment, place = self.segments[-1], self.end
        return _event(_read(segment, place - segment.base, lines.MOST_BYTES + 2 * lines.STAMP_BYTES), place, 0)

    def created(self) -> int | None:
        """Give the time at which the stream was made; None when nobody knows."""
        return created(self._folder)

    def first_time(self) -> int | None:
        """Give the time of the first event; None: there is none."""
        return next((event.time for event in self.forward(self.start, self.end)), None)

    def last_time(self) -> int | None:
        """Give the time of the last event, one without an end too; None: there is none."""
        if (unfinished := self.unfinished()) is not None:
            return unfinished.time
        return next((event.time for event in self.backward(self.end, self.start)), None)

    def at_time(self, time: int) -> int:
        """Give the position of the first event that is not before a time: where that is found by halving."""
        if time <= 0:
            return self.start
        index = bisect.bisect_left(self.segments, time, key=_first_time)
        # The segment before the first that begins late enough may have the event.
        return self._search(self.segments[index - 1], time) if index else self.start

    def _search(self, segment: Segment, time: int) -> int:
        low, high = 0, segment.size  # at `low` begins a line that is before the time; at `high` none that is
        try:
            with segment.path.open("rb", buffering=0) as file:
                while high - low > 1:
                    middle = (low + high) // 2
                    begin = _next_line(file.fileno(), middle, segment.size)
                    if begin < segment.size and (_time_at(file.fileno(), begin) or 0) < time:
                        low = max(begin, middle)
                    else:
                        high = middle
                return segment.base + _next_line(file.fileno(), high, segment.size)
        except FileNotFoundError:
            return segment.end

    def is_boundary(self, position: int) -> bool:
        """Say whether a line can begin at a position; one of what is no longer kept, or not yet there, is as good."""
        for segment in self.segments:
            if segment.base < position < segment.end:
                return _read(segment, position - segment.base - 1, 1) in {b"\n", b""}
        return True

    def forward(self, position: int, stop: int) -> Iterator[Event]:
        """Give the events from a position, which must be one of an event, up to another, oldest first."""
        for segment in self.segments:
            if segment.end > position and segment.base < stop:
                begin = max(position, segment.base)
                yield from _forward(segment, begin - segment.base, min(stop, segment.end) - segment.base)

    def backward(self, position: int, stop: int) -> Iterator[Event]:
        """Give the events before a position, which must be one of an event, down to another, newest first."""
        for segment in reversed(self.segments):
            if segment.base < position and segment.end > stop:
                begin = min(position, segment.end)
                yield from _backward(segment, begin - segment.base, max(stop, segment.base) - segment.base)


def created(folder: Path) -> int | None:
    """Give the time at which a stream or group was made; None when nobody knows."""
    try:
        return lines.read_stamp((folder / names.CREATED).read_bytes())
    except FileNotFoundError:
        return None


def tail(folder: Path, most_lines: int, most_bytes: int) -> str:
    """Give what was printed last, without the times; empty when that is nothing."""
    reader = StreamReader(folder)
    unfinished = reader.unfinished()
    found = [] if unfinished is None else [unfinished.message]
    size = sum(map(len, found))
    for event in reader.backward(reader.end, reader.start):
        if len(found) == most_lines or size >= most_bytes:
            break
        found.append(event.message)
        size += len(event.message) + 1
    return b"\n".join(reversed(found))[-most_bytes:].decode(errors="replace")


def _segments(folder: Path) -> list[Segment]:
    try:
        with os.scandir(folder) as entries:
            found = [
                Segment(base, Path(entry.path), entry.stat().st_size)
                for entry in entries
                if (base := names.segment_base(entry.name)) is not None
            ]
    except FileNotFoundError:
        return []
    return sorted(found, key=lambda segment: segment.base)


def _event(line: bytes, position: int, time_before: int) -> Event:
    """Make an event of a line without its end; one without a time has that of the line before."""
    time = lines.read_stamp(line)
    message = line if time is None else line[lines.STAMP_BYTES :]
    return Event(time_before if time is None else time, position, position + len(line) + 1, message)


def _forward(segment: Segment, begin: int, stop: int) -> Iterator[Event]:
    rest, place, time, block = b"", begin, 0, _FIRST_BLOCK
    while place < stop and (piece := _read(segment, place, min(block, stop - place))):
        *whole, left = (rest + piece).split(b"\n")
        position = segment.base + place - len(rest)
        for line in whole:
            event = _event(line, position, time)
            time, position = event.time, event.end
            yield event
        rest, place, block = left, place + len(piece), min(2 * block, _LARGEST_BLOCK)


def _backward(segment: Segment, begin: int, stop: int) -> Iterator[Event]:
    rest, place, block = b"", begin, _FIRST_BLOCK
    while place > stop:
        size = min(block, place - stop)
        piece = _read(segment, place - size, size)
        if len(piece) < size:
            return
        place, block = place - size, min(2 * block, _LARGEST_BLOCK)
        text = piece + rest
        # What stands before the first line end is the end of a line, unless the lines that are wanted begin here.
        cut = 0 if place == stop else text.find(b"\n") + 1
        if cut == 0 and place > stop:
            rest = text
            continue
        rest, whole = text[:cut], text[cut:]
        position = segment.base + place + len(text)
        for line in reversed(whole.removesuffix(b"\n").split(b"\n") if whole else ()):
            event = _event(line, position - len(line) - 1, 0)
            position = event.position
            yield event


def _read(segment: Segment, place: int, size: int) -> bytes:
    """Read some bytes of a segment; none when it has been removed."""
    try:
        descriptor = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        return os.pread(descriptor, size, place)
    finally:
        os.close(descriptor)


def _last_line_end(segment: Segment) -> int:
    """Give the place after the last line end of a segment; 0 when it has none."""
    place = segment.size
    while place > 0:
        size = min(_PROBE_BYTES, place)
        found = _read(segment, place - size, size).rfind(b"\n")
        if found >= 0:
            return place - size + found + 1
        place -= size
    return 0


def _first_time(segment: Segment) -> int:
    return lines.read_stamp(_read(segment, 0, lines.STAMP_BYTES)) or 0


def _next_line(descriptor: int, place: int, size: int) -> int:
    """Give the place of the first line that begins at a place or after it; the size when none does."""
    if place == 0:
        return 0
    place -= 1
    while piece := os.pread(descriptor, min(_PROBE_BYTES, max(0, size - place)), place):
        if (found := piece.find(b"\n")) >= 0:
            return place + found + 1
        place += len(piece)
    return size


def _time_at(descriptor: int, place: int) -> int | None:
    return lines.read_stamp(os.pread(descriptor, lines.STAMP_BYTES, place))
