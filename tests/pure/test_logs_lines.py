import pytest

from moorage.logs import lines, names

MOMENT = 1_795_799_444_123
STAMP = b"2026-11-27T17:10:44.123Z "


def test_a_time_is_written_in_utc_to_the_millisecond_and_read_back() -> None:
    assert lines.stamp(MOMENT) == STAMP
    assert len(STAMP) == lines.STAMP_BYTES
    assert lines.read_stamp(STAMP + b"text") == MOMENT
    assert lines.read_stamp(lines.stamp(0)) == 0


@pytest.mark.parametrize(
    "line",
    [b"", b"no time", STAMP[:-1], b"2026-02-31T00:00:00.000Z x", b"2026-11-27 17:10:44.123Z x", b" " + STAMP],
)
def test_a_line_that_begins_with_no_time_has_none(line: bytes) -> None:
    assert lines.read_stamp(line) is None


def test_a_line_is_not_cut_within_a_character() -> None:
    euro = "€".encode()
    assert lines.cut(b"abc" + euro, 3) == 3
    assert lines.cut(b"abc" + euro, 4) == 6
    assert lines.cut(b"abc" + euro, 5) == 6
    assert lines.cut(b"\x80" * 9, 4) == 7, "what is no UTF-8 is cut all the same"


def test_a_segment_is_named_by_where_it_begins() -> None:
    assert names.segment_name(20_971_533) == "000000020971533.log"
    assert names.segment_base("000000020971533.log") == 20_971_533
    for other in (".created", "1.log", "000000020971533.txt", "00000002097153x.log"):
        assert names.segment_base(other) is None
