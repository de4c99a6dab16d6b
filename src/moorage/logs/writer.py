"""Writes one stream: stamps lines, splits those that are too long, begins new segments, lets old ones go."""

import contextlib
import os
from dataclasses import dataclass

from moorage.logs import lines, names
from moorage.logs.names import Place
from moorage.logs.reader import StreamReader

PIECE_BYTES = 65_536
"""Most that is written at once."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much of one stream is kept."""

    segment_bytes: int
    """Size at which a segment is full."""
    segments: int
    """Full segments that are kept beside the present one."""


class StreamWriter:
    """The end of one stream. What has come of a line is on disk at once, so nothing waits in memory.

    The file is opened for each piece: a thousand instances that print nothing hold no descriptors.
    """

    def __init__(self, place: Place, bounds: Bounds, now: int) -> None:
        """Begin a stream, or go on with one that is there; ``now`` in milliseconds. Raises OSError."""
        self._folder = place.folder
        self._bounds = bounds
        self._line = 0
        """Bytes that the unfinished line has; 0: the next byte begins a line."""
        self._lost = 0
        """Lines that the disk has refused since it last took one."""
        self._reason = ""
        _make_folders(place, now)
        there = StreamReader(self._folder)
        last = there.segments[-1] if there.segments else None
        self._base, self._size = (last.base, last.size) if last else (0, 0)
        self._latest = there.last_time() or 0
        if last is not None and not there.is_finished():
            self._line = 1
            self.end_line()

    def write(self, piece: bytes, now: int) -> None:
        """Append what was printed at a time in milliseconds; what the disk refuses is counted, and told of later."""
        self._latest = max(self._latest, now)  # a clock that is set back must not put the lines out of order
        prefix = lines.stamp(self._latest)
        try:
            if self._lost:
                self._tell_of_loss(prefix)
            while piece and self._line:
                piece = self._go_on(piece)
            if piece:
                self._begin_lines(piece, prefix)
        except OSError as fault:
            self._lost += piece.count(b"\n") or 1
            self._reason = fault.strerror or str(fault)

    def end_line(self) -> None:
        """End a line that has no end yet."""
        if self._line:
            with contextlib.suppress(OSError):
                self._append(b"\n")
                self._line = 0

    def _go_on(self, piece: bytes) -> bytes:
        """Write on at the unfinished line; gives what comes after its end."""
        end = piece.find(b"\n")
        length = len(piece) if end < 0 else end
        room = max(0, lines.MOST_BYTES - self._line)
        if length > room:
            place = lines.cut(piece[:length], room)
            self._append(piece[:place] + b"\n")
            self._line = 0
            return piece[place + (place == end) :]
        self._append(piece[: length + 1])
        self._line = self._line + length if end < 0 else 0
        return piece[length + 1 :]

    def _begin_lines(self, piece: bytes, prefix: bytes) -> None:
        if self._size >= self._bounds.segment_bytes:
            self._begin_segment()
        is_whole = piece.endswith(b"\n")
        body = piece[:-1] if is_whole else piece
        self._append(prefix + body.replace(b"\n", b"\n" + prefix) + (b"\n" if is_whole else b""))
        self._line = 0 if is_whole else len(body) - (body.rfind(b"\n") + 1)

    def _tell_of_loss(self, prefix: bytes) -> None:
        notice = f"[moorage] {self._lost} lines or more are missing here, they could not be written: {self._reason}\n"
        self._append((b"\n" if self._line else b"") + prefix + notice.encode())
        self._line = self._lost = 0

    def _append(self, text: bytes) -> None:
        """Write bytes; raises OSError when the disk does not take them all."""
        path = self._folder / names.segment_name(self._base)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        written = 0
        try:
            while written < len(text):
                written += os.write(descriptor, text[written:] if written else text)
        except OSError:
            if written:
                self._line = int(text[written - 1] != ord("\n"))
            raise
        finally:
            self._size += written
            os.close(descriptor)

    def _begin_segment(self) -> None:
        self._base, self._size = self._base + self._size, 0
        there = StreamReader(self._folder).segments
        for segment in there[: max(0, len(there) - self._bounds.segments)]:
            segment.path.unlink(missing_ok=True)


def _make_folders(place: Place, now: int) -> None:
    """Make a stream's folder and its group's, with the times of their making, if they are not there."""
    place.folder.mkdir(parents=True, exist_ok=True)
    for folder in (place.group, place.folder):
        with contextlib.suppress(FileExistsError), (folder / names.CREATED).open("xb") as file:
            file.write(lines.stamp(now))
