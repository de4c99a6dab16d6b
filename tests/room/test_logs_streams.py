"""One stream: written, rotated, read forward, backward and by time."""

import errno
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from moorage.logs import lines
from moorage.logs.names import Place
from moorage.logs.reader import StreamReader, tail
from moorage.logs.writer import PIECE_BYTES, Bounds, StreamWriter

NOW = 1_795_799_444_123
WIDE = Bounds(segment_bytes=2**30, segments=5)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "Endpoints" / "wine", "AllTraffic/i-1")


def messages(place: Place) -> list[bytes]:
    reader = StreamReader(place.folder)
    return [event.message for event in reader.forward(reader.start, reader.end)]


def write(writer: StreamWriter, text: bytes, now: int = NOW) -> None:
    """Write as the pump does, in pieces."""
    for begin in range(0, len(text), PIECE_BYTES):
        writer.write(text[begin : begin + PIECE_BYTES], now)


def test_lines_are_on_disk_as_people_read_them(place: Place) -> None:
    writer = StreamWriter(place, WIDE, NOW)
    write(writer, b"first\nsec")
    write(writer, b"ond\n", NOW + 5)
    write(writer, b"third\n", NOW + 1_000)
    assert (place.folder / "000000000000000.log").read_bytes() == (
        b"2026-11-27T17:10:44.123Z first\n2026-11-27T17:10:44.123Z second\n2026-11-27T17:10:45.123Z third\n"
    )


def test_what_was_printed_stays_byte_for_byte(place: Place) -> None:
    printed = [
        b"10%\r50%\r100%",
        b"\x1b[31mred\x1b[0m",
        b"a\x00b",
        b"\xff\xfe",
        b"windows\r",
        b"",
        "ä€😀".encode(),
        b" ",
    ]
    write(StreamWriter(place, WIDE, NOW), b"\n".join(printed) + b"\n")
    assert messages(place) == printed


def test_a_line_without_an_end_is_seen_once_it_has_one(place: Place) -> None:
    writer = StreamWriter(place, WIDE, NOW)
    write(writer, b"whole\nhalf")
    assert messages(place) == [b"whole"]
    unfinished = StreamReader(place.folder).unfinished()
    assert unfinished is not None
    assert unfinished.message == b"half"
    assert tail(place.folder, 5, 100) == "whole\nhalf"
    writer.end_line()
    writer.end_line()
    assert messages(place) == [b"whole", b"half"]


def test_a_line_that_is_too_long_is_split_between_characters(place: Place) -> None:
    line = b"x" + "€".encode() * 200_000
    write(StreamWriter(place, WIDE, NOW), line + b"\nnext\n")
    *parts, last = messages(place)
    assert last == b"next"
    assert b"".join(parts) == line
    assert len(parts) == 3
    for part in parts:
        assert len(part) <= lines.MOST_BYTES + 2
        part.decode()


@pytest.mark.parametrize("length", [lines.MOST_BYTES - 1, lines.MOST_BYTES, lines.MOST_BYTES + 1, 2 * lines.MOST_BYTES])
def test_lines_at_the_bound_leave_no_empty_ones(place: Place, length: int) -> None:
    write(StreamWriter(place, WIDE, NOW), b"a" * length + b"\nb\n")
    assert b"".join(messages(place)) == b"a" * length + b"b"
    assert len(messages(place)) == -(-length // lines.MOST_BYTES) + 1


def test_segments_are_begun_between_lines_and_old_ones_go(place: Place) -> None:
    writer = StreamWriter(place, Bounds(segment_bytes=1_000, segments=2), NOW)
    for number in range(200):
        write(writer, b"line %d, cut in the mid" % number)
        write(writer, b"dle\n")
    reader = StreamReader(place.folder)
    assert len(reader.segments) == 3
    assert all(segment.size < 1_100 for segment in reader.segments)
    assert reader.start > 0
    assert all(one.end == other.base for one, other in zip(reader.segments, reader.segments[1:], strict=False))
    kept = messages(place)
    assert kept == [b"line %d, cut in the middle" % number for number in range(200 - len(kept), 200)]


def test_lines_stay_in_order_of_time_when_the_clock_is_set_back(place: Place) -> None:
    writer = StreamWriter(place, WIDE, NOW)
    write(writer, b"a\n")
    write(writer, b"b\n", NOW - 60_000)
    again = StreamWriter(place, WIDE, NOW - 60_000)
    write(again, b"c\n", NOW - 50_000)
    reader = StreamReader(place.folder)
    assert [event.time for event in reader.forward(reader.start, reader.end)] == [NOW] * 3


def test_a_stream_is_gone_on_with_where_it_ended(place: Place) -> None:
    write(StreamWriter(place, WIDE, NOW), b"before\nleft open")
    write(StreamWriter(place, WIDE, NOW + 1), b"after\n", NOW + 1)
    assert messages(place) == [b"before", b"left open", b"after"]
    assert StreamReader(place.folder).created() == NOW


def test_lines_that_the_disk_refuses_are_counted_and_told_of(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = StreamWriter(place, WIDE, NOW)
    write(writer, b"kept\nhal")
    real = os.write

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    write(writer, b"f\nlost\n")
    write(writer, b"lost too\n")
    monkeypatch.setattr(os, "write", real)
    write(writer, b"again\n")
    notice = b"[moorage] 3 lines or more are missing here, they could not be written: No space left on device"
    assert messages(place) == [b"kept", b"hal", notice, b"again"]


@pytest.fixture
def long(place: Place) -> tuple[Place, list[int]]:
    """A stream of several segments, with lines of all lengths, several at one time; and these times."""
    writer = StreamWriter(place, Bounds(segment_bytes=50_000, segments=1000), NOW)
    times = []
    for number in range(3_000):
        time = NOW + number // 7 * 10
        write(writer, b"%d %s\n" % (number, b"x" * (number * number % 257)), time)
        times.append(time)
    write(writer, b"3000 " + b"y" * 200_000 + b"\n", NOW + 90_000)
    write(writer, b"3001\n", NOW + 100_000)
    return place, [*times, NOW + 90_000, NOW + 100_000]


def test_backward_is_forward_turned_around(long: tuple[Place, list[int]]) -> None:
    place, times = long
    reader = StreamReader(place.folder)
    assert len(reader.segments) > 5
    events = list(reader.forward(reader.start, reader.end))
    assert [event.time for event in events] == times
    assert [int(event.message.split()[0]) for event in events] == list(range(3_002))
    assert list(reader.backward(reader.end, reader.start))[::-1] == events
    assert all(one.end == other.position for one, other in itertools.pairwise(events))
    low, high = events[700].position, events[2_500].position
    assert list(reader.forward(low, high)) == events[700:2_500]
    assert list(reader.backward(high, low))[::-1] == events[700:2_500]


def test_a_time_is_found_where_its_first_line_is(long: tuple[Place, list[int]]) -> None:
    place, times = long
    reader = StreamReader(place.folder)
    events = list(reader.forward(reader.start, reader.end))
    for time in {0, NOW - 1, *times, *(time + 1 for time in times)}:
        first = next((event.position for event in events if event.time >= time), reader.end)
        assert reader.at_time(time) == first
    assert (reader.first_time(), reader.last_time()) == (times[0], times[-1])


def test_a_time_is_found_and_a_tail_read_without_reading_the_file(
    long: tuple[Place, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, times = long
    read = count_bytes_read(monkeypatch)
    StreamReader(place.folder).at_time(times[1_500])
    assert tail(place.folder, 1, 100) == "3001"
    assert sum(read) < StreamReader(place.folder).end / 2


def count_bytes_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    read: list[int] = []
    real: Callable[[int, int, int], bytes] = os.pread

    def counted(descriptor: int, size: int, place: int) -> bytes:
        piece = real(descriptor, size, place)
        read.append(len(piece))
        return piece

    monkeypatch.setattr(os, "pread", counted)
    return read


def test_segments_that_go_while_they_are_read_have_no_events(long: tuple[Place, list[int]]) -> None:
    place, _ = long
    reader = StreamReader(place.folder)
    for segment in reader.segments[:-1]:
        segment.path.unlink()
    assert reader.at_time(NOW + 100_000) <= reader.end
    assert [event.message for event in reader.forward(reader.start, reader.end)][-1] == b"3001"
    assert next(event.message for event in reader.backward(reader.end, reader.start)) == b"3001"


def test_a_stream_that_is_not_there_is_empty(tmp_path: Path) -> None:
    reader = StreamReader(tmp_path / "none")
    assert (reader.start, reader.end, reader.at_time(5), reader.last_time()) == (0, 0, 0, None)
    assert tail(tmp_path / "none", 5, 100) == ""
