"""What all gateways have counted: totals for Prometheus, the present for ``moorage top``, minutes in the store.

Gateways tell it once a second over the link that they get their snapshots from (``gateway/reports.py`` has the
message). Every ten seconds what has come is added to its minutes in the store, in one transaction, and each gateway is
told which of its messages the disk has. A message that comes again, because a link broke before it was answered,
is passed over. So each invocation is counted once, also when this process is killed.

Totals are this process's own: they begin at nothing, and never go back while it lives.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from sqlalchemy import Connection

from moorage.base.clock import Clock
from moorage.base.distribution import Distribution
from moorage.base.link import Link, LinkClosed, Message
from moorage.state import metrics
from moorage.state.metrics import Row, Series
from moorage.state.store import Store
from moorage.telemetry.catalogue import (
    CONCURRENCY,
    ENDPOINTS_NAMESPACE,
    LOADED_MODELS,
    NAMESPACE,
    published,
    published_by_container,
)
from moorage.telemetry.delta import Delta, Key

log = logging.getLogger(__name__)

WRITE_SECONDS = 10.0
"""Between two writes, and between two samples of what is in flight (data-plane.md section 11)."""

LIVE_MESSAGES = 5
"""Of a gateway, one a second: what rates and percentiles of the present are made from."""

_LIVE_SECONDS = 3.0
"""A message about a longer time was held up: it is counted, but says nothing of the present."""

_ANSWER_SECONDS = 1.0

FORGET_SECONDS = 3600.0
"""For how long the totals of a variant are told that is routed to no more and counts nothing."""


_MOST_GATEWAYS = 1_000
"""Of which it is remembered what they have told; each restart makes one."""

_CURSOR_SECONDS = 86_400.0
"""For which the store remembers at least what a gateway has told: one that is cut off for longer counts twice
what it had told without hearing so."""


class _Gateway:
    """A gateway whose link is open."""

    def __init__(self, link: Link, name: str) -> None:
        self.link = link
        self.name = name
        self.recent: deque[tuple[float, dict[Key, Delta]]] = deque(maxlen=LIVE_MESSAGES)
        self.in_flight: dict[Key, int] = {}
        self.peaks: dict[tuple[int, Key], int] = {}
        """Most in flight since the last sample, by the minute."""
        self.values: Mapping[str, float] = {}
        self.heard_at = 0.0


class Ledger:
    """Hears the gateways."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        kept_seconds: float,
        routed: Callable[[], Collection[Key]],
        loaded: Callable[[], Iterable[tuple[Key, int]]] = tuple,
    ) -> None:
        """Make it; ``loaded`` tells, by its variant, how many models each instance of many has loaded."""
        self.totals: dict[Key, Delta] = {}
        """What each variant has counted since this process began; a value is replaced, never changed."""
        self._store = store
        self._clock = clock
        self._kept_seconds = kept_seconds
        self._routed = routed
        self._loaded = loaded
        self._gateways: dict[str, _Gateway] = {}
        self._taken: dict[str, int] = {}
        self._stored: dict[str, int] = {}
        self._heard_at: dict[Key, float] = {}
        self._unwritten: dict[tuple[int, Key], Delta] = {}
        self._samples: dict[tuple[int, Key], Distribution] = {}
        self._models: dict[tuple[int, Key], Distribution] = {}
        """How many models each instance had loaded, once a minute."""
        self._swept = 0

    def __repr__(self) -> str:
        return f"<Ledger: {len(self._gateways)} gateways, {len(self.totals)} variants, {self.unwritten} unwritten>"

    @property
    def unwritten(self) -> int:
        """How many series and minutes are not in the store yet."""
        return len(self._unwritten) + len(self._samples) + len(self._models)

    async def load(self) -> None:
        """Read what the control planes before this one have written; before anybody is heard."""
        self._stored = await self._store.read(metrics.read_cursors)
        self._taken = dict(self._stored)

    def hear(self, link: Link, message: Message) -> None:
        """Take a message of a gateway."""
        identity, number = str(message["gateway"]), int(message["number"])
        gateway = self._gateways.get(identity)
        if gateway is None or gateway.link is not link:
            gateway = self._gateways[identity] = _Gateway(link, str(message["name"]))
        deltas = self._take_periods(identity, number, message["periods"])
        seconds = float(message["seconds"])
        if seconds <= 0:
            return
        gateway.heard_at = self._clock.monotonic()
        if seconds <= _LIVE_SECONDS:
            gateway.recent.append((seconds, deltas))
        gateway.in_flight = {(a, r, e, v): now for a, r, e, v, now, _peak in message["in_flight"]}
        minute = _minute(self._clock.now())
        for account, region, endpoint, variant, _now, peak in message["in_flight"]:
            place = (minute, (account, region, endpoint, variant))
            gateway.peaks[place] = max(peak, gateway.peaks.get(place, 0))
        gateway.values = message["values"]

    def _take_periods(self, identity: str, number: int, periods: list[Any]) -> dict[Key, Delta]:
        """Count what a message has, unless it has been counted."""
        deltas: dict[Key, Delta] = {}
        if not periods or number <= self._taken.get(identity, 0):
            return deltas
        self._taken[identity] = number
        now = self._clock.monotonic()
        for start, entries in periods:
            for account, region, endpoint, variant, content in entries:
                key, delta = (account, region, endpoint, variant), Delta.from_message(content)
                for into, place in ((self._unwritten, (start, key)), (self.totals, key), (deltas, key)):
                    _add(into, place, delta)
                self._heard_at[key] = now
        return deltas

    def left(self, link: Link) -> None:
        """Note that a gateway's link is closed: what it had in flight is no longer known."""
        for identity in [identity for identity, gateway in self._gateways.items() if gateway.link is link]:
            del self._gateways[identity]

    def _forget(self) -> None:
        """Let go of the totals of variants that are long gone, and of gateways that are."""
        until, routed = self._clock.monotonic() - FORGET_SECONDS, self._routed()
        for key in [key for key, heard in self._heard_at.items() if heard < until and key not in routed]:
            del self._heard_at[key]
            self.totals.pop(key, None)
        for identity in list(self._taken)[:-_MOST_GATEWAYS]:
            if identity not in self._gateways and self._taken[identity] == self._stored.get(identity):
                del self._taken[identity], self._stored[identity]

    def live(self) -> tuple[dict[Key, Delta], float]:
        """Give what has been counted in the last seconds, and how many seconds that are."""
        found: dict[Key, Delta] = {}
        longest = 0.0
        since = self._clock.monotonic() - LIVE_MESSAGES
        for gateway in self._gateways.values():
            if gateway.heard_at < since:  # it hangs: what it told is no longer the present
                continue
            longest = max(longest, sum(seconds for seconds, _ in gateway.recent))
            for _, deltas in gateway.recent:
                for key, delta in deltas.items():
                    _add(found, key, delta)
        return found, longest

    def in_flight(self) -> dict[Key, int]:
        """Give what is in flight or waits at each variant, over all gateways."""
        found: dict[Key, int] = {}
        for gateway in self._gateways.values():
            for key, now in gateway.in_flight.items():
                found[key] = found.get(key, 0) + now
        return found

    def gateway_values(self) -> list[tuple[str, Mapping[str, float]]]:
        """Give what each gateway tells of itself, by its name."""
        return sorted((gateway.name, gateway.values) for gateway in self._gateways.values())

    async def run(self) -> None:
        """Write again and again until cancelled."""
        while True:
            await self._clock.sleep_until(self._clock.monotonic() + WRITE_SECONDS)
            await self.write()

    async def write(self) -> None:
        """Sample what is in flight, write what has come, and tell the gateways that the disk has it."""
        now = self._clock.now()
        self._sample()
        unwritten, self._unwritten = self._unwritten, {}
        samples, self._samples = self._samples, {}
        sweeps = self._is_a_new_minute(now)
        if sweeps:
            self._count_models(now)
        models, self._models = self._models, {}
        cursors = {name: number for name, number in self._taken.items() if number != self._stored.get(name)}

        def work(connection: Connection) -> None:
            metrics.add(connection, _rows(unwritten, samples, models), cursors, now)
            if sweeps:
                cursors_before = now - max(self._kept_seconds, _CURSOR_SECONDS)
                metrics.sweep(connection, now - self._kept_seconds, cursors_before)

        if unwritten or samples or models or cursors or sweeps:
            try:
                await self._store.transact(work)
            except Exception:
                log.exception("metrics could not be written; they are kept, and written with the next ones")
                for place, delta in unwritten.items():
                    _add(self._unwritten, place, delta)
                for into, kept in ((self._samples, samples), (self._models, models)):
                    for place, values in kept.items():
                        _add(into, place, values)
                return
        self._stored.update(cursors)
        self._forget()
        await self._answer()

    def _sample(self) -> None:
        """Note the most that was in flight since the last sample; nothing of variants that nobody has called."""
        most = dict.fromkeys(self._unwritten, 0)
        for gateway in self._gateways.values():
            for place, peak in gateway.peaks.items():
                most[place] = most.get(place, 0) + peak
            gateway.peaks = {}
        for place, peak in most.items():
            values = Distribution()
            values.add(peak)
            _add(self._samples, place, values)

    def _count_models(self, now: float) -> None:
        """Note how many models each instance has loaded."""
        for key, count in self._loaded():
            values = Distribution()
            values.add(count)
            _add(self._models, (_minute(now), key), values)

    def _is_a_new_minute(self, now: float) -> bool:
        before, self._swept = self._swept, _minute(now)
        return self._swept != before

    async def _answer(self) -> None:
        for identity, gateway in list(self._gateways.items()):
            number = self._stored.get(identity)
            if number is not None:
                with contextlib.suppress(TimeoutError, LinkClosed):  # told the next time, or when it calls again
                    async with asyncio.timeout(_ANSWER_SECONDS):
                        await gateway.link.send({"op": "metrics_stored", "number": number})


def _minute(now: float) -> int:
    return int(now) // metrics.PERIOD_SECONDS * metrics.PERIOD_SECONDS


def _add(into: dict[Any, Any], place: Any, values: Any) -> None:
    before = into.get(place)
    into[place] = values if before is None else before.merge(values)


def _rows(
    unwritten: Mapping[tuple[int, Key], Delta],
    samples: Mapping[tuple[int, Key], Distribution],
    models: Mapping[tuple[int, Key], Distribution],
) -> list[Row]:
    """Give the rows of the store; in the writer's thread."""
    rows = [
        (_series(key, name), start, values)
        for (start, key), delta in unwritten.items()
        for name, values in published(delta)
    ]
    rows += [
        (_series(key, name, ("ContainerName", container)), start, values)
        for (start, key), delta in unwritten.items()
        for name, container, values in published_by_container(delta)
    ]
    rows += [(_series(key, CONCURRENCY), start, values) for (start, key), values in samples.items()]
    rows += [
        (_series(key, LOADED_MODELS, namespace=ENDPOINTS_NAMESPACE), start, values)
        for (start, key), values in models.items()
    ]
    return rows


def _series(key: Key, metric: str, *more: tuple[str, str], namespace: str = NAMESPACE) -> Series:
    account, region, endpoint, variant = key
    dimensions = sorted([*more, ("EndpointName", endpoint), ("VariantName", variant)])
    return Series(account, region, namespace, metric, tuple(dimensions))
