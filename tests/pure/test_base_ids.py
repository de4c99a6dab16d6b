"""Names of requests are UUIDs as everybody makes them."""

import uuid

from moorage.base.ids import SystemIds


def test_request_ids_are_random_uuids() -> None:
    made = [uuid.UUID(SystemIds().request_id()) for _ in range(1000)]
    assert len(set(made)) == 1000
    assert {(one.version, one.variant) for one in made} == {(4, uuid.RFC_4122)}


def test_request_ids_are_in_lower_case_with_hyphens() -> None:
    made = SystemIds().request_id()
    assert made == str(uuid.UUID(made))
