"""Names of requests are UUIDs as everybody makes them."""

import uuid

import pytest

from moorage.base.ids import QuickIds, SystemIds


@pytest.mark.parametrize("ids", [SystemIds(), QuickIds()])
def test_request_ids_are_random_uuids(ids: SystemIds) -> None:
    made = [uuid.UUID(ids.request_id()) for _ in range(1000)]
    assert len(set(made)) == 1000
    assert {(one.version, one.variant) for one in made} == {(4, uuid.RFC_4122)}


@pytest.mark.parametrize("ids", [SystemIds(), QuickIds()])
def test_request_ids_are_in_lower_case_with_hyphens(ids: SystemIds) -> None:
    made = ids.request_id()
    assert made == str(uuid.UUID(made))
