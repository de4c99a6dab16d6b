"""Metrics in the store: what is added comes together, what is read is what CloudWatch asks for."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import Connection

from moorage.base.distribution import ERROR, Distribution
from moorage.state import metrics
from moorage.state.metrics import Period, Series
from moorage.state.sqlite import open_file
from moorage.state.store import InlineStore
from moorage.testing.builders import ACCOUNT, REGION

MINUTE = 1_767_225_600


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    InlineStore(tmp_path / "state.db").close()
    engine = open_file(tmp_path / "state.db", connections=1)
    with engine.connect() as opened, opened.begin():
        yield opened
    engine.dispose()


def series(metric: str = "ModelLatency", *, endpoint: str = "ep", account: str = ACCOUNT) -> Series:
    dimensions = (("EndpointName", endpoint), ("VariantName", "a"))
    return Series(account, REGION, "AWS/SageMaker", metric, dimensions)


def values(*numbers: int) -> Distribution:
    made = Distribution()
    for number in numbers:
        made.add(number)
    return made


def add(connection: Connection, *rows: tuple[Series, int, Distribution]) -> None:
    metrics.add(connection, rows, {}, 0.0)


def read(connection: Connection, of: Series, minutes: Sequence[int] = (0, 1000), period: int = 60) -> list[Period]:
    start, end = (MINUTE + 60 * minute for minute in minutes)
    return metrics.read(connection, of, start=start, end=end, period_seconds=period)


def test_pieces_of_a_minute_come_together_in_one_row(connection: Connection) -> None:
    add(connection, (series(), MINUTE, values(10, 20)), (series(), MINUTE, values(5)))
    add(connection, (series(), MINUTE, values(4000)), (series(), MINUTE + 60, values(7)))
    assert read(connection, series()) == [
        Period(MINUTE, values(10, 20, 5, 4000)),
        Period(MINUTE + 60, values(7)),
    ]


def test_statistics_of_a_period_are_those_of_its_values(connection: Connection) -> None:
    numbers = [100 * number for number in range(1, 101)]
    for minute in range(5):
        add(connection, (series(), MINUTE + 60 * minute, values(*numbers[minute::5])))
    ((period),) = read(connection, series(), period=300)
    found = period.values
    assert (found.count, found.sum, found.average, found.minimum, found.maximum) == (100, 505_000, 5050, 100, 10_000)
    assert found.percentile(99) == pytest.approx(9900, rel=ERROR)


def test_series_do_not_see_each_other(connection: Connection) -> None:
    other_account, other_endpoint, other_metric = (
        series(account="111122223333"),
        series(endpoint="EP"),
        series("OverheadLatency"),
    )
    for number, one in enumerate((series(), other_account, other_endpoint, other_metric)):
        add(connection, (one, MINUTE, values(number)))
    assert read(connection, series()) == [Period(MINUTE, values(0))]
    assert read(connection, other_metric) == [Period(MINUTE, values(3))]
    assert metrics.find(connection, ACCOUNT, REGION, since=MINUTE) == [other_endpoint, series(), other_metric]
    assert metrics.find(connection, ACCOUNT, REGION, since=MINUTE + 1) == []
    assert metrics.find(connection, ACCOUNT, REGION, since=0, namespace="AWS/EC2") == []


def test_the_end_is_not_part_of_what_is_read(connection: Connection) -> None:
    for minute in range(4):
        add(connection, (series(), MINUTE + 60 * minute, values(minute)))
    assert [period.start - MINUTE for period in read(connection, series(), (1, 3))] == [60, 120]


def test_values_without_a_histogram_have_no_percentiles(connection: Connection) -> None:
    add(connection, (series("InvocationsPerInstance"), MINUTE, Distribution(3, 1.75, 0.25, 1.0)))
    ((period),) = read(connection, series("InvocationsPerInstance"))
    assert (period.values.sum, period.values.percentile(50)) == (1.75, None)


def test_cursors_are_written_with_the_values(connection: Connection) -> None:
    metrics.add(connection, [], {"g1": 3, "g2": 1}, 5.0)
    metrics.add(connection, [], {"g1": 4}, 90_000.0)
    assert metrics.read_cursors(connection) == {"g1": 4, "g2": 1}
    metrics.sweep(connection, 0.0, 10.0)
    assert metrics.read_cursors(connection) == {"g1": 4}


def test_old_minutes_go_an_hour_at_a_time(connection: Connection) -> None:
    for hours in range(5):
        add(connection, (series(), MINUTE + 3600 * hours, values(hours)))
    before = MINUTE + 3 * 3600
    lefts = []
    for _ in range(4):
        metrics.sweep(connection, before, 0.0)
        lefts.append(len(read(connection, series())))
    assert lefts == [4, 3, 2, 2]
