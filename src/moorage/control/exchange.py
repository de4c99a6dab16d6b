"""One request on its way through the pipeline."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from moorage.aws.errors import ClientFault
from moorage.aws.shapes import Operation
from moorage.aws.sigv4 import HttpRequest
from moorage.base.clock import Clock
from moorage.control.events import EventFeed
from moorage.control.keyring import Keyring
from moorage.control.metrics_pages import Traffic
from moorage.control.operations.call import Services
from moorage.iam.authenticate import Caller


@dataclass(frozen=True, slots=True)
class Desk:
    """What the pipeline works with."""

    services: Services
    keyring: Keyring
    events: EventFeed
    clock: Clock
    longest_body_bytes: int
    about: Mapping[str, Any]
    """What the health page tells of this installation."""
    traffic: Traffic


@dataclass(slots=True)
class Exchange:
    """What is known of one request; each stage adds one thing."""

    desk: Desk
    http: HttpRequest
    body: bytes | None
    """None: larger than the limit, and not read to its end."""
    request_id: str
    operation: Operation | None = None
    members: dict[str, Any] = field(default_factory=dict)
    caller: Caller | None = None


def read_content(exchange: Exchange) -> dict[str, Any]:
    """Read the JSON object that one of Moorage's own pages was sent."""
    try:
        content = orjson.loads(exchange.body or b"")
    except orjson.JSONDecodeError as fault:
        raise ClientFault("SerializationException", "The request body is not valid JSON.") from fault
    if not isinstance(content, dict):
        raise ClientFault("SerializationException", "The request body must be a JSON object.")
    return content
