"""Metrics by the minute: one row a series and minute, with what CloudWatch's statistics are made from.

A series without values has no row. What is added to a minute that has a row already is added to that row, so values may
come in pieces, late, and from the next control plane. Which of a gateway's numbered messages have been written stands
beside them, in the same transaction: each is written once, whoever is killed in between.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, RowMapping, and_, bindparam, delete, func, insert, select, update

from moorage.base.distribution import Distribution, flat, unflat
from moorage.state.tables import METRIC_CURSORS, METRICS

PERIOD_SECONDS = 60
"""What is kept: minutes, aligned to the minute (UTC)."""

_SWEEP_SECONDS = 3600
"""Of old minutes, deleted at a time: a server that was off for long does not pay for it at once."""


@dataclass(frozen=True, slots=True)
class Series:
    """What CloudWatch calls a metric: one line of a graph."""

    account: str
    region: str
    namespace: str
    metric: str
    dimensions: tuple[tuple[str, str], ...]
    """Name and value, sorted by name."""


@dataclass(frozen=True, slots=True)
class Period:
    """The values of a series in one period."""

    start: int
    """Seconds since the epoch."""
    values: Distribution


Row = tuple[Series, int, Distribution]
"""A series, the start of a minute, and the values to be added there."""

_KEY = ("account", "region", "namespace", "metric", "dimensions", "period_start")
_VALUES = ("samples", "total", "minimum", "maximum", "histogram")
_INSERT = insert(METRICS)
_UPDATE = (
    update(METRICS)
    .where(and_(*(METRICS.c[name] == bindparam(f"its_{name}") for name in _KEY)))
    .values({name: bindparam(f"new_{name}") for name in _VALUES})
)


def add(connection: Connection, rows: Sequence[Row], cursors: Mapping[str, int], now: float) -> None:
    """Add values to their minutes, and note which messages of each gateway they are from."""
    present = _read_minutes(connection, {start for _, start, _ in rows})
    added: dict[tuple[str | int, ...], Distribution] = {}
    for series, start, values in rows:
        key = _key(series, start)
        before = added.get(key) or present.get(key)
        added[key] = values if before is None else before.merge(values)
    fresh = [
        {**dict(zip(_KEY, key, strict=True)), **_values(made)} for key, made in added.items() if key not in present
    ]
    changed = [
        {f"its_{name}": value for name, value in zip(_KEY, key, strict=True)}
        | {f"new_{name}": value for name, value in _values(made).items()}
        for key, made in added.items()
        if key in present
    ]
    if fresh:
        connection.execute(_INSERT, fresh)
    if changed:
        connection.execute(_UPDATE, changed)
    for gateway, number in cursors.items():
        connection.execute(delete(METRIC_CURSORS).where(METRIC_CURSORS.c.gateway == gateway))
        connection.execute(insert(METRIC_CURSORS).values(gateway=gateway, number=number, written_at=now))


def read_cursors(connection: Connection) -> dict[str, int]:
    """Say which of each gateway's messages was the last to be written."""
    return {row.gateway: row.number for row in connection.execute(select(METRIC_CURSORS))}


def sweep(connection: Connection, before: float, cursors_before: float) -> None:
    """Delete minutes that began before a time, an hour's worth at most, and cursors that were last moved before one."""
    oldest = connection.execute(select(func.min(METRICS.c.period_start))).scalar()
    if oldest is not None and oldest < before:
        connection.execute(delete(METRICS).where(METRICS.c.period_start < min(before, oldest + _SWEEP_SECONDS)))
    connection.execute(delete(METRIC_CURSORS).where(METRIC_CURSORS.c.written_at < cursors_before))


def read(
    connection: Connection, series: Series, *, start: int, end: int, period_seconds: int = PERIOD_SECONDS
) -> list[Period]:
    """Give the periods of a series from ``start`` on and before ``end`` that have values, oldest first.

    ``period_seconds`` is a multiple of a minute; periods are aligned to multiples of it since the epoch.
    """
    columns = METRICS.c
    names = (*_KEY[:-1],)
    wanted = and_(*(columns[name] == value for name, value in zip(names, _key(series, 0), strict=False)))
    statement = select(METRICS).where(wanted, columns.period_start >= start, columns.period_start < end)
    periods: dict[int, Distribution] = {}
    for row in connection.execute(statement.order_by(columns.period_start)).mappings():
        begin = row["period_start"] // period_seconds * period_seconds
        values = _distribution(row)
        periods[begin] = periods[begin].merge(values) if begin in periods else values
    return [Period(begin, values) for begin, values in periods.items()]


def find(
    connection: Connection, account: str, region: str, *, since: int, namespace: str | None = None
) -> list[Series]:
    """Give the series of an account and region that have values since a time, in the order of their names."""
    columns = METRICS.c
    wanted = and_(columns.account == account, columns.region == region, columns.period_start >= since)
    if namespace is not None:
        wanted = and_(wanted, columns.namespace == namespace)
    shown = [columns[name] for name in _KEY[:-1]]
    rows = connection.execute(select(*shown).distinct().where(wanted).order_by(*shown)).mappings()
    return [
        Series(
            row["account"],
            row["region"],
            row["namespace"],
            row["metric"],
            tuple((name, value) for name, value in json.loads(row["dimensions"])),
        )
        for row in rows
    ]


def _read_minutes(connection: Connection, starts: Iterable[int]) -> dict[tuple[str | int, ...], Distribution]:
    rows = connection.execute(select(METRICS).where(METRICS.c.period_start.in_(sorted(starts)))).mappings()
    return {tuple(row[name] for name in _KEY): _distribution(row) for row in rows}


def _key(series: Series, start: int) -> tuple[str | int, ...]:
    dimensions = json.dumps(series.dimensions, separators=(",", ":"))
    return (series.account, series.region, series.namespace, series.metric, dimensions, start)


def _values(values: Distribution) -> dict[str, object]:
    histogram = json.dumps(flat(values.buckets), separators=(",", ":"))
    numbers = (values.count, values.sum, values.minimum, values.maximum, histogram)
    return dict(zip(_VALUES, numbers, strict=True))


def _distribution(row: RowMapping) -> Distribution:
    histogram = unflat(json.loads(row["histogram"]))
    return Distribution(row["samples"], row["total"], row["minimum"], row["maximum"], histogram)
