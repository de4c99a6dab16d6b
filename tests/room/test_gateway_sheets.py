"""Sheets: small captured invocations are lines at once, and are given away when there are enough or others begin."""

import json
from dataclasses import replace

import pytest
from tests.support.capture import CAPTURE, captured_endpoint, payload

from moorage.base.ids import CountingIds
from moorage.base.settings import Limits
from moorage.gateway.capture.files import Lines
from moorage.gateway.capture.sheets import SHEET_BYTES, Sheets
from moorage.routing.snapshot import Endpoint

EP = captured_endpoint()


class Desk:
    """Sheets, and what they have given away."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.given: list[Lines] = []
        self.sheets = Sheets(CountingIds(), limits or Limits(), self.given.append)

    def add(
        self, endpoint: Endpoint = EP, body: bytes = b"1", variant: str = "v1", at: float = 1.0, least: int = 9
    ) -> int:
        capture = endpoint.capture
        assert capture is not None
        return self.sheets.add(endpoint, capture, variant, at, payload(body), payload(b"2"), None, None, least)

    def inputs(self) -> list[list[str]]:
        """Give the inputs of what was given away."""
        return [[json.loads(line)["captureData"]["endpointInput"]["data"] for line in one.lines] for one in self.given]


def test_lines_are_given_away_together_with_the_time_of_the_first() -> None:
    desk = Desk()
    for number in range(3):
        desk.add(body=str(number).encode(), at=10.0 + number)
    assert desk.given == []
    desk.sheets.give_all()
    desk.sheets.give_all()
    (lines,) = desk.given
    assert desk.inputs() == [["0", "1", "2"]]
    assert (lines.endpoint, lines.variant, lines.at, lines.records) == (EP, "v1", 10.0, 3)


def test_a_sheet_that_is_full_is_given_away() -> None:
    desk = Desk()
    added = 0
    while not desk.given:
        desk.add(body=b"x" * 1_000)
        added += 1
    length = sum(map(len, desk.given[0].lines))
    assert (desk.given[0].records, SHEET_BYTES <= length < SHEET_BYTES + 2_000) == (added, True)


@pytest.mark.parametrize("limits", [Limits(capture_file_records=2), Limits(capture_file_bytes=400)])
def test_a_sheet_holds_no_more_than_a_file_may(limits: Limits) -> None:
    desk = Desk(limits)
    for _ in range(4):
        desk.add()
    assert list(map(len, desk.inputs())) == [2, 2]


def test_each_endpoint_and_variant_has_its_own() -> None:
    desk = Desk()
    desk.add(body=b"1")
    desk.add(body=b"2", variant="Shadow")
    desk.add(captured_endpoint("other"), body=b"3")
    desk.add(body=b"4")
    assert repr(desk.sheets) == "<Sheets: 3, 4 lines>"
    desk.sheets.give_all()
    assert sorted(desk.inputs()) == [["1", "4"], ["2"], ["3"]]


def test_another_configuration_begins_a_sheet_and_another_snapshot_alone_does_not() -> None:
    desk = Desk()
    desk.add(body=b"1")
    desk.add(replace(EP), body=b"2")
    assert desk.given == []
    desk.add(replace(EP, capture=replace(CAPTURE, csv_types=())), body=b"3")
    assert desk.inputs() == [["1", "2"]]
    desk.sheets.give_all()
    assert desk.inputs()[1] == ["Mw=="]


def test_what_a_line_holds_in_memory_is_counted_however_much_its_escaping_adds() -> None:
    desk = Desk()
    counted = [desk.add(least=10_000), desk.add(body=b"\x01" * 1_000)]
    desk.sheets.give_all()
    assert counted == [10_000, len(desk.given[0].lines[1])]
    assert (counted[1] > 6_000, desk.given[0].size) == (True, sum(counted))
