"""Each modelled constraint of each operation, broken by itself and sent over HTTP, is told in AWS's words."""

import json
from collections.abc import Iterator

import pytest
from tests.support.control import control_plane
from tests.support.raw import RawClient
from tests.support.violations import MODEL, Case, cases_of, valid

from moorage.control.dispatch import OPERATIONS

CASES = [case for operation in sorted(OPERATIONS) for case in cases_of(operation)]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawClient]:
    with control_plane(tmp_path_factory.mktemp("c")) as plane:
        raw = RawClient(plane.url)
        yield raw
        raw.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_broken_constraint_is_told(client: RawClient, case: Case) -> None:
    status, content = client.ask(case.operation, case.members)
    assert (status, content["__type"], content["message"]) == (400, "ValidationException", case.message)


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_smallest_request_of_the_generator_breaks_no_constraint(client: RawClient, operation: str) -> None:
    """Otherwise the cases above would show something else than they say."""
    _, content = client.ask(operation, valid(MODEL.operation_model(operation).input_shape))
    assert "validation error" not in content.get("message", "")


def test_every_operation_has_its_constraints_broken() -> None:
    assert {case.operation for case in CASES} == set(OPERATIONS)
    assert len({case.name for case in CASES}) == len(CASES) > 500
    assert all(json.dumps(case.members) for case in CASES)
