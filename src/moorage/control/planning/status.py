"""The life of an endpoint, as a table (control-plane.md section 6.2).

Rules of this table:

1. An endpoint that serves is only ever moved by a request. What happens to its instances never changes its status.
2. ``Failed`` is left by deletion alone.
3. A change that fails goes back by itself (``RollingBack``) and always ends in ``InService``.
4. What is not in the table cannot happen: asking for it is a fault of ours and raises.
"""

from enum import Enum, auto

from moorage.state.records import EndpointStatus


class Event(Enum):
    """What moves an endpoint."""

    UPDATE_REQUESTED = auto()
    DELETE_REQUESTED = auto()
    SETTLED = auto()
    """Everything that was asked for is so, and the gateways route by it."""
    FAILED = auto()
    """What was asked for cannot be had."""


TRANSITIONS: dict[tuple[EndpointStatus, Event], EndpointStatus] = {
    (EndpointStatus.CREATING, Event.SETTLED): EndpointStatus.IN_SERVICE,
    (EndpointStatus.CREATING, Event.FAILED): EndpointStatus.FAILED,
    (EndpointStatus.IN_SERVICE, Event.UPDATE_REQUESTED): EndpointStatus.UPDATING,
    (EndpointStatus.IN_SERVICE, Event.DELETE_REQUESTED): EndpointStatus.DELETING,
    (EndpointStatus.UPDATING, Event.SETTLED): EndpointStatus.IN_SERVICE,
    (EndpointStatus.UPDATING, Event.FAILED): EndpointStatus.ROLLING_BACK,
    (EndpointStatus.ROLLING_BACK, Event.SETTLED): EndpointStatus.IN_SERVICE,
    (EndpointStatus.FAILED, Event.DELETE_REQUESTED): EndpointStatus.DELETING,
}


def follow(status: EndpointStatus, event: Event) -> EndpointStatus:
    """Give the next status; raises KeyError for what cannot happen."""
    return TRANSITIONS[status, event]


def allows(status: EndpointStatus, event: Event) -> bool:
    """Say whether this can happen now."""
    return (status, event) in TRANSITIONS
