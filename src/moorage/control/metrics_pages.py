"""The pages about traffic: ``GET /_moorage/metrics`` for Prometheus, ``GET /_moorage/top`` for ``moorage top``."""

import asyncio
import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moorage.base.data_dir import read_json
from moorage.base.distribution import Distribution
from moorage.control.ledger import Ledger
from moorage.control.publish import Publisher
from moorage.telemetry.catalogue import (
    CONTAINER_HISTOGRAMS,
    COUNTERS,
    GATEWAY_VALUES,
    HISTOGRAMS,
    INSTALLATION_VALUES,
    VARIANT_GAUGES,
)
from moorage.telemetry.delta import Delta, Key
from moorage.telemetry.prometheus import Family, text_of

METRICS = "/_moorage/metrics"
TOP = "/_moorage/top"

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_NOTHING = Delta()


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the pages are made from."""

    ledger: Ledger
    publisher: Publisher
    run_dir: Path
    """Where the supervisor says which processes there are."""
    version: str
    scrape_token: str = field(repr=False)
    """Empty: whoever connects from this machine may read the page for Prometheus."""

    async def metrics(self, account: str | None) -> str:
        """Give the page for Prometheus: of one account's variants, or of all."""
        families = [*self._variants(account), *self._gateways()]

        def finish() -> str:
            return text_of([*families, *self._installation()])

        return await asyncio.to_thread(finish)

    def top(self, account: str) -> dict[str, Any]:
        """Give what one account's variants do at present, by endpoint and variant."""
        live, seconds = self.ledger.live()
        in_flight, ready = self.ledger.in_flight(), ready_instances(self.publisher)
        keys = sorted(key for key in {*ready, *live, *in_flight} if key[0] == account)
        return {
            "seconds": round(seconds, 3),
            "variants": [
                row_of(key, live.get(key, _NOTHING), seconds, in_flight.get(key, 0), ready.get(key, 0)) for key in keys
            ],
        }

    def _variants(self, account: str | None) -> Iterator[Family]:
        ready, in_flight, totals = ready_instances(self.publisher), self.ledger.in_flight(), dict(self.ledger.totals)
        keys = sorted(key for key in {*ready, *totals} if account is None or key[0] == account)
        labelled = [(labels_of(key), totals.get(key, _NOTHING)) for key in keys]
        for counter in COUNTERS:
            yield Family(counter.name, "counter", counter.help, [(labels, counter.of(d)) for labels, d in labelled])
        for histogram in HISTOGRAMS:
            # Most variants have no streams.
            values = [(labels, histogram.of(delta)) for labels, delta in labelled]
            yield Family(histogram.name, "histogram", histogram.help, [pair for pair in values if pair[1].count])
        for name, text in CONTAINER_HISTOGRAMS.items():
            yield Family(
                name,
                "histogram",
                text,
                [
                    ({**labels, "container": container}, values)
                    for labels, delta in labelled
                    for container, values in delta.containers.items()
                ],
            )
        for (name, text), now in zip(VARIANT_GAUGES.items(), (in_flight, ready), strict=True):
            yield Family(name, "gauge", text, [(labels_of(key), now.get(key, 0)) for key in keys])

    def _gateways(self) -> Iterator[Family]:
        told = self.ledger.gateway_values()
        for name, value in GATEWAY_VALUES.items():
            samples: list[tuple[Mapping[str, str], float | Distribution]] = [
                ({"gateway": gateway}, values[name]) for gateway, values in told if name in values
            ]
            yield Family(name, value.kind, value.help, samples)

    def _installation(self) -> Iterator[Family]:
        samples: Mapping[str, list[tuple[Mapping[str, str], float | Distribution]]] = {
            "moorage_build_info": [({"version": self.version}, 1)],
            "moorage_process_resident_memory_bytes": [
                ({"role": role, "pid": str(pid)}, size) for role, pid, size in memory(self.run_dir)
            ],
            "moorage_metrics_unwritten_series": [({}, self.ledger.unwritten)],
        }
        for name, value in INSTALLATION_VALUES.items():
            yield Family(name, value.kind, value.help, samples[name])


def labels_of(key: Key) -> dict[str, str]:
    """Give the labels of a variant."""
    return dict(zip(("account", "region", "endpoint", "variant"), key, strict=True))


def ready_instances(publisher: Publisher) -> dict[Key, int]:
    """Count the instances that take invocations, of each variant that is routed to, shadows too."""
    return {
        (route.account, route.region, route.name, variant.name): len(variant.instances)
        for route in publisher.routes
        for variant in (*route.variants, *route.shadows)
    }


def row_of(key: Key, delta: Delta, seconds: float, in_flight: int, ready: int) -> dict[str, Any]:
    """Make one row of ``top``: rates over the last ``seconds``, milliseconds, and the present."""

    def rate(count: int) -> float:
        return round(count / seconds, 3) if seconds else 0.0

    _account, region, endpoint, variant = key
    return {
        "endpoint": endpoint,
        "variant": variant,
        "region": region,
        "requests_per_second": rate(delta.invocations),
        "model_p50_ms": _milliseconds(delta.model, 50),
        "model_p99_ms": _milliseconds(delta.model, 99),
        "total_p50_ms": _milliseconds(delta.total, 50),
        "total_p99_ms": _milliseconds(delta.total, 99),
        "errors_4xx_per_second": rate(delta.errors_4xx),
        "errors_5xx_per_second": rate(delta.errors_5xx),
        "model_errors_per_second": rate(delta.model_errors),
        "throttled_per_second": rate(delta.throttled),
        "in_flight": in_flight,
        "instances_ready": ready,
    }


def _milliseconds(values: Distribution, percent: float) -> float | None:
    found = values.percentile(percent)
    return round(found / 1000, 3) if found is not None else None


def memory(run_dir: Path) -> list[tuple[str, int, int]]:
    """Give role, pid and resident bytes of Moorage's own processes, as the supervisor keeps them."""
    processes: Any = read_json(run_dir / "processes.json") or []
    found = []
    for process in processes:
        with contextlib.suppress(OSError, ValueError, IndexError):  # it may have ended
            pages = Path(f"/proc/{int(process['pid'])}/statm").read_text(encoding="ascii").split()[1]
            found.append((str(process["role"]), int(process["pid"]), int(pages) * _PAGE_BYTES))
    return found
