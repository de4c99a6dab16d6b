"""The pages about traffic: what Prometheus scrapes, what ``moorage top`` shows, and to whom."""

import json
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.support.pipeline import Counter, open_counter

from moorage.aws.credentials import Credential
from moorage.base.ids import SystemIds
from moorage.base.link import Link
from moorage.gateway.reports import Reports
from moorage.routing.snapshot import Endpoint, Instance, Variant
from moorage.state.records import EndpointKey
from moorage.telemetry.meters import Meters

OWN, OTHER = "000000000000", "111122223333"
LOCAL = {"host": "localhost:8410", "x_moorage_source_ip": "127.0.0.1"}
METRICS, TOP = "/_moorage/metrics", "/_moorage/top"

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def route(account: str, name: str, variants: Mapping[str, int], shadows: Mapping[str, int]) -> Endpoint:
    def made(found: Mapping[str, int]) -> tuple[Variant, ...]:
        return tuple(
            Variant(
                variant, 1.0, "primary", tuple(Instance(f"i-{name}-{variant}-{n}", "unix:/i") for n in range(count))
            )
            for variant, count in found.items()
        )

    return Endpoint(account, "us-east-1", name, "arn", made(variants), made(shadows))


async def publish(counter: Counter, account: str, name: str, *, shadows: Any = None, **variants: int) -> None:
    publisher = counter.desk.services.publisher
    await publisher.publish_route(
        EndpointKey(account, "us-east-1", name), route(account, name, variants, shadows or {})
    )


class Gateway:
    """The counting part of a gateway, and the way to the control plane."""

    def __init__(self, counter: Counter, name: str) -> None:
        self.meters = Meters()
        self._counter = counter
        self._reports = Reports(self.meters, gateway=SystemIds().request_id(), name=name)
        self._link = cast("Link", object())

    def invoke(self, account: str, endpoint: str, variant: str, count: int = 1, *, status: int = 200) -> None:
        meter = self.meters.of(account, "us-east-1", endpoint, variant)
        for _ in range(count):
            meter.begin()
            meter.end(status, 0.020, 0.021, 1)

    def tell(self) -> None:
        list(self._reports.collect(self._counter.clock.now(), 1.0))
        *_, message = self._reports.next_message()
        assert message is not None
        self._counter.desk.traffic.ledger.hear(self._link, message)

    def go(self) -> None:
        self._counter.desk.traffic.ledger.left(self._link)


@pytest.fixture
async def counter(tmp_path: Path) -> AsyncIterator[Counter]:
    async with open_counter(tmp_path) as opened:
        yield opened


async def scraped(counter: Counter, **how: Any) -> Samples:
    status, headers, body = await counter.page(METRICS, **(how or {"key": None, **LOCAL}))
    assert status == 200, body
    assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def of(name: str, endpoint: str, variant: str, account: str = OWN, **more: str) -> tuple[str, Any]:
    labels = {"account": account, "region": "us-east-1", "endpoint": endpoint, "variant": variant, **more}
    return name, tuple(sorted(labels.items()))


async def test_what_gateways_have_counted_can_be_scraped(counter: Counter) -> None:
    await publish(counter, OWN, "ep", a=2, b=1, shadows={"dark": 1})
    one, two = Gateway(counter, "11"), Gateway(counter, "12")
    one.invoke(OWN, "ep", "a", 3)
    two.invoke(OWN, "ep", "a", 2, status=500)
    two.meters.of(OWN, "us-east-1", "ep", "b").begin()
    one.meters.tell("moorage_gateway_connections", lambda: 7)
    one.tell()
    two.tell()
    found = await scraped(counter)
    assert found[of("moorage_invocations_total", "ep", "a")] == 5
    assert found[of("moorage_invocation_5xx_errors_total", "ep", "a")] == 2
    assert found[of("moorage_invocations_total", "ep", "b")] == 0
    assert found[of("moorage_model_latency_seconds_bucket", "ep", "a", le="0.01")] == 0
    assert found[of("moorage_model_latency_seconds_bucket", "ep", "a", le="0.025")] == 5
    assert found[of("moorage_latency_seconds_count", "ep", "a")] == 5
    assert found[of("moorage_overhead_latency_seconds_sum", "ep", "a")] == pytest.approx(0.005, rel=0.01)
    assert found[of("moorage_in_flight", "ep", "b")] == 1
    assert found[of("moorage_instances_ready", "ep", "a")] == 2
    assert found[of("moorage_instances_ready", "ep", "dark")] == 1
    assert found["moorage_gateway_connections", (("gateway", "11"),)] == 7
    assert found["moorage_build_info", (("version", "1.2.3"),)] == 1


async def test_counters_never_go_back(counter: Counter) -> None:
    gateway = Gateway(counter, "11")
    gateway.invoke(OWN, "ep", "a", 3)
    gateway.tell()
    before = await scraped(counter)
    gateway.go()
    after = Gateway(counter, "12")
    after.invoke(OWN, "ep", "a", 1)
    after.tell()
    found = await scraped(counter)
    assert found[of("moorage_invocations_total", "ep", "a")] == 4
    assert all(value <= found[key] for key, value in before.items() if key[0].endswith(("_total", "_bucket", "_count")))


async def test_memory_of_every_process_is_told(counter: Counter, tmp_path: Path) -> None:
    processes = [{"role": "gateway", "pid": os.getpid()}, {"role": "node", "pid": 2**22 + 1}]
    (tmp_path / "processes.json").write_text(json.dumps(processes))
    found = await scraped(counter)
    own = found["moorage_process_resident_memory_bytes", (("pid", str(os.getpid())), ("role", "gateway"))]
    assert 10**6 < own < 10**10
    assert not any(("role", "node") in labels for _, labels in found)


async def test_signed_caller_sees_its_own_account(counter: Counter) -> None:
    await publish(counter, OWN, "ep", a=1)
    await publish(counter, OTHER, "theirs", a=1)
    gateway = Gateway(counter, "11")
    gateway.invoke(OTHER, "theirs", "a")
    gateway.tell()
    _, _, body = await counter.page(METRICS)
    assert b'endpoint="ep"' in body
    assert b"theirs" not in body
    assert of("moorage_invocations_total", "theirs", "a", OTHER) in await scraped(counter)
    _, _, shown = await counter.page(TOP)
    assert [row["endpoint"] for row in json.loads(shown)["variants"]] == ["ep"]


async def test_wrong_signature_is_refused_also_from_this_machine(counter: Counter) -> None:
    stranger = Credential("AKIASTRANGERSTRANGER", "secret", OWN, "nobody")
    status, _, body = await counter.page(METRICS, key=stranger, **LOCAL)
    assert (status, json.loads(body)["__type"]) == (400, "UnrecognizedClientException")


async def test_caller_without_permission_sees_nothing(counter: Counter) -> None:
    nothing = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]}
    key = await counter.desk.keyring.create(OWN, "limited", (json.dumps(nothing),))
    limited = Credential(key.access_key_id, key.secret_access_key, OWN, "limited")
    for page in (METRICS, TOP):
        status, headers, _ = await counter.page(page, key=limited, **LOCAL)
        assert (status, headers["x-amzn-errortype"]) == (400, "AccessDeniedException")


async def test_stranger_from_elsewhere_sees_nothing(counter: Counter) -> None:
    status, headers, _ = await counter.page(METRICS, key=None, **{**LOCAL, "x_moorage_source_ip": "10.0.0.7"})
    assert (status, headers["x-amzn-errortype"]) == (403, "MissingAuthenticationTokenException")


async def test_top_wants_a_signature_wherever_one_comes_from(counter: Counter) -> None:
    status, _, _ = await counter.page(TOP, key=None, **LOCAL)
    assert status >= 400


async def test_token_reads_the_metrics_from_anywhere_and_nothing_else(tmp_path: Path) -> None:
    async with open_counter(tmp_path, scrape_token="s3cret") as counter:
        far = {"x_moorage_source_ip": "10.0.0.7", "authorization": "Bearer s3cret"}
        assert await scraped(counter, key=None, **far)
        for page in (TOP, "/_moorage/keys", "/_moorage/events"):
            status, _, _ = await counter.page(page, key=None, **far)
            assert status >= 400
        status, _, _ = await counter.page(METRICS, key=None, **LOCAL)
        assert status == 403


async def test_top_tells_of_every_variant_that_is_routed_to(counter: Counter) -> None:
    await publish(counter, OWN, "ep", a=2, b=1)
    await publish(counter, OWN, "idle", only=3)
    gateway = Gateway(counter, "11")
    gateway.invoke(OWN, "ep", "a", 30)
    gateway.invoke(OWN, "ep", "a", 10, status=404)
    gateway.meters.of(OWN, "us-east-1", "ep", "b").begin()
    gateway.tell()
    gateway.tell()
    _, headers, body = await counter.page(TOP)
    first, second, third = json.loads(body)["variants"]
    assert headers["content-type"] == "application/json"
    assert (first["variant"], first["requests_per_second"], first["errors_4xx_per_second"]) == ("a", 20.0, 5.0)
    assert (first["model_p50_ms"], first["total_p99_ms"]) == (pytest.approx(20, rel=0.02), pytest.approx(21, rel=0.02))
    assert (first["instances_ready"], second["in_flight"], second["model_p50_ms"]) == (2, 1, None)
    assert (third["endpoint"], third["instances_ready"], third["requests_per_second"]) == ("idle", 3, 0.0)
