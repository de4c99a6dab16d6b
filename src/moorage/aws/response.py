"""A whole HTTP answer as a value."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Response:
    """Status, headers and body, ready to be sent."""

    status: int
    headers: tuple[tuple[str, str], ...]
    """Without ``Content-Length`` and ``Date``, which the server adds."""
    body: bytes
