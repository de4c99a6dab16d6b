from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.base.chance import seeded_chance
from moorage.routing.decide import Choice, Refusal, decide, make_routes, make_routing
from moorage.routing.snapshot import Endpoint, Instance, Snapshot, Variant


class Steps:
    """Chance that walks evenly over [0, 1), so that counts are exact."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._next = 0

    def random(self) -> float:
        self._next = (self._next + 1) % self._count
        return self._next / self._count


class Always:
    def __init__(self, value: float) -> None:
        self._value = value

    def random(self) -> float:
        return self._value


def variant(name: str, weight: float, instances: int = 1) -> Variant:
    return Variant(
        name, weight, "primary", tuple(Instance(f"{name}-{n}", f"unix:/{name}-{n}") for n in range(instances))
    )


def endpoint(*variants: Variant) -> Endpoint:
    return Endpoint("0", "r", "ep", "arn", variants)


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
    assert Counter(names(decide(routes, None, chance))[0] for _ in range(1200)) == counts


def test_random_choices_fit_the_shares_by_chi_square() -> None:
    routes = make_routes(endpoint(variant("a", 2, 2), variant("b", 1, 2)))
    chance = seeded_chance(1)
    seen = Counter(names(decide(routes, None, chance)) for _ in range(30_000))
    expected = {("a", "a-0"): 10_000, ("a", "a-1"): 10_000, ("b", "b-0"): 5_000, ("b", "b-1"): 5_000}
    assert sum((seen[key] - count) ** 2 / count for key, count in expected.items()) < 16.27  # p = 0.001


def test_variant_without_instances_leaves_its_share_to_the_others() -> None:
    routes = make_routes(endpoint(variant("a", 5, 0), variant("b", 1), variant("c", 1)))
    chance = Steps(100)
    assert Counter(names(decide(routes, None, chance))[0] for _ in range(100)) == {"b": 50, "c": 50}


def test_target_variant_overrides_weights() -> None:
    routes = make_routes(endpoint(variant("a", 1), variant("b", 0)))
    assert names(decide(routes, "b", Always(0.0))) == ("b", "b-0")


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
    assert decide(make_routes(endpoint(*variants)), target, Always(0.5)) is refusal


def test_only_variant_needs_no_weight() -> None:
    assert names(decide(make_routes(endpoint(variant("a", 0))), None, Always(0.5))) == ("a", "a-0")


def test_another_attempt_stays_with_its_variant_while_it_can() -> None:
    routes = make_routes(endpoint(variant("a", 1, 2), variant("b", 1_000)))
    stay = routes.by_name["a"]
    first = decide(routes, None, Always(0.9), tried={"a-0"}, stay_with=stay)
    second = decide(routes, None, Always(0.9), tried={"a-0", "a-1"}, stay_with=stay)
    third = decide(routes, None, Always(0.9), tried={"a-0", "a-1", "b-0"}, stay_with=stay)
    assert (names(first), names(second), third) == (("a", "a-1"), ("b", "b-0"), Refusal.NONE_LEFT)


def test_another_attempt_at_a_target_variant_stays_with_it() -> None:
    routes = make_routes(endpoint(variant("a", 1, 2), variant("b", 1)))
    assert names(decide(routes, "a", Always(0.0), tried={"a-0"})) == ("a", "a-1")
    assert decide(routes, "a", Always(0.0), tried={"a-0", "a-1"}) is Refusal.NONE_LEFT


def test_suspects_are_passed_over_while_there_is_another() -> None:
    routes = make_routes(endpoint(variant("a", 1, 2), variant("b", 1)))
    chance = seeded_chance(1)
    assert {names(decide(routes, "a", chance, suspects={"a-0"}))[1] for _ in range(50)} == {"a-1"}
    assert {names(decide(routes, None, chance, suspects={"a-0", "a-1"}))[1] for _ in range(50)} == {"b-0"}
    everyone = {"a-0", "a-1", "b-0"}
    assert {names(decide(routes, None, chance, suspects=everyone))[1] for _ in range(200)} == everyone
    assert names(decide(routes, "a", chance, tried={"a-0"}, suspects=everyone)) == ("a", "a-1")


VARIANTS = st.lists(
    st.tuples(st.floats(0, 1e6), st.integers(0, 3)).map(lambda drawn: drawn), min_size=1, max_size=4
).map(lambda drawn: tuple(variant(f"v{n}", weight, count) for n, (weight, count) in enumerate(drawn)))
IDS = st.sets(st.tuples(st.integers(0, 3), st.integers(0, 2)).map(lambda pair: f"v{pair[0]}-{pair[1]}"))


@given(VARIANTS, st.sampled_from([None, "v0", "v1"]), IDS, IDS, st.floats(0, 1, exclude_max=True))
def test_a_choice_is_always_allowed_and_a_refusal_always_true(
    variants: tuple[Variant, ...], target: str | None, tried: set[str], suspects: set[str], fell: float
) -> None:
    decision = decide(make_routes(endpoint(*variants)), target, Always(fell), tried=tried, suspects=suspects)
    allowed = {
        instance.instance_id
        for one in variants
        if (one.name == target if target else one.weight > 0 or len(variants) == 1)
        for instance in one.instances
    }
    if isinstance(decision, Choice):
        chosen = decision.instance.instance_id
        assert decision.instance in decision.variant.instances
        assert chosen in allowed - tried
        assert chosen not in suspects or not allowed - tried - suspects
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
