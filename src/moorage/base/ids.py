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


_VARIANTS = {f"{digit:x}": "89ab"[digit % 4] for digit in range(16)}
"""The digit of a UUID that says which kind it is, by a digit at random."""


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
        self._digits = ""
        self._used = 0

    def request_id(self) -> str:
        """Give a UUID in lower case, random as RFC 9562 has it (version 4)."""
        at = self._used
        if at == len(self._digits):  # many at a time: a system call for each would cost more than all the rest
            self._digits, at = secrets.token_hex(16 * _AT_ONCE), 0
        self._used = at + 32
        made = self._digits
        variant = _VARIANTS[made[at + 16]]
        return (
            f"{made[at : at + 8]}-{made[at + 8 : at + 12]}-4{made[at + 13 : at + 16]}"
            f"-{variant}{made[at + 17 : at + 20]}-{made[at + 20 : at + 32]}"
        )


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
