r"""A line of a log as it is on disk: the time of its arrival in UTC, a blank, what was printed, a line end.

What was printed stays as it was, byte for byte: ``\r``, NUL, ANSI codes, what is no UTF-8.
"""

import re
from datetime import UTC, datetime
from functools import lru_cache

STAMP_BYTES = 25
"""Of ``2026-11-27T17:10:44.123Z`` and the blank."""

MOST_BYTES = 262_118
"""Of one line: with CloudWatch's 26 bytes of overhead for an event it is 256 KiB. What is longer is split."""

_STAMP = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ")


def stamp(milliseconds: int) -> bytes:
    """Write a time."""
    seconds, rest = divmod(milliseconds, 1000)
    return b"%b.%03dZ " % (_second(seconds), rest)


def read_stamp(line: bytes) -> int | None:
    """Read the time that a line begins with, in milliseconds since the epoch; None when it begins with none."""
    if _STAMP.match(line) is None:
        return None
    try:
        return _seconds(line[:19]) * 1000 + int(line[20:23])
    except ValueError:  # the 31st of February
        return None


@lru_cache(maxsize=64)
def _second(seconds: int) -> bytes:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()


@lru_cache(maxsize=1024)
def _seconds(text: bytes) -> int:
    return int(datetime.fromisoformat(text.decode() + "+00:00").timestamp())


def cut(piece: bytes, room: int) -> int:
    """Say where a line must end that has ``room`` bytes left, and goes on with ``piece``: not within a character.

    A character may have up to three bytes more than there is room for.
    """
    place = room
    while place < len(piece) and place < room + 3 and piece[place] & 0xC0 == 0x80:
        place += 1
    return place
