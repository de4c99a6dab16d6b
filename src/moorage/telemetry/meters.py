"""What a gateway counts: one meter a variant, and the registry of them. Pure.

The hot path calls ``begin`` and ``end``; both together take about a microsecond, so nothing here builds an object,
takes a lock or looks anything up: all of it is one event loop's. Once a second ``take`` gives what has happened
since, and starts from nothing.
"""

# ruff: noqa: PLR1730 - min() and max() are calls, which take as long as all else in a line

from collections.abc import Callable, Iterable, Iterator, Sequence

from moorage.base.distribution import Distribution
from moorage.telemetry.catalogue import GATEWAY_VALUES
from moorage.telemetry.delta import Delta, Key

_NEVER = 1 << 62
"""More than any number of microseconds."""


class Meter:
    """Counts the invocations of one variant. Seconds come in, whole microseconds are kept."""

    __slots__ = (
        "_by_instances",
        "_clients_gone",
        "_containers",
        "_direct",
        "_errors_4xx",
        "_errors_5xx",
        "_held",
        "_model_buckets",
        "_model_errors",
        "_model_max",
        "_model_min",
        "_model_sum",
        "_models",
        "_overhead_buckets",
        "_overhead_max",
        "_overhead_min",
        "_peak",
        "_streams",
        "_throttled",
        "_total_buckets",
        "_total_max",
        "_total_min",
        "_total_sum",
        "in_flight",
        "waiting",
    )

    def __init__(self) -> None:
        self.in_flight = 0
        """Invocations that are with an instance."""
        self.waiting = 0
        """Invocations that are held."""
        self._peak = 0
        self._start()

    def _start(self) -> None:
        """Begin at nothing; what is in flight goes on."""
        self._by_instances: dict[int, int] = {}
        self._model_errors = self._errors_4xx = self._errors_5xx = 0
        self._clients_gone = self._throttled = self._held = 0
        self._model_sum = self._total_sum = 0
        self._model_min = self._overhead_min = self._total_min = _NEVER
        self._model_max = self._overhead_max = self._total_max = -1
        self._model_buckets: dict[int, int] = {}
        self._overhead_buckets: dict[int, int] = {}
        self._total_buckets: dict[int, int] = {}
        self._streams: _Streams | None = None
        self._containers: dict[str, Distribution] = {}
        self._direct: dict[str, int] = {}
        self._models: dict[str, Distribution] = {}

    def __repr__(self) -> str:
        return f"<Meter: {self.in_flight} in flight, {self.waiting} waiting, {sum(self._by_instances.values())} ended>"

    def begin(self) -> None:
        """Note that an invocation is forwarded: once, however many attempts it takes."""
        now = self.in_flight = self.in_flight + 1
        if now + self.waiting > self._peak:
            self._peak = now + self.waiting

    def end(  # noqa: C901 - written out, because calls would take as long as the work
        self, status: int, model_seconds: float, total_seconds: float, instances: int
    ) -> None:
        """Note the end of an invocation that had begun.

        ``status`` is the model's; 0 when there was none (no connection, a broken answer, a time-out).
        ``model_seconds`` from forwarded to answered, ``total_seconds`` from the request's arrival to the answer's
        last byte. ``instances``: how many of the variant were ready.
        """
        self.in_flight -= 1
        if status < 200 or status > 299:
            self._note_error(status)
        counts = self._by_instances
        counts[instances] = counts.get(instances, 0) + 1
        model = int(model_seconds * 1_000_000)
        total = int(total_seconds * 1_000_000)
        if total < model:
            total = model
        overhead = total - model
        self._model_sum += model
        self._total_sum += total
        if model < self._model_min:
            self._model_min = model
        if model > self._model_max:
            self._model_max = model
        if overhead < self._overhead_min:
            self._overhead_min = overhead
        if overhead > self._overhead_max:
            self._overhead_max = overhead
        if total < self._total_min:
            self._total_min = total
        if total > self._total_max:
            self._total_max = total
        # Three times distribution.bucket_of.
        shift = model.bit_length() - 6
        if shift > 0:
            model = (shift << 5) + (model >> shift)
        counts = self._model_buckets
        counts[model] = counts.get(model, 0) + 1
        shift = overhead.bit_length() - 6
        if shift > 0:
            overhead = (shift << 5) + (overhead >> shift)
        counts = self._overhead_buckets
        counts[overhead] = counts.get(overhead, 0) + 1
        shift = total.bit_length() - 6
        if shift > 0:
            total = (shift << 5) + (total >> shift)
        counts = self._total_buckets
        counts[total] = counts.get(total, 0) + 1

    def _note_error(self, status: int) -> None:
        self._model_errors += 1
        if 400 <= status <= 499:
            self._errors_4xx += 1
        elif 500 <= status <= 599:
            self._errors_5xx += 1

    def client_gone(self, instances: int) -> None:
        """Note, instead of ``end``, that the client of an invocation that had begun has left: there is no latency."""
        self.in_flight -= 1
        self._by_instances[instances] = self._by_instances.get(instances, 0) + 1
        self._clients_gone += 1

    def withdraw(self) -> None:
        """Note, instead of ``end``, that an invocation that had begun goes on at another variant."""
        self.in_flight -= 1

    def first_chunk(self, model_seconds: float, total_seconds: float) -> None:
        """Note the first bytes of a stream; ``end`` follows when it is over."""
        streams = self._open_streams()
        model = max(0, int(model_seconds * 1_000_000))
        total = max(model, int(total_seconds * 1_000_000))
        streams.total.add(total)
        streams.model.add(model)
        streams.overhead.add(total - model)

    def containers(self, latencies: Sequence[tuple[str, int]], *, direct: bool) -> None:
        """Note how many microseconds each container of several has taken; ``end`` follows.

        ``direct``: the invocation has named the only one of them that was asked.
        """
        for name, microseconds in latencies:
            _add(self._containers, name, microseconds)
            if direct:
                self._direct[name] = self._direct.get(name, 0) + 1

    def models(self, measures: Sequence[tuple[str, int]]) -> None:
        """Note what the front of many models has measured, by the metric's name."""
        for name, value in measures:
            _add(self._models, name, value)

    def stream_broke(self) -> None:
        """Note that a stream has failed after its first bytes; ``end`` (status 0) follows."""
        self._open_streams().broken += 1

    def _open_streams(self) -> "_Streams":
        if self._streams is None:
            self._streams = _Streams()
        return self._streams

    def throttle(self) -> None:
        """Note that an invocation was refused because too many were there already."""
        self._throttled += 1

    def hold(self) -> None:
        """Note that an invocation waits for capacity that is on its way; ``hold_ended`` follows."""
        self._held += 1
        now = self.waiting = self.waiting + 1
        if now + self.in_flight > self._peak:
            self._peak = now + self.in_flight

    def hold_ended(self) -> None:
        """Note that a held invocation waits no longer: it is forwarded, refused, or its client has left."""
        self.waiting -= 1

    @property
    def idle(self) -> bool:
        """Whether nobody is there."""
        return not (self.in_flight or self.waiting)

    def take_peak(self) -> int:
        """Give the most that were in flight or waiting at the same time since the last look."""
        peak, self._peak = self._peak, self.in_flight + self.waiting
        return peak

    def take(self) -> Delta | None:
        """Give what has happened since the last time; None when nothing has."""
        if not (self._by_instances or self._throttled or self._held or self._streams):
            return None
        model = sum(self._model_buckets.values())
        streams = self._streams or _NO_STREAMS
        overhead_sum = self._total_sum - self._model_sum
        delta = Delta(
            self._by_instances,
            self._errors_4xx,
            self._errors_5xx,
            self._model_errors,
            self._clients_gone,
            self._throttled,
            self._held,
            streams.broken,
            _made(model, self._model_sum, self._model_min, self._model_max, self._model_buckets),
            _made(model, overhead_sum, self._overhead_min, self._overhead_max, self._overhead_buckets),
            _made(model, self._total_sum, self._total_min, self._total_max, self._total_buckets),
            streams.total,
            streams.model,
            streams.overhead,
            self._containers,
            self._direct,
            self._models,
        )
        self._start()
        return delta


def _add(into: dict[str, Distribution], name: str, value: int) -> None:
    values = into.get(name)
    if values is None:
        values = into[name] = Distribution()
    values.add(value)


def _made(count: int, total: int, minimum: int, maximum: int, buckets: dict[int, int]) -> Distribution:
    return Distribution(count, total, minimum, maximum, buckets) if count else Distribution()


class _Streams:
    """What is counted of streams; most variants have none."""

    __slots__ = ("broken", "model", "overhead", "total")

    def __init__(self) -> None:
        self.broken = 0
        self.model = Distribution()
        self.overhead = Distribution()
        self.total = Distribution()


_NO_STREAMS = _Streams()


class Meters:
    """The meters of one gateway, and the other numbers that it tells."""

    def __init__(self) -> None:
        self._meters: dict[Key, Meter] = {}
        self._served: frozenset[Key] = frozenset()
        self._values: dict[str, Callable[[], float]] = {}

    def __repr__(self) -> str:
        return f"<Meters: {len(self._meters)} of {len(self._served)} variants, {len(self._values)} values>"

    def of(self, account: str, region: str, endpoint: str, variant: str) -> Meter:
        """Give the meter of a variant; keep it with what is prepared of the variant, rather than ask each time."""
        key = (account, region, endpoint, variant)
        meter = self._meters.get(key)
        if meter is None:
            meter = self._meters[key] = Meter()
        return meter

    def serve(self, keys: Iterable[Key]) -> None:
        """Say which variants the snapshot has; meters of others go once nothing of theirs is left to tell."""
        self._served = frozenset(keys)

    def tell(self, name: str, read: Callable[[], float]) -> None:
        """Tell a number of the whole gateway from now on; its name stands in ``catalogue.GATEWAY_VALUES``."""
        if name not in GATEWAY_VALUES:
            raise ValueError(f"{name} is not in the catalogue")
        self._values[name] = read

    def values(self) -> dict[str, float]:
        """Read the numbers of the whole gateway."""
        return {name: read() for name, read in self._values.items()}

    def take(self) -> Iterator[tuple[Key, Delta]]:
        """Take what has happened at each variant since the last time, and forget the variants that are gone."""
        for key, meter in list(self._meters.items()):
            delta = meter.take()
            if meter.idle and key not in self._served:
                self._meters.pop(key, None)
            if delta is not None:
                yield key, delta

    def look(self) -> Iterator[tuple[Key, int, int]]:
        """Give the variants that have somebody: how many now, and the most since the last look."""
        for key, meter in self._meters.items():
            peak = meter.take_peak()
            if peak:
                yield key, meter.in_flight + meter.waiting, peak
