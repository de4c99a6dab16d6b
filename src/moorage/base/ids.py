"""Identity is passed in. Nobody else imports ``uuid``."""

import secrets
import uuid
from typing import Protocol

_AT_ONCE = 256


class Ids(Protocol):
    """Where a room gets new names from."""

    def request_id(self) -> str:
        """Give a UUID in lower case, as AWS puts it into ``x-amzn-RequestId``."""

    def instance_id(self) -> str:
        """Give a name for a new instance, in the shape of EC2's: ``i-`` and 17 hexadecimal digits."""


_FORM = b"xxxxxxxx-xxxx-4xxx-vxxx-xxxxxxxxxxxx\n"
"""A UUID of version 4 (RFC 9562) and a line feed; each x is a digit at random, v one of four."""

_RANDOM_PLACES = [place for place, form in enumerate(_FORM) if form in b"xv"]
_VARIANT_PLACE = _FORM.index(b"v")
_VARIANTS = bytes.maketrans(b"0123456789abcdef", b"89ab" * 4)
"""The digit that says which kind it is, by a digit at random."""


class SystemIds:
    """Names that are unique everywhere."""

    def request_id(self) -> str:
        """Give a UUID in lower case."""
        return str(uuid.uuid4())

    def instance_id(self) -> str:
        """Give a name for a new instance."""
        return "i-0" + secrets.token_hex(8)


class QuickIds(SystemIds):
    """The same, for one thread: many are made with one system call."""

    def __init__(self) -> None:
        self._ready: list[str] = []

    def request_id(self) -> str:
        """Give a UUID in lower case, random as RFC 9562 has it (version 4)."""
        if not self._ready:
            self._ready = _make_uuids(_AT_ONCE)
        return self._ready.pop()


def _make_uuids(count: int) -> list[str]:
    """Make many UUIDs: a place of all of them at once, which takes half the time of one after the other."""
    digits = secrets.token_hex(16 * count).encode()
    made = bytearray(_FORM * count)
    for number, place in enumerate(_RANDOM_PLACES):
        column = digits[number * count : (number + 1) * count]
        made[place :: len(_FORM)] = column.translate(_VARIANTS) if place == _VARIANT_PLACE else column
    return made.decode().splitlines()


class CountingIds:
    """Names that are the same in each run."""

    def __init__(self) -> None:
        self._count = 0

    def request_id(self) -> str:
        """Give the next UUID of the row."""
        self._count += 1
        return str(uuid.UUID(int=self._count))

    def instance_id(self) -> str:
        """Give the next instance name of the row."""
        self._count += 1
        return f"i-{self._count:017x}"
