"""The metrics of CloudWatch as they follow from what was counted."""

import re
from pathlib import Path

from moorage.base.distribution import Distribution, of_flags
from moorage.telemetry.catalogue import (
    CONCURRENCY,
    CONTAINER_HISTOGRAMS,
    CONTAINER_LATENCY,
    COUNTERS,
    GATEWAY_VALUES,
    HISTOGRAMS,
    INSTALLATION_VALUES,
    LOADED_MODELS,
    METRICS,
    MODELS,
    UNITS,
    VARIANT_GAUGES,
    published,
    published_by_container,
)
from moorage.telemetry.delta import Delta
from moorage.telemetry.meters import Meter

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")


def counted(*, stream: bool = False) -> dict[str, Distribution]:
    """Give what is published of three invocations: one right, one 404, one without an answer."""
    meter = Meter()
    for status, instances in ((200, 1), (404, 2), (0, 4)):
        meter.begin()
        meter.end(status, 0.25, 0.5, instances)
    if stream:
        meter.first_chunk(0.25, 0.5)
    return dict(published(meter.take() or Delta()))


def test_each_invocation_publishes_one_or_zero_so_that_the_average_is_the_rate_of_errors() -> None:
    found = counted()
    assert found["Invocations"] == of_flags(3, 3)
    assert found["Invocation4XXErrors"] == of_flags(3, 1)
    assert found["Invocation5XXErrors"] == of_flags(3, 0)
    assert found["InvocationModelErrors"] == of_flags(3, 2)
    assert found["Invocation4XXErrors"].average == 1 / 3


def test_each_invocation_publishes_its_share_of_an_instance() -> None:
    shares = counted()["InvocationsPerInstance"]
    assert (shares.count, shares.sum, shares.minimum, shares.maximum) == (3, 1.75, 0.25, 1.0)


def test_latencies_are_microseconds() -> None:
    found = counted()
    assert (found["ModelLatency"].sum, found["OverheadLatency"].maximum) == (750_000, 250_000)


def test_metrics_of_streams_are_published_where_there_are_streams() -> None:
    streams = {"FirstChunkLatency", "FirstChunkModelLatency", "FirstChunkOverheadLatency", "MidStreamErrors"}
    assert counted(stream=True).keys() - counted().keys() == streams
    assert counted(stream=True)["MidStreamErrors"] == of_flags(1, 0)


def test_stream_that_began_before_and_breaks_now_is_one_of_one() -> None:
    meter = Meter()
    meter.stream_broke()
    assert dict(published(meter.take() or Delta())) == {"MidStreamErrors": of_flags(1, 1)}


def test_nothing_is_published_of_what_is_not_an_invocation() -> None:
    meter = Meter()
    meter.throttle()
    meter.hold()
    assert dict(published(meter.take() or Delta())) == {}


def test_every_metric_of_cloudwatch_is_documented_with_its_unit() -> None:
    documented = dict(re.findall(r"^\| `([A-Z]\w+)` \| (None|Microseconds) \|", PAGE, re.MULTILINE))
    assert documented == UNITS
    assert set(UNITS) == {*(metric.name for metric in METRICS), *MODELS, CONTAINER_LATENCY, CONCURRENCY, LOADED_MODELS}


def test_every_metric_of_prometheus_is_documented_with_its_type() -> None:
    documented = dict(re.findall(r"^\| `(moorage_\w+)` \| (\w+) \|", PAGE, re.MULTILINE))
    assert documented == {
        **{counter.name: "counter" for counter in COUNTERS},
        **{histogram.name: "histogram" for histogram in HISTOGRAMS},
        **dict.fromkeys(CONTAINER_HISTOGRAMS, "histogram"),
        **dict.fromkeys(VARIANT_GAUGES, "gauge"),
        **{name: value.kind for name, value in {**GATEWAY_VALUES, **INSTALLATION_VALUES}.items()},
    }


def test_containers_publish_their_latency_and_direct_ones_their_invocations() -> None:
    meter = Meter()
    for direct in (False, True):
        meter.begin()
        meter.containers([("a", 7)] if direct else [("a", 5), ("b", 6)], direct=direct)
        meter.end(200, 0.25, 0.5, 1)
    found = {
        (name, container): values.sum for name, container, values in published_by_container(meter.take() or Delta())
    }
    assert found == {("ContainerLatency", "a"): 12, ("ContainerLatency", "b"): 6, ("Invocations", "a"): 1}
