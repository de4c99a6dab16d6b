"""Reads the heads of calls: what goes to which container, and what is for the front itself. Pure.

A gateway sends the same few heads again and again, each with its body in one piece: a head whose bytes are known is
not parsed again.
"""

from enum import Enum, auto

from moorage.gateway.requests import RequestHead

_MOST_HEADS = 256

_CONTENT_TYPE = "content-type"
_ACCEPT = "accept"
_TARGET_CONTAINER = "x-amzn-sagemaker-target-container-hostname"
_TARGET_MODEL = "x-amzn-sagemaker-target-model"
_OF_ALL = (
    "X-Amzn-SageMaker-Custom-Attributes",
    "X-Amzn-SageMaker-Inference-Id",
    "X-Amzn-SageMaker-Session-Id",
)
"""What every container sees (data-plane.md section 8.2)."""


class Wanted(Enum):
    """What a request wants of a front."""

    INVOCATION = auto()
    PING = auto()
    NOTHING = auto()
    """None of what there is."""


class CallHead:
    """What the head of a call says."""

    __slots__ = (
        "accept",
        "content_type",
        "keep_alive",
        "length",
        "of_all",
        "target_container",
        "target_model",
        "wanted",
    )

    def __init__(self, head: RequestHead) -> None:
        fields = head.fields
        self.wanted = _wanted(head)
        self.keep_alive = head.keep_alive
        self.length = head.content_length
        self.content_type = _line("Content-Type", fields.get(_CONTENT_TYPE))
        """The line for the first container."""
        self.accept = _line("Accept", fields.get(_ACCEPT))
        """The line for the last container."""
        self.of_all = b"".join([_line(name, fields.get(name.lower())) for name in _OF_ALL])
        self.target_container = fields.get(_TARGET_CONTAINER)
        self.target_model = fields.get(_TARGET_MODEL)

    def lines(self, content_type: bytes, *, last: bool) -> bytes:
        """Give the header lines for a container that is sent a body of this type, which is a line or empty.

        Accept is for the last one: what it gives is what the client gets.
        """
        return content_type + self.accept + self.of_all if last else content_type + self.of_all


class KnownHeads:
    """The heads that came, by their bytes with the empty line; starts anew when it is full."""

    def __init__(self) -> None:
        self._known: dict[bytes, CallHead] = {}

    def __repr__(self) -> str:
        return f"<KnownHeads: {len(self._known)}>"

    def find(self, data: bytes) -> tuple[CallHead, int] | None:
        """Find a whole request at the beginning of a connection's bytes: its head, and where the body begins."""
        end = data.find(b"\r\n\r\n") + 4
        head = self._known.get(data[:end])
        if head is None or len(data) - end != head.length:
            return None
        return head, end

    def learn(self, raw: bytes, head: CallHead) -> None:
        """Remember a head by its bytes."""
        if len(self._known) >= _MOST_HEADS:
            self._known.clear()
        self._known[raw] = head


def _wanted(head: RequestHead) -> Wanted:
    if head.path == "/invocations" and head.method == "POST" and not head.chunked:
        return Wanted.INVOCATION
    return Wanted.PING if head.path == "/ping" and head.method == "GET" else Wanted.NOTHING


def _line(name: str, value: str | None) -> bytes:
    return f"{name}: {value}\r\n".encode("latin-1") if value else b""
