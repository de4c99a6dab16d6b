"""The command line about events and failures, against a fake server."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.room.fake_api import Answer, Api, fake_api

from moorage.cli.main import cli

REASON = "CannotStartContainerError. No.\nLast lines of the container's log:\nboom"
DELETE = "aws sagemaker delete-endpoint --endpoint-name wine"
HEALTHY = {
    "origin": "https://hook",
    "waiting": 0,
    "position": 3,
    "dropped": 0,
    "failures_in_a_row": 0,
    "last_failure": None,
}
SICK = {**HEALTHY, "waiting": 4, "dropped": 2, "failures_in_a_row": 5, "last_failure": "https://hook answered 500"}


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.setenv("MOORAGE_DATA_DIR", str(tmp_path / "data"))
    with fake_api(tmp_path) as api:
        yield api
        assert api.unverified == []


def moorage(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def event(status: str, **detail: Any) -> dict[str, Any]:
    return {
        "detail-type": "SageMaker Endpoint State Change",
        "time": "2026-01-02T03:04:05Z",
        "detail": {"EndpointName": "wine", "EndpointStatus": status, **detail},
    }


def deployment(*variants: dict[str, Any]) -> dict[str, Any]:
    made = event("CREATING", PendingDeploymentSummary={"ProductionVariants": list(variants)})
    return {**made, "detail-type": "SageMaker Endpoint Deployment State Change"}


def page(*events: dict[str, Any], position: int = 9, gone: int = 0, webhook: Any = None) -> dict[str, Any]:
    entries = [{"position": number, "event": one} for number, one in enumerate(events, 1)]
    return {"events": entries, "position": position, "gone": gone, "webhook": webhook}


def test_that_nothing_has_happened_is_said_and_is_no_output(api: Api) -> None:
    api.will("GET /_moorage/events", page())
    result = moorage("events", "wien")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "No events of an endpoint wien.\n")


def test_events_are_lines_and_a_failure_says_what_to_do(api: Api) -> None:
    creating = {"VariantName": "a", "VariantStatus": [{"Status": "Creating", "StatusMessage": "Launching 1."}]}
    api.will(
        "GET /_moorage/events",
        page(event("CREATING"), deployment(creating), event("FAILED", FailureReason=REASON), deployment()),
    )
    assert moorage("events", "wine").stdout.splitlines() == [
        "2026-01-02 03:04:05  wine  CREATING",
        "2026-01-02 03:04:05  wine    a Creating: Launching 1.",
        "2026-01-02 03:04:05  wine  FAILED",
        "    CannotStartContainerError. No.",
        "    Last lines of the container's log:",
        "    boom",
        "  > Read what the container has printed: moorage logs wine",
        "  > See what this machine lacks to run containers: moorage doctor",
        "  > An endpoint that has failed can only be deleted, then created again (moorage run does both):",
        '  >   eval "$(moorage env)"',
        f"  >   {DELETE}",
    ]


def test_notice_for_people_is_one_line(api: Api) -> None:
    detail = {"EndpointName": "wine", "Message": "1 instance(s) of the variant a wait for room."}
    notice = {"detail-type": "Moorage Endpoint Notice", "time": "2026-01-02T03:04:05Z", "detail": detail}
    api.will("GET /_moorage/events", page(notice))
    line = "2026-01-02 03:04:05  wine    1 instance(s) of the variant a wait for room.\n"
    assert moorage("events", "wine").stdout == line


def test_all_pages_are_one_list_of_json(api: Api) -> None:
    full = [event(f"S{number}") for number in range(100)]
    api.will("GET /_moorage/events", page(*full, position=100), page(event("LAST")))
    found = json.loads(moorage("events", "--output", "json").stdout)
    assert [one["detail"]["EndpointStatus"] for one in found] == [f"S{number}" for number in range(100)] + ["LAST"]


def test_following_tells_what_was_missed_and_ends_with_the_server(api: Api) -> None:
    api.will("GET /_moorage/events", page(event("A")), page(event("B"), gone=3), Answer({"Message": "down"}, 503))
    result = moorage("events", "-f", "--output", "json")
    assert [json.loads(line)["detail"]["EndpointStatus"] for line in result.stdout.splitlines()] == ["A", "B"]
    assert "3 events are gone" in result.stderr
    assert result.exit_code == 1


def test_webhook_that_takes_nothing_is_told_of(api: Api) -> None:
    api.will("GET /_moorage/events", page(event("CREATING"), webhook=SICK))
    trouble = "The webhook https://hook: 4 events wait, 2 were dropped. Last: https://hook answered 500."
    assert moorage("events").stderr.strip() == trouble
    checks = {check["name"]: check for check in json.loads(moorage("doctor", "--output", "json").stdout)}
    assert (checks["webhook"]["state"], checks["webhook"]["found"]) == ("limited", trouble)
    assert "MOORAGE_EVENT_WEBHOOK" in checks["webhook"]["advice"]


def test_webhook_that_works_is_no_news(api: Api) -> None:
    api.will("GET /_moorage/events", page(event("CREATING"), webhook=HEALTHY))
    assert moorage("events").stderr == ""
    assert "https://hook, 0 events wait" in moorage("doctor").stdout


def test_ls_says_why_and_what_to_do(api: Api) -> None:
    api.will("ListEndpoints", {"Endpoints": [{"EndpointName": "wine"}]})
    api.will("DescribeEndpoint", {"EndpointName": "wine", "EndpointStatus": "Failed", "FailureReason": REASON})
    assert moorage("ls").stdout.splitlines()[2:6] == [
        "",
        "wine  Failed",
        "    CannotStartContainerError. No.",
        "    Last lines of the container's log:",
    ]
    (row,) = json.loads(moorage("ls", "--output", "json").stdout)
    assert row["advice"][0] == "Read what the container has printed: moorage logs wine"


def test_change_that_failed_of_an_endpoint_that_serves_is_shown_too(api: Api) -> None:
    api.will("ListEndpoints", {"Endpoints": [{"EndpointName": "wine"}]})
    api.will("DescribeEndpoint", {"EndpointName": "wine", "EndpointStatus": "InService", "FailureReason": REASON})
    said = moorage("ls").stdout
    assert "wine  InService\n    CannotStartContainerError" in said
    assert "delete-endpoint" not in said
