"""Every metric by its name, for CloudWatch and for Prometheus, and how each follows from a delta. Pure.

``docs/reference/metrics.md`` lists the same; a test compares them.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from moorage.base.distribution import Distribution, of_flags
from moorage.telemetry.delta import Delta

NAMESPACE = "AWS/SageMaker"
CONCURRENCY = "ConcurrentRequestsPerModel"

ENDPOINTS_NAMESPACE = "/aws/sagemaker/Endpoints"
LOADED_MODELS = "LoadedModelCount"
"""In the namespace of what instances are like; one value of each instance each minute."""

Unit = Literal["None", "Microseconds"]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric of invocations in the namespace AWS/SageMaker, by EndpointName and VariantName."""

    name: str
    unit: Unit
    of: Callable[[Delta], Distribution]
    """The values that were published for what is in a delta."""


def _per_instance(delta: Delta) -> Distribution:
    """Each invocation counts 1/n, n the active instances: their sum is what each instance had to do."""
    shares = {max(1, instances): count for instances, count in delta.by_instances.items()}
    if not shares:
        return Distribution()
    total = sum(count / instances for instances, count in sorted(shares.items()))
    return Distribution(sum(shares.values()), total, 1 / max(shares), 1 / min(shares))


def _streams(delta: Delta) -> Distribution:
    # A stream that began in the delta before may break in this one.
    return of_flags(max(delta.first_chunk.count, delta.broken_streams), delta.broken_streams)


METRICS: tuple[Metric, ...] = (
    Metric("Invocations", "None", lambda delta: of_flags(delta.invocations, delta.invocations)),
    Metric("InvocationsPerInstance", "None", _per_instance),
    Metric("Invocation4XXErrors", "None", lambda delta: of_flags(delta.invocations, delta.errors_4xx)),
    Metric("Invocation5XXErrors", "None", lambda delta: of_flags(delta.invocations, delta.errors_5xx)),
    Metric("InvocationModelErrors", "None", lambda delta: of_flags(delta.invocations, delta.model_errors)),
    Metric("ModelLatency", "Microseconds", lambda delta: delta.model),
    Metric("OverheadLatency", "Microseconds", lambda delta: delta.overhead),
    Metric("FirstChunkLatency", "Microseconds", lambda delta: delta.first_chunk),
    Metric("FirstChunkModelLatency", "Microseconds", lambda delta: delta.first_chunk_model),
    Metric("FirstChunkOverheadLatency", "Microseconds", lambda delta: delta.first_chunk_overhead),
    Metric("MidStreamErrors", "None", _streams),
)
"""Those that follow from deltas; CONCURRENCY is sampled."""

CONTAINER_LATENCY = "ContainerLatency"
"""By container, with the dimension ContainerName, as is Invocations where containers are invoked directly."""

MODELS: Mapping[str, Unit] = {
    "ModelLoadingWaitTime": "Microseconds",
    "ModelDownloadingTime": "Microseconds",
    "ModelLoadingTime": "Microseconds",
    "ModelUnloadingTime": "Microseconds",
    "ModelCacheHit": "None",
}
"""Of many models in one container, as their fronts have measured them (data-plane.md section 11)."""

UNITS: Mapping[str, Unit] = {
    **{metric.name: metric.unit for metric in METRICS},
    **MODELS,
    CONTAINER_LATENCY: "Microseconds",
    CONCURRENCY: "None",
    LOADED_MODELS: "None",
}


def published(delta: Delta) -> Iterator[tuple[str, Distribution]]:
    """Give the metrics that have values, by name."""
    for metric in METRICS:
        values = metric.of(delta)
        if values.count:
            yield metric.name, values
    for name, values in delta.models.items():
        if name in MODELS:
            yield name, values


def published_by_container(delta: Delta) -> Iterator[tuple[str, str, Distribution]]:
    """Give the metrics of single containers that have values: the metric's name, the container's, and the values."""
    for container, values in delta.containers.items():
        yield CONTAINER_LATENCY, container, values
    for container, count in delta.direct.items():
        yield "Invocations", container, of_flags(count, count)


@dataclass(frozen=True, slots=True)
class Counter:
    """A number of a variant that only grows, for Prometheus."""

    name: str
    help: str
    of: Callable[[Delta], int]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Seconds of a variant's invocations, for Prometheus."""

    name: str
    help: str
    of: Callable[[Delta], Distribution]


@dataclass(frozen=True, slots=True)
class Value:
    """A number of one gateway or of the installation, for Prometheus."""

    help: str
    kind: Literal["counter", "gauge"]


COUNTERS: tuple[Counter, ...] = (
    Counter("moorage_invocations_total", "Invocations that have ended.", lambda d: d.invocations),
    Counter("moorage_invocation_4xx_errors_total", "Answers of the model with a status 4xx.", lambda d: d.errors_4xx),
    Counter("moorage_invocation_5xx_errors_total", "Answers of the model with a status 5xx.", lambda d: d.errors_5xx),
    Counter(
        "moorage_invocation_model_errors_total",
        "Answers of the model that are not 2xx, broken ones, and time-outs.",
        lambda d: d.model_errors,
    ),
    Counter("moorage_clients_gone_total", "Clients that left before the answer.", lambda d: d.clients_gone),
    Counter("moorage_throttled_total", "Invocations refused because too many were waiting.", lambda d: d.throttled),
    Counter("moorage_held_total", "Invocations that waited for capacity on its way.", lambda d: d.held),
    Counter(
        "moorage_mid_stream_errors_total", "Streams that failed after their first bytes.", lambda d: d.broken_streams
    ),
)

HISTOGRAMS: tuple[Histogram, ...] = (
    Histogram("moorage_model_latency_seconds", "From forwarded to answered by the model.", lambda d: d.model),
    Histogram("moorage_overhead_latency_seconds", "Total less model: what Moorage adds.", lambda d: d.overhead),
    Histogram("moorage_latency_seconds", "From the request's arrival to the answer's last byte.", lambda d: d.total),
    Histogram("moorage_first_chunk_latency_seconds", "Streams: arrival to first chunk.", lambda d: d.first_chunk),
    Histogram(
        "moorage_first_chunk_model_latency_seconds",
        "Streams: forwarded to the model's first chunk.",
        lambda d: d.first_chunk_model,
    ),
    Histogram(
        "moorage_first_chunk_overhead_latency_seconds",
        "Streams: what Moorage adds to the first chunk.",
        lambda d: d.first_chunk_overhead,
    ),
)

CONTAINER_HISTOGRAMS: Mapping[str, str] = {
    "moorage_container_latency_seconds": "From asked to answered by one container of several.",
}
"""With the label ``container``."""

VARIANT_GAUGES: Mapping[str, str] = {
    "moorage_in_flight": "Invocations that are with an instance or wait for one.",
    "moorage_instances_ready": "Instances that take invocations.",
}

GATEWAY_VALUES: Mapping[str, Value] = {
    "moorage_gateway_connections": Value("Clients that are connected.", "gauge"),
    "moorage_gateway_connections_refused_total": Value("Clients for whom there was no connection left.", "counter"),
    "moorage_mirror_sent_total": Value("Copies of invocations that shadow variants were sent.", "counter"),
    "moorage_mirror_dropped_total": Value("Copies that shadow variants were not sent.", "counter"),
    "moorage_capture_records_total": Value("Invocations that data capture has taken.", "counter"),
    "moorage_capture_dropped_total": Value("Invocations that data capture has lost.", "counter"),
    "moorage_access_log_dropped_total": Value("Lines that the access log has lost.", "counter"),
}
"""Told by each gateway that has them (``Meters.tell``); the label ``gateway`` is its pid."""

INSTALLATION_VALUES: Mapping[str, Value] = {
    "moorage_build_info": Value("1, with the version as a label.", "gauge"),
    "moorage_process_resident_memory_bytes": Value("Memory of Moorage's own processes.", "gauge"),
    "moorage_metrics_unwritten_series": Value("Series and periods that are not in the store yet.", "gauge"),
}
