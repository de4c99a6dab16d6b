"""Sticky sessions: what clients and containers say about them, and where an invocation in one must go. Pure.

A container that keeps state for a client opens a *session*; from then on the client's invocations must reach the
same instance. The container makes the id and says when the session expires; we remember which instance it was (a
*binding*) and know nothing of what the session is about (data-plane.md section 2.3).

    ==========================  =====================================================================================
    the client sends            what happens
    ==========================  =====================================================================================
    no SessionId                nothing of this
    ``NEW_SESSION``             refused before it is forwarded when the endpoint has as many sessions as it may have;
                                else routed as ever, the header forwarded as it is. The answer decides:
    - answer opens a session    the binding is kept, then the client is told NewSessionId, always with an Expires
    - answer opens none         passed on without the header: the container does not do sessions
    - the id is bound to        ModelError: two clients would get into each other's state
      another instance
    an id                       the bound variant and instance, weights not consulted, the header forwarded
    - answer closes it          the binding is removed, the client is told ClosedSessionId
    - unknown, expired, closed  ValidationError ``Session <id> not found or expired for endpoint <name>.``
    - instance gone from the    the same error, and the binding is removed: its state is lost, another instance would
      snapshot, or it refuses   start over without anybody noticing
    - snapshot older than the   503, try again: another gateway knows an instance already that this one does not
      binding
    - TargetVariant names       ValidationError
      another variant
    - all the invocations in    throttled, like any other
      flight that it may have
    ==========================  =====================================================================================

A container opens a session by ``X-Amzn-SageMaker-New-Session-Id: <id>; Expires=<time>`` or by
``X-Amzn-SageMaker-Session-Id: <id>; Expires=<time>`` (TorchServe's form), each with or without Expires. It repeats the
latter without Expires on later answers, where it means nothing and the client does not see it. Only the answer to
NEW_SESSION opens a session, and only that of an invocation in the session closes it.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum

import orjson

from moorage.routing.choice import Choice, Refusal
from moorage.routing.conditions import Conditions
from moorage.routing.decide import Routes

NEW_SESSION = "NEW_SESSION"
"""The SessionId of a client that wants a session."""

_NEW = b"x-amzn-sagemaker-new-session-id"
_PLAIN = b"x-amzn-sagemaker-session-id"
_CLOSED = b"x-amzn-sagemaker-closed-session-id"

_ID_LENGTH = 226
"""Longest id that a container may make: with ``; Expires=`` and a time it fills the 256 of the API's header."""

_LATEST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()

_ID = re.compile(r"[a-zA-Z0-9](?:-*[a-zA-Z0-9])*")
_EXPIRES = re.compile(r"Expires=(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)Z", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Binding:
    """Which instance has a session."""

    account: str
    region: str
    endpoint: str
    session_id: str
    variant: str
    instance_id: str
    expires: float
    """Seconds since the epoch."""
    version: int
    """Of the snapshot by which the session was opened."""

    def to_bytes(self) -> bytes:
        """Give the form in which it is kept."""
        return orjson.dumps(asdict(self))

    @classmethod
    def from_bytes(cls, content: bytes) -> "Binding":
        """Read the form in which it is kept; raises ValueError or TypeError for anything else."""
        return cls(**orjson.loads(content))


@dataclass(frozen=True, slots=True)
class Opened:
    """A session that a container has opened."""

    session_id: str
    expires: float
    """Seconds since the epoch."""

    @property
    def header(self) -> bytes:
        """What the client is told: NewSessionId."""
        time = datetime.fromtimestamp(self.expires, UTC).replace(tzinfo=None)
        return f"{self.session_id}; Expires={time.isoformat(timespec='seconds')}Z".encode()


class SessionRefusal(StrEnum):
    """Why an invocation in a session goes nowhere, beside what all are refused for."""

    LOST = "Lost"
    """The instance is gone, or refused."""
    OTHER_VARIANT = "OtherVariant"
    """The invocation names another variant than the session's."""


def read_opened(raw_headers: Iterable[tuple[bytes, bytes]], now: float, session_seconds: float) -> Opened | None:
    """Read from the answer to NEW_SESSION which session it opens.

    One without a readable Expires ends after ``session_seconds``. None: there is none, or its id is none.
    """
    values = _fields(raw_headers, (_NEW, _PLAIN))
    value = values.get(_NEW) or values.get(_PLAIN)
    if value is None:
        return None
    session_id, _, rest = value.partition(";")
    session_id = session_id.strip()
    if len(session_id) > _ID_LENGTH or not _ID.fullmatch(session_id):
        return None
    expires = _read_expires(rest.strip())
    return Opened(session_id, min(now + session_seconds, _LATEST) // 1 if expires is None else expires)


def closes(raw_headers: Iterable[tuple[bytes, bytes]], session_id: str) -> bool:
    """Say whether the answer to an invocation in a session closes it."""
    closed = _fields(raw_headers, (_CLOSED,)).get(_CLOSED)
    return closed is not None and closed.strip() == session_id


def decide_bound(  # noqa: PLR0913 - the decision depends on this much
    routes: Routes,
    binding: Binding,
    conditions: Conditions,
    *,
    version: int,
    target_variant: str | None = None,
    tried: Collection[str] = (),
) -> Choice | Refusal | SessionRefusal:
    """Choose the one instance that has the session; ``version`` is that of the snapshot.

    A suspect is asked all the same: nobody else has what the client wants.
    """
    if target_variant is not None and target_variant != binding.variant:
        return SessionRefusal.OTHER_VARIANT
    instance_id = binding.instance_id
    fleet = routes.fleets.get(binding.variant)
    choice = next((c for c in fleet.choices if c.instance.instance_id == instance_id), None) if fleet else None
    if choice is None:
        return Refusal.NO_INSTANCE if version < binding.version else SessionRefusal.LOST
    if instance_id in tried:
        return SessionRefusal.LOST
    return Refusal.FULL if instance_id in conditions.full else choice


def _read_expires(text: str) -> float | None:
    found = _EXPIRES.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second = map(int, found.groups())
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()
    except ValueError:  # the 31st of February
        return None


def _fields(raw_headers: Iterable[tuple[bytes, bytes]], wanted: Collection[bytes]) -> dict[bytes, str]:
    """Give these headers by their lower-case names; of a repeated one the first."""
    found: dict[bytes, str] = {}
    for name, value in raw_headers:
        lower = name.lower()
        if lower in wanted:
            found.setdefault(lower, value.decode("latin-1"))
    return found
