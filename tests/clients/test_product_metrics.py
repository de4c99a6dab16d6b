"""Metrics of the whole product: scraped through the gateway from this machine, shown by the command line."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from prometheus_client.parser import text_string_to_metric_families
from tests.support.fixtures import Deployment, Wine
from tests.support.product import Moorage, running, wait_until

TOKEN = "a-token-of-the-tests"


@pytest.fixture
def moorage(tmp_path: Path) -> Iterator[Moorage]:
    with running(tmp_path / "data") as moorage:
        yield moorage


def scrape(moorage: Moorage, **headers: str) -> tuple[int, str]:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(moorage.server()["url"] + "/_moorage/metrics", headers=given)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read().decode()


def names(text: str) -> set[str]:
    return {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}


def test_scraping_from_this_machine_needs_nothing(moorage: Moorage) -> None:
    wait_until(lambda: "moorage_gateway_connections" in names(scrape(moorage)[1]), within=10, what="a gateway reports")
    _, text = scrape(moorage)
    roles = {
        sample.labels["role"]
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "moorage_process_resident_memory_bytes"
    }
    assert roles >= {"gateway", "control", "node", "neighbours"}
    assert scrape(moorage, X_Forwarded_For="10.0.0.7")[0] == 403
    assert scrape(moorage, Host="evil.example")[0] == 403
    # Nobody says for themselves where they come from.
    assert scrape(moorage, X_Moorage_Source_Ip="127.0.0.1", Via="proxy")[0] == 403


def test_top_says_that_nothing_is_there(moorage: Moorage) -> None:
    assert moorage.run("top", "--once").stdout == "No endpoint takes invocations.\n"
    assert json.loads(moorage.run("top", "--once", "--output", "json").stdout) == []


def test_token_reads_the_metrics_and_is_seen_by_nobody(tmp_path: Path) -> None:
    with running(tmp_path / "data", MOORAGE_METRICS_TOKEN=TOKEN) as moorage:
        assert scrape(moorage)[0] == 403
        status, text = scrape(moorage, Authorization=f"Bearer {TOKEN}", Host="moorage.example")
        assert (status, "moorage_build_info" in text) == (200, True)
        commands = [Path(f"/proc/{row['pid']}/cmdline").read_text() for row in moorage.ps()]
        assert not [command for command in commands if TOKEN in command]


def counted(moorage: Moorage, name: str) -> float:
    """Add up a metric over its labels."""
    _, text = scrape(moorage)
    families = text_string_to_metric_families(text)
    return sum(sample.value for family in families for sample in family.samples if sample.name == name)


@pytest.mark.slow  # starts instances
def test_each_invocation_is_counted_shown_and_logged(wine: Wine, tmp_path: Path) -> None:
    log = tmp_path / "access.jsonl"
    with running(tmp_path / "data", MOORAGE_ACCESS_LOG=str(log), MOORAGE_GATEWAYS="2") as moorage:
        deployment = Deployment(moorage)
        deployment.in_service("ep", ("v1", deployment.model("m", wine.artefact("logistic")), 1.0, 1))
        for _ in range(20):
            deployment.runtime.invoke_endpoint(EndpointName="ep", ContentType="text/csv", Body=wine.csv(0, 1))
        with pytest.raises(ClientError):
            deployment.runtime.invoke_endpoint(EndpointName="ep", ContentType="text/csv", Body="no,numbers")
        total = "moorage_invocations_total"
        wait_until(lambda: counted(moorage, total) == 21, within=10, what="the invocations are counted")
        assert counted(moorage, "moorage_model_latency_seconds_count") == 21
        (line,) = json.loads(moorage.run("top", "--once", "--output", "json").stdout)
        assert (line["endpoint"], line["variant"], line["instances_ready"]) == ("ep", "v1", 1)

        def lines() -> list[dict[str, Any]]:
            """Read those of the endpoint; the start of the server has left one without."""
            entries = [json.loads(line) for line in log.read_text().splitlines()]
            return [entry for entry in entries if entry["endpoint"] is not None]

        wait_until(lambda: len(lines()) == 21, within=10, what="the access log is written")
        assert sorted(entry["status"] for entry in lines()) == [200] * 20 + [424]
        assert {(entry["endpoint"], entry["variant"], entry["operation"]) for entry in lines()} == {
            ("ep", "v1", "InvokeEndpoint")
        }
        assert all(entry["model_ms"] <= entry["total_ms"] for entry in lines())
