"""Reads the common invocation in one step: one that came whole, in one piece, with nothing unusual about it.

A client sends the same headers in the same order again and again; only values differ. Of a head that has come the
long way and was let through, a pattern is made that matches heads of just this form (``head_form``).
``requests.RequestReader`` is the law: what a pattern matches is read alike there, and what none matches is given to it.
No name occurs twice in a form, and none is there that says something about the framing but Content-Length.
"""

import re

from moorage.gateway.head_form import HeadForm, lower_names
from moorage.gateway.requests import HEAD_BYTES, RequestHead

_ENDINGS = (b"/invocations", b"/invocations-response-stream")
_UNUSUAL = frozenset(
    {"transfer-encoding", "expect", "upgrade", "http2-settings", "connection", "proxy-connection", "te", "trailer"}
)
_NEEDED = frozenset({"host", "content-length", "authorization", "x-amz-date"})
_MOST_FORMS = 16


class QuickReader:
    """The forms that a gateway's clients use; the least used ones are forgotten."""

    def __init__(self) -> None:
        self._forms: list[HeadForm] = []

    def __repr__(self) -> str:
        return f"<QuickReader: {len(self._forms)} forms>"

    def learn(self, head: RequestHead) -> None:
        """Remember the form of an invocation that came the long way and was let through."""
        written = [name for name, _ in head.raw_headers]
        names = lower_names(written)
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
