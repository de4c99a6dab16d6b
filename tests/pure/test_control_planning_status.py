"""The life of an endpoint as a table."""

from itertools import product

import pytest

from moorage.control.planning.status import TRANSITIONS, Event, allows, follow
from moorage.state.records import EndpointStatus


def test_only_requests_move_an_endpoint_that_serves_or_has_failed() -> None:
    moved_by = {
        status: {event for at, event in TRANSITIONS if at == status}
        for status in (EndpointStatus.IN_SERVICE, EndpointStatus.FAILED)
    }
    assert moved_by == {
        EndpointStatus.IN_SERVICE: {Event.UPDATE_REQUESTED, Event.DELETE_REQUESTED},
        EndpointStatus.FAILED: {Event.DELETE_REQUESTED},
    }


def test_what_is_not_in_the_table_raises() -> None:
    forbidden = [pair for pair in product(EndpointStatus, Event) if not allows(*pair)]
    assert len(forbidden) == len(EndpointStatus) * len(Event) - len(TRANSITIONS)
    with pytest.raises(KeyError):
        follow(EndpointStatus.DELETING, Event.UPDATE_REQUESTED)


def test_every_change_under_way_ends_in_service() -> None:
    status = follow(EndpointStatus.UPDATING, Event.FAILED)
    assert follow(status, Event.SETTLED) == EndpointStatus.IN_SERVICE
    assert follow(EndpointStatus.UPDATING, Event.SETTLED) == EndpointStatus.IN_SERVICE
