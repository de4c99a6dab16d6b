"""The form of a head: which header names it has, as they were written, in which order; and a pattern of just that.

The pattern is strict: these names, one space, a value of visible ASCII characters and bytes of space between them, a
line end.
"""

import re
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

_VALUE = rb"([!-~](?:[ -~]*[!-~])?)"
_LENGTH = rb"([0-9]{1,9})"


class HeadForm:
    """The heads that have these header names in this order."""

    __slots__ = ("_match", "authorization", "length", "names")

    def __init__(self, written: Sequence[bytes]) -> None:
        self.names = lower_names(written)
        values = [_LENGTH if name == "content-length" else _VALUE for name in self.names]
        lines = [rb"\r\n%b: %b" % (re.escape(name), value) for name, value in zip(written, values, strict=True)]
        self._match = re.compile(rb"POST (/[!-~]+) HTTP/1\.1%b\r\n\r\n" % b"".join(lines)).match
        self.authorization = 1 + self.names.index("authorization")
        """Where it is among what ``read`` finds, as is the next."""
        self.length = 1 + self.names.index("content-length")

    def __repr__(self) -> str:
        return f"<HeadForm: {', '.join(self.names)}>"

    def read(self, data: bytes) -> "re.Match[bytes] | None":
        """Find a head of this form at the beginning: its groups are the target and the headers' values."""
        return self._match(data)

    def taker(self, names: Sequence[str]) -> Callable[[Sequence[bytes]], Any]:
        """Make what takes these headers out of the groups: a tuple of them, or the only one."""
        return itemgetter(*[1 + self.names.index(name) for name in names])


def lower_names(names: Sequence[bytes]) -> tuple[str, ...]:
    """Give header names as they are compared."""
    return tuple([name.lower().decode("latin-1") for name in names])
