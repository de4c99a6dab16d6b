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

_ENDINGS = (b"/invocations", b"/invocations-response-stream")
_VALUE = rb"([!-~](?:[ -~]*[!-~])?)"
_LENGTH = rb"([0-9]{1,9})"
_UNUSUAL = frozenset(
    {"transfer-encoding", "expect", "upgrade", "http2-settings", "connection", "proxy-connection", "te", "trailer"}
)
_NEEDED = frozenset({"host", "content-length", "authorization", "x-amz-date"})
_MOST_FORMS = 16


class HeadForm:
    """The heads that have these header names in this order."""

    __slots__ = ("_match", "authorization", "length", "names")

    def __init__(self, written: Sequence[bytes]) -> None:
        self.names = _lower(written)
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


class QuickReader:
    """The forms that a gateway's clients use; the least used ones are forgotten."""

    def __init__(self) -> None:
        self._forms: list[HeadForm] = []

    def __repr__(self) -> str:
        return f"<QuickReader: {len(self._forms)} forms>"

    def learn(self, head: RequestHead) -> None:
        """Remember the form of an invocation that came the long way and was let through."""
        written = [name for name, _ in head.raw_headers]
        names = _lower(written)
        form = frozenset(names)
        if (
            head.method == "POST"
            and head.version == "1.1"
            and not head.query
            and head.path.encode("latin-1").endswith(_ENDINGS)
            and len(form) == len(written)
            and form >= _NEEDED
            and form.isdisjoint(_UNUSUAL)
            and all(known.names != names for known in self._forms)
        ):
            del self._forms[_MOST_FORMS - 1 :]
            self._forms.append(HeadForm(written))

    def read(self, data: bytes) -> tuple[RequestHead, bytes] | None:
        """Read a whole invocation: its head and body; None when it has to go the long way."""
        forms = self._forms
        for place, form in enumerate(forms):
            found = form.read(data)
            if found is not None:
                if place:  # the forms that are used most come to stand in front
                    forms[place - 1], forms[place] = form, forms[place - 1]
                return _make(form, found, data)
        return None


def _make(form: HeadForm, found: "re.Match[bytes]", data: bytes) -> tuple[RequestHead, bytes] | None:
    values, end = found.groups(), found.end()
    target = values[0]
    length = int(values[form.length])
    if length != len(data) - end or end > HEAD_BYTES or not target.endswith(_ENDINGS) or b"?" in target:
        return None
    head = RequestHead(target.decode("ascii"), None)
    head.content_length = length
    head.form = form
    head.values = values
    return head, data[end:]


def _lower(names: Sequence[bytes]) -> tuple[str, ...]:
    return tuple([name.lower().decode("latin-1") for name in names])
