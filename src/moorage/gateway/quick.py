"""Reads the common invocation in one step: one that came whole, in one piece, with nothing unusual about it.

A client sends the same headers in the same order again and again; only values differ. Of a head that has come the
long way and was let through, a pattern is made that matches heads of just this form (``HeadForm``).
``requests.RequestReader`` is the law: what a pattern matches is read alike there, and what none matches is given to it.

A pattern is strict: these names as they were written, one space, a value of visible ASCII characters and single bytes
of space between them, a line end. No name occurs twice, and none is there that says something about the framing but
Content-Length.
"""

import re
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

from moorage.gateway.requests import HEAD_BYTES, RequestHead

_ENDING = "/invocations"
_VALUE = r"([!-~](?:[ -~]*[!-~])?)"
_LENGTH = r"([0-9]{1,9})"
_UNUSUAL = frozenset(
    {"transfer-encoding", "expect", "upgrade", "http2-settings", "connection", "proxy-connection", "te", "trailer"}
)
_NEEDED = frozenset({"host", "content-length", "authorization", "x-amz-date"})
_MOST_FORMS = 16


class HeadForm:
    """The heads that have these header names in this order."""

    __slots__ = ("_match", "authorization", "length", "names")

    def __init__(self, written: Sequence[str]) -> None:
        self.names = tuple(name.lower() for name in written)
        lines = [
            f"\r\n{re.escape(name)}: {_LENGTH if name.lower() == 'content-length' else _VALUE}" for name in written
        ]
        self._match = re.compile(rf"POST (/[!-~]+) HTTP/1\.1{''.join(lines)}").fullmatch
        self.authorization = 1 + self.names.index("authorization")
        """Where it is in ``values``, as is the next."""
        self.length = 1 + self.names.index("content-length")

    def __repr__(self) -> str:
        return f"<HeadForm: {', '.join(self.names)}>"

    def values(self, head: str) -> Sequence[str] | None:
        """Give the target and the headers' values; None when the head has another form."""
        found = self._match(head)
        return None if found is None else found.groups()

    def taker(self, names: Sequence[str]) -> Callable[[Sequence[str]], Any]:
        """Make what takes these headers out of ``values``: a tuple of them, or the only one."""
        return itemgetter(*[1 + self.names.index(name) for name in names])


class QuickReader:
    """The forms that a gateway's clients use; the least used ones are forgotten."""

    def __init__(self) -> None:
        self._forms: list[HeadForm] = []

    def __repr__(self) -> str:
        return f"<QuickReader: {len(self._forms)} forms>"

    def learn(self, head: RequestHead) -> None:
        """Remember the form of an invocation that came the long way and was let through."""
        written = [name.decode("latin-1") for name, _ in head.raw_headers]
        form = frozenset(name.lower() for name in written)
        if (
            head.method == "POST"
            and head.version == "1.1"
            and not head.query
            and head.path.endswith(_ENDING)
            and len(form) == len(written)
            and form >= _NEEDED
            and form.isdisjoint(_UNUSUAL)
            and all(known.names != tuple(map(str.lower, written)) for known in self._forms)
        ):
            del self._forms[_MOST_FORMS - 1 :]
            self._forms.append(HeadForm(written))

    def read(self, data: bytes) -> tuple[RequestHead, bytes] | None:
        """Read a whole invocation: its head and body; None when it has to go the long way."""
        end = data.find(b"\r\n\r\n", 0, HEAD_BYTES)
        if end < 0:
            return None
        head = data[:end].decode("latin-1")
        forms = self._forms
        for place, form in enumerate(forms):
            values = form.values(head)
            if values is not None:
                if place:  # the forms that are used most come to stand in front
                    forms[place - 1], forms[place] = form, forms[place - 1]
                return self._make(form, values, data, end)
        return None

    def _make(self, form: HeadForm, values: Sequence[str], data: bytes, end: int) -> tuple[RequestHead, bytes] | None:
        length = int(values[form.length])
        target = values[0]
        if length != len(data) - end - 4 or not target.endswith(_ENDING) or "?" in target:
            return None
        quick = RequestHead(target, None)
        quick.content_length = length
        quick.form = form
        quick.values = values
        return quick, data[end + 4 :]
