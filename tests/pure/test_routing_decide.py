from collections import Counter, defaultdict
from collections.abc import Collection
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.routing import Always, Given, Steps, chosen, endpoint, nobody_asks, variant, with_strategy

from moorage.base.chance import seeded_chance
from moorage.routing.conditions import Conditions
from moorage.routing.decide import Choice, Refusal, Routes, decide, decide_shadow, make_routes, make_routing
from moorage.routing.snapshot import Snapshot, Strategy, Variant

CALM = Conditions()


def names(decision: Choice | Refusal) -> tuple[str, str]:
    assert isinstance(decision, Choice)
    return decision.variant.name, decision.instance.instance_id


@pytest.mark.parametrize(
    ("weights", "counts"),
    [
        ((2, 1), {"v0": 800, "v1": 400}),
        ((1, 3), {"v0": 300, "v1": 900}),
        ((0, 1), {"v1": 1200}),
        ((0.5, 0.5, 0), {"v0": 600, "v1": 600}),
        ((1, 2, 3), {"v0": 200, "v1": 400, "v2": 600}),
    ],
)
def test_shares_are_exact(weights: tuple[float, ...], counts: dict[str, int]) -> None:
    routes = make_routes(endpoint(*(variant(f"v{n}", weight) for n, weight in enumerate(weights))))
    chance = Steps(1200)
    assert Counter(names(decide(routes, None, chance, CALM))[0] for _ in range(1200)) == counts


def test_random_choices_fit_the_shares_by_chi_square() -> None:
    routes = make_routes(endpoint(variant("a", 2, 2), variant("b", 1, 2)))
    chance = seeded_chance(1)
    seen = Counter(names(decide(routes, None, chance, CALM)) for _ in range(30_000))
    expected = {("a", "a-0"): 10_000, ("a", "a-1"): 10_000, ("b", "b-0"): 5_000, ("b", "b-1"): 5_000}
    assert sum((seen[key] - count) ** 2 / count for key, count in expected.items()) < 16.27  # p = 0.001


def test_variant_without_instances_leaves_its_share_to_the_others() -> None:
    routes = make_routes(endpoint(variant("a", 5, 0), variant("b", 1), variant("c", 1)))
    chance = Steps(100)
    assert Counter(names(decide(routes, None, chance, CALM))[0] for _ in range(100)) == {"b": 50, "c": 50}


def test_target_variant_overrides_weights() -> None:
    routes = make_routes(endpoint(variant("a", 1), variant("b", 0)))
    assert names(decide(routes, "b", Always(0.0), CALM)) == ("b", "b-0")


@pytest.mark.parametrize(
    ("variants", "target", "refusal"),
    [
        ((variant("a", 1),), "b", Refusal.UNKNOWN_VARIANT),
        ((variant("a", 1),), "A", Refusal.UNKNOWN_VARIANT),
        ((variant("a", 1, 0),), None, Refusal.NO_INSTANCE),
        ((variant("a", 1), variant("b", 1, 0)), "b", Refusal.NO_INSTANCE),
        ((variant("a", 0), variant("b", 1, 0)), None, Refusal.NO_INSTANCE),
        ((variant("a", 0), variant("b", 0)), None, Refusal.NO_WEIGHT),
        ((), None, Refusal.NO_INSTANCE),
    ],
)
def test_refusals(variants: tuple[Variant, ...], target: str | None, refusal: Refusal) -> None:
    assert decide(make_routes(endpoint(*variants)), target, Always(0.5), CALM) is refusal


def test_only_variant_needs_no_weight() -> None:
    assert names(decide(make_routes(endpoint(variant("a", 0))), None, Always(0.5), CALM)) == ("a", "a-0")


def test_another_attempt_stays_with_its_variant_while_it_can() -> None:
    routes = make_routes(endpoint(variant("a", 1, 2), variant("b", 1_000)))
    stay = routes.by_name["a"]
    first = decide(routes, None, Always(0.9), CALM, tried={"a-0"}, stay_with=stay)
    second = decide(routes, None, Always(0.9), CALM, tried={"a-0", "a-1"}, stay_with=stay)
    third = decide(routes, None, Always(0.9), CALM, tried={"a-0", "a-1", "b-0"}, stay_with=stay)
    assert (names(first), names(second), third) == (("a", "a-1"), ("b", "b-0"), Refusal.NONE_LEFT)


def test_another_attempt_at_a_target_variant_stays_with_it() -> None:
    routes = make_routes(endpoint(variant("a", 1, 2), variant("b", 1)))
    assert names(decide(routes, "a", Always(0.0), CALM, tried={"a-0"})) == ("a", "a-1")
    assert decide(routes, "a", Always(0.0), CALM, tried={"a-0", "a-1"}) is Refusal.NONE_LEFT


def test_suspects_are_passed_over_while_there_is_another() -> None:
    routes = make_routes(endpoint(variant("a", 1, 2), variant("b", 1)))
    chance = seeded_chance(1)
    assert {names(decide(routes, "a", chance, Conditions(suspects={"a-0"})))[1] for _ in range(50)} == {"a-1"}
    assert {names(decide(routes, None, chance, Conditions(suspects={"a-0", "a-1"})))[1] for _ in range(50)} == {"b-0"}
    everyone = {"a-0", "a-1", "b-0"}
    assert {names(decide(routes, None, chance, Conditions(suspects=everyone)))[1] for _ in range(200)} == everyone
    assert names(decide(routes, "a", chance, Conditions(suspects=everyone), tried={"a-0"})) == ("a", "a-1")


def test_full_instances_are_never_asked_and_leave_the_shares_alone() -> None:
    routes = make_routes(endpoint(variant("a", 1, 2), variant("b", 1)))
    busy, chance = Conditions(full={"a-0"}), Steps(100)
    seen = Counter(names(decide(routes, None, chance, busy))[0] for _ in range(100))
    assert seen == {"a": 50, "b": 50}
    assert {chosen(decide(routes, "a", seeded_chance(1), busy)) for _ in range(50)} == {"a-1"}
    everyone = Conditions(full={"a-0", "a-1"})
    assert decide(routes, None, Always(0.0), everyone) is Refusal.FULL
    assert names(decide(routes, None, Always(0.9), everyone)) == ("b", "b-0")
    assert decide(routes, "a", Always(0.9), everyone) is Refusal.FULL


def test_refused_by_some_and_full_for_the_rest_is_full() -> None:
    routes = make_routes(endpoint(variant("a", 1, 2)))
    busy = Conditions(full={"a-1"})
    assert decide(routes, None, Always(0.0), busy, tried={"a-0"}) is Refusal.FULL
    assert decide(routes, None, Always(0.0), busy, tried={"a-0", "a-1"}) is Refusal.NONE_LEFT


def test_a_suspect_with_room_is_asked_when_the_others_are_full() -> None:
    routes = make_routes(endpoint(variant("a", 1, 2)))
    assert chosen(decide(routes, None, Always(0.9), Conditions(suspects={"a-0"}, full={"a-1"}))) == "a-0"


def test_shadow_variant_has_instances_of_its_own_and_no_share() -> None:
    routes = make_routes(endpoint(variant("a", 1), shadows=[variant("s", 5, 2)]))
    chance = Steps(100)
    assert {chosen(decide(routes, None, chance, CALM)) for _ in range(100)} == {"a-0"}
    assert decide(routes, "s", chance, CALM) is Refusal.UNKNOWN_VARIANT
    assert Counter(chosen(decide_shadow(routes, chance, CALM)) for _ in range(100)) == {"s-0": 50, "s-1": 50}
    assert chosen(decide_shadow(routes, chance, Conditions(full={"s-0"}))) == "s-1"


def test_shadow_that_nobody_can_take_is_none() -> None:
    without = make_routes(endpoint(variant("a", 1)))
    empty = make_routes(endpoint(variant("a", 1), shadows=[variant("s", 1, 0)]))
    busy = make_routes(endpoint(variant("a", 1), shadows=[variant("s", 1)]))
    assert decide_shadow(without, Always(0.0), CALM) is None
    assert decide_shadow(empty, Always(0.0), CALM) is None
    assert decide_shadow(busy, Always(0.0), Conditions(full={"s-0"})) is None


def test_random_looks_at_no_prompt() -> None:
    routes = make_routes(endpoint(with_strategy(Strategy.RANDOM)))
    suspicious = Conditions(suspects={"a-0"})
    assert {chosen(decide(routes, None, seeded_chance(1), suspicious, prompt=nobody_asks))} <= {"a-1", "a-2", "a-3"}


# Weights


def draws(weights: Collection[float], count: int, seed: int = 1) -> Counter[str]:
    routes = make_routes(endpoint(*(variant(f"v{n}", weight) for n, weight in enumerate(weights))))
    chance = seeded_chance(seed)
    return Counter(names(decide(routes, None, chance, CALM))[0] for _ in range(count))


def test_a_hundred_thousand_draws_fit_the_weights_by_chi_square() -> None:
    weights = (0.1, 0.2, 0.3, 0.4, 0.0)
    seen = draws(weights, 100_000)
    assert sum((seen[f"v{n}"] - w * 1e5) ** 2 / (w * 1e5) for n, w in enumerate(weights) if w) < 16.27  # p = 0.001
    assert seen["v4"] == 0


@pytest.mark.parametrize("scale", [1e-300, 1e-9, 1e9, 1e307])
def test_shares_do_not_depend_on_the_scale_of_the_weights(scale: float) -> None:
    assert draws([w * scale for w in (1, 2, 3, 4)], 10_000) == draws((1, 2, 3, 4), 10_000)


def test_a_tiny_weight_beside_a_huge_one_gets_next_to_nothing() -> None:
    assert draws((1e-9, 1e9), 10_000) == {"v1": 10_000}
    assert draws((1e9, 1e-9), 10_000) == {"v0": 10_000}


@pytest.mark.parametrize(
    ("weights", "first", "last"),
    [
        ([0.1] * 10, "v0", "v9"),
        ([0.1, 0.2, 0.7, 0.0], "v0", "v2"),
        ([0.0, 3.0, 0.1, 0.0], "v1", "v2"),
        ([5e-324, 5e-324], "v0", "v1"),
        ([1.7e308, 1.7e308], "v0", "v1"),
    ],
)
def test_both_ends_of_chance_fall_on_variants_with_a_weight(weights: list[float], first: str, last: str) -> None:
    routes = make_routes(endpoint(*(variant(f"v{n}", weight) for n, weight in enumerate(weights))))
    assert names(decide(routes, None, Always(0.0), CALM))[0] == first
    assert names(decide(routes, None, Always(1 - 2**-53), CALM))[0] == last


def test_an_attempt_goes_on_by_the_weights_of_its_own_snapshot() -> None:
    before = make_routes(endpoint(variant("a", 1, 2), variant("b", 0)))
    after = make_routes(endpoint(variant("a", 0, 2), variant("b", 1)))
    first = decide(before, None, Always(0.0), CALM)
    assert isinstance(first, Choice)
    again = decide(before, None, Always(0.0), CALM, tried={first.instance.instance_id}, stay_with=first.variant)
    assert (names(again)[0], names(decide(after, None, Always(0.0), CALM))[0]) == ("a", "b")


# Against an oracle


def likelihoods(
    variants: tuple[Variant, ...], tried: Collection[str], suspects: Collection[str], full: Collection[str]
) -> dict[str, Fraction]:
    """Say in plain words how likely each outcome is."""

    def left(one: Variant, *avoided: Collection[str]) -> list[str]:
        return [i.instance_id for i in one.instances if not any(i.instance_id in names for names in avoided)]

    likely: dict[str, Fraction] = defaultdict(Fraction)
    alive = [v for v in variants if left(v, tried, suspects)] or [v for v in variants if left(v, tried)]
    total = sum(Fraction(v.weight) for v in alive)
    for one in alive:
        candidates = left(one, tried, suspects, full) or left(one, tried, full)
        for outcome in candidates or [Refusal.FULL.value]:
            likely[outcome] += Fraction(one.weight) / total / max(1, len(candidates))
    return dict(likely) or {Refusal.NONE_LEFT.value: Fraction(1)}


def measured(routes: Routes, conditions: Conditions, tried: Collection[str]) -> dict[str, Fraction]:
    """Decide once for each way in which chance can fall, on a grid that all shares of the test divide."""
    grid = [(n + 0.5) / 12 for n in range(12)]
    seen: Counter[str] = Counter()
    for falls in product(grid, grid, grid, [(n + 0.5) / 6 for n in range(6)]):
        decision = decide(routes, None, Given(falls), conditions, tried=tried)
        seen[decision.value if isinstance(decision, Refusal) else decision.instance.instance_id] += 1
    return {outcome: Fraction(count, 12 * 12 * 12 * 6) for outcome, count in seen.items()}


THREE = (variant("a", 2, 2), variant("b", 1, 3), variant("c", 1, 1))


@pytest.mark.parametrize(
    ("tried", "suspects", "full"),
    [
        ("", "", ""),
        ("", "a-0", ""),
        ("", "a-0 a-1", ""),
        ("", "a-0 a-1 b-0 b-1 b-2 c-0", ""),
        ("a-0", "", ""),
        ("a-0 a-1", "", ""),
        ("a-0 a-1", "b-0 b-1 b-2", ""),
        ("a-0 a-1 b-0 b-1 b-2 c-0", "", ""),
        ("", "", "a-0"),
        ("", "", "a-0 a-1 b-1"),
        ("", "a-0", "a-1 b-0"),
        ("a-0", "b-0", "a-1 b-1 b-2"),
        ("c-0", "a-0 a-1 b-0", "b-0 b-1"),
    ],
)
def test_outcomes_are_exactly_as_likely_as_they_should_be(tried: str, suspects: str, full: str) -> None:
    conditions = Conditions(suspects=set(suspects.split()), full=set(full.split()))
    wanted = likelihoods(THREE, tried.split(), suspects.split(), full.split())
    assert measured(make_routes(endpoint(*THREE)), conditions, set(tried.split())) == wanted


VARIANTS = st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 3)), min_size=1, max_size=4).map(
    lambda drawn: tuple(variant(f"v{n}", weight, count) for n, (weight, count) in enumerate(drawn))
)
IDS = st.sets(st.tuples(st.integers(0, 3), st.integers(0, 2)).map(lambda pair: f"v{pair[0]}-{pair[1]}"))


@given(VARIANTS, st.sampled_from([None, "v0", "v1"]), st.tuples(IDS, IDS, IDS), st.floats(0, 1, exclude_max=True))
def test_a_choice_is_always_allowed_and_a_refusal_always_true(
    variants: tuple[Variant, ...],
    target: str | None,
    avoided: tuple[set[str], set[str], set[str]],
    fell: float,
) -> None:
    tried, suspects, full = avoided
    conditions = Conditions(suspects=suspects, full=full)
    decision = decide(make_routes(endpoint(*variants)), target, Always(fell), conditions, tried=tried)
    allowed = {
        instance.instance_id
        for one in variants
        if (one.name == target if target else one.weight > 0 or len(variants) == 1)
        for instance in one.instances
    }
    if isinstance(decision, Choice):
        taken = decision.instance.instance_id
        siblings = {i.instance_id for i in decision.variant.instances}
        assert decision.instance in decision.variant.instances
        assert taken in allowed - tried - full
        assert taken not in suspects or not siblings - tried - suspects - full
        assert taken not in suspects or not allowed - tried - suspects or siblings - tried - suspects
    elif decision is Refusal.FULL:
        assert allowed & full - tried
    elif decision is Refusal.NONE_LEFT:
        assert allowed
        assert not allowed - tried
    else:
        assert not allowed


def test_routing_knows_every_instance() -> None:
    made = endpoint(variant("a", 1, 2), variant("b", 0, 1))
    routing = make_routing(Snapshot(7, {}, {("0", "r", "ep"): made}))
    assert (routing.version, set(routing.instances)) == (7, {"a-0", "a-1", "b-0"})
    assert routing.endpoints["0", "r", "ep"].endpoint is made
