"""Distributions: how wrong a percentile can be, and that pieces add up."""

import math

from hypothesis import given
from hypothesis import strategies as st

from moorage.base.distribution import (
    ERROR,
    Distribution,
    bucket_of,
    flat,
    middle_of,
    of_flags,
    unflat,
)

VALUES = st.integers(0, 2**42)


def made(values: list[int]) -> Distribution:
    distribution = Distribution()
    for value in values:
        distribution.add(value)
    return distribution


@given(VALUES)
def test_a_bucket_stands_for_its_values_to_within_the_stated_error(value: int) -> None:
    assert abs(middle_of(bucket_of(value)) - value) <= value * ERROR


@given(VALUES)
def test_buckets_are_in_the_order_of_their_values(value: int) -> None:
    assert 0 <= bucket_of(value + 1) - bucket_of(value) <= 1


@given(st.lists(VALUES, min_size=1, max_size=200), st.floats(0, 100))
def test_percentile_is_the_exact_one_to_within_the_stated_error(values: list[int], percent: float) -> None:
    exact = sorted(values)[max(1, math.ceil(percent / 100 * len(values))) - 1]
    found = made(values).percentile(percent)
    assert found is not None
    assert abs(found - exact) <= exact * ERROR


@given(st.lists(VALUES, min_size=1))
def test_ends_sum_and_count_are_exact(values: list[int]) -> None:
    found = made(values)
    assert (found.count, found.sum, found.minimum, found.maximum) == (
        len(values),
        sum(values),
        min(values),
        max(values),
    )
    assert found.percentile(100) <= max(values)  # type: ignore[operator]  # there are some


@given(st.lists(st.lists(VALUES), min_size=1, max_size=6))
def test_pieces_add_up_to_the_distribution_of_all(pieces: list[list[int]]) -> None:
    together = Distribution()
    for piece in pieces:
        together = made(piece).merge(together)
    assert together == made([value for piece in pieces for value in piece])


@given(st.lists(VALUES))
def test_a_distribution_survives_the_way_to_another_process(values: list[int]) -> None:
    assert Distribution.from_message(made(values).to_message()) == made(values)


@given(st.dictionaries(st.integers(0, 5000), st.integers(1, 9)))
def test_counts_survive_as_a_list(counts: dict[int, int]) -> None:
    assert unflat(flat(counts)) == counts


@given(st.integers(0, 50), st.integers(0, 50))
def test_flags_are_the_distribution_of_ones_and_zeros(ones: int, zeros: int) -> None:
    assert of_flags(ones + zeros, ones) == made([1] * ones + [0] * zeros)


def test_nothing_has_no_average_and_no_percentile() -> None:
    assert (Distribution().average, Distribution().percentile(50)) == (None, None)
    assert Distribution().to_message() == []


def test_without_a_histogram_there_is_an_average_and_no_percentile() -> None:
    values = Distribution(4, 2.0, 0.5, 0.5)
    assert (values.average, values.percentile(50)) == (0.5, None)
