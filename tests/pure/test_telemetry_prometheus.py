"""Prometheus's text format, read back by Prometheus's own parser."""

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from moorage.base.distribution import ERROR, Distribution
from moorage.telemetry.prometheus import BOUNDS_SECONDS, Family, cumulate, text_of


def made(microseconds: list[int]) -> Distribution:
    distribution = Distribution()
    for value in microseconds:
        distribution.add(value)
    return distribution


def parsed(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@given(st.text(), st.text())
def test_whatever_stands_in_a_label_or_a_help_text_comes_back(label: str, help_text: str) -> None:
    text = text_of([Family("moorage_x_total", "counter", help_text, [({"endpoint": label, "variant": "a"}, 3)])])
    assert parsed(text) == {("moorage_x_total", (("endpoint", label), ("variant", "a"))): 3}


@given(st.floats(allow_nan=False))
def test_numbers_come_back(value: float) -> None:
    text = text_of([Family("moorage_y", "gauge", "y", [({}, value)])])
    assert parsed(text) == {("moorage_y", ()): value}


def test_type_and_help_are_told_once() -> None:
    text = text_of([Family("moorage_y", "gauge", "What.", [({"a": "1"}, 1), ({"a": "2"}, 2.5)])])
    assert text == '# HELP moorage_y What.\n# TYPE moorage_y gauge\nmoorage_y{a="1"} 1\nmoorage_y{a="2"} 2.5\n'


def test_metric_without_series_is_left_out() -> None:
    assert text_of([Family("moorage_y", "gauge", "y")]) == ""


def test_histogram_is_what_prometheus_expects_of_one() -> None:
    values = made([90, 110, 2_000, 90_000_000])
    (family,) = text_string_to_metric_families(text_of([Family("h", "histogram", "h", [({"v": "a"}, values)])]))
    assert family.type == "histogram"
    samples = {(sample.name, sample.labels.get("le")): sample.value for sample in family.samples}
    assert samples["h_bucket", "0.0001"] == 1
    assert samples["h_bucket", "0.00025"] == 2
    assert samples["h_bucket", "0.0025"] == 3
    assert samples["h_bucket", "60"] == 3
    assert samples["h_bucket", "+Inf"] == samples["h_count", None] == 4
    assert math.isclose(samples["h_sum", None], 90.0022)


@given(st.lists(st.integers(0, 10**9)))
def test_boundaries_are_right_to_within_the_stated_error(values: list[int]) -> None:
    counts = cumulate(made(values))
    assert all(before <= after for before, after in pairwise(counts))
    for bound, count in zip(BOUNDS_SECONDS, counts, strict=True):
        least = sum(value <= bound * 1e6 * (1 - ERROR) for value in values)
        most = sum(value <= bound * 1e6 * (1 + ERROR) + 1 for value in values)
        assert least <= count <= most
