"""Reads the common invocation in a few steps: one that came whole, in one piece, with nothing unusual about it.

``requests.RequestReader`` is the law; it reads whatever comes, with a callback per header. What is read here would be
read alike there, and what is not understood here is given to it: ``read`` answers None and has done nothing. It is
called for the first bytes of a request only.

The header names that pass are those that the long way has already let through once, so that no rule about names
stands here; a head holds nothing but printable characters and its line ends; no name occurs twice.
"""

from moorage.gateway.requests import HEAD_BYTES, HEADER_COUNT, RequestHead

_ENDING = "/invocations"
_PRINTABLE = bytes([*range(0x20, 0x7F), *range(0x80, 0x100)])
_UNUSUAL = frozenset({"transfer-encoding", "expect", "upgrade", "http2-settings", "proxy-connection", "te", "trailer"})
_LENGTH_DIGITS = 9

_MOST_NAMES = 512
_MOST_LINES = 4_096


class QuickReader:
    """What a gateway has learned of heads; both memories start anew when they are full."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        """Header names as they are sent, and in lower case."""
        self._targets: dict[str, str] = {}
        """Request lines, and the target in each."""

    def __repr__(self) -> str:
        return f"<QuickReader: {len(self._names)} names, {len(self._targets)} request lines>"

    def learn(self, head: RequestHead) -> None:
        """Remember the names and the request line of an invocation that came the long way and was let through."""
        if head.method != "POST" or head.version != "1.1" or head.query or not head.path.endswith(_ENDING):
            return
        if len(self._names) > _MOST_NAMES:
            self._names.clear()
        if len(self._targets) > _MOST_LINES:
            self._targets.clear()
        self._targets[f"POST {head.target} HTTP/1.1"] = head.target
        for raw, _ in head.raw_headers:
            name = raw.decode("latin-1")
            self._names[name] = name.lower()

    def read(self, data: bytes) -> tuple[RequestHead, bytes] | None:
        """Read a whole invocation: its head and body; None when it has to go the long way."""
        end = data.find(b"\r\n\r\n", 0, HEAD_BYTES)
        if end < 0:
            return None
        head = data[:end]
        line, *lines = head.decode("latin-1").split("\r\n")
        target = self._targets.get(line)
        if target is None or len(lines) > HEADER_COUNT:
            return None
        # Nothing is left of the head but its line ends, so there is no tab, no NUL and no bare CR or LF in it.
        if head.translate(None, _PRINTABLE) != b"\r\n" * len(lines) or b" \r\n" in data[: end + 2]:
            return None
        names = self._names
        fields: dict[str, str] = {}
        for entry in lines:
            name, separator, value = entry.partition(": ")
            lower = names.get(name)
            if lower is None or not separator or value[0] == " ":
                return None
            fields[lower] = value
        length = fields.get("content-length", "")
        if (
            len(fields) != len(lines)
            or "host" not in fields
            or not fields.keys().isdisjoint(_UNUSUAL)
            or not (length.isdecimal() and length.isascii() and len(length) <= _LENGTH_DIGITS)
            or int(length) != len(data) - end - 4
            or fields.get("connection", "keep-alive").lower() != "keep-alive"
        ):
            return None
        return RequestHead.plain(target, target, fields, int(length)), data[end + 4 :]
