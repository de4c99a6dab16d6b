"""The share of a shadow variant: exact by counting."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.routing.shadow import ShareCounter, shadow_share


def count(counter: ShareCounter, invocations: int) -> int:
    return sum(counter.next() for _ in range(invocations))


@pytest.mark.parametrize(
    ("shadow", "production", "copies"),
    [
        (0.3, 1.0, 300),
        (0.29, 1.0, 290),
        (0.1, 0.3, 333),
        (1.0, 1.0, 1000),
        (5.0, 1.0, 1000),
        (1e-3, 1.0, 1),
        (0.0, 1.0, 0),
        (0.0, 0.0, 0),
        (1.0, 0.0, 1000),
    ],
)
def test_a_thousand_invocations_give_exactly_their_share(shadow: float, production: float, copies: int) -> None:
    assert count(ShareCounter(shadow_share(shadow, production)), 1000) == copies


@given(st.fractions(0, 1, max_denominator=10_000), st.integers(0, 2000))
def test_no_number_of_invocations_is_a_whole_copy_away_from_the_share(share: Fraction, invocations: int) -> None:
    assert -1 < count(ShareCounter(share), invocations) - share * invocations <= 0


@given(st.floats(0, 1e6, width=32), st.floats(0, 1e6, width=32))
def test_any_two_weights_give_a_share_from_nothing_to_all(shadow: float, production: float) -> None:
    assert 0 <= shadow_share(shadow, production) <= 1


def test_its_repr_tells_the_share() -> None:
    counter = ShareCounter(shadow_share(0.3, 1.0))
    counter.next()
    assert repr(counter) == "<ShareCounter: 3/10, 3/10 gathered>"
