from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.routing import Always, Steps, chosen, endpoint, instance, nobody_asks, variant, with_strategy

from moorage.base.chance import seeded_chance
from moorage.routing.conditions import Conditions
from moorage.routing.decide import Refusal, Routes, decide, decide_shadow, make_routes, make_routing
from moorage.routing.kv_memory import BLOCK_BYTES
from moorage.routing.model_memory import ModelMemory
from moorage.routing.prompt import Prompt
from moorage.routing.snapshot import Snapshot, Strategy, Variant
from moorage.routing.strategies import model_aware
from moorage.routing.strategies.kv_aware import WORTH

LEAST, PREFIX, KV = Strategy.LEAST_OUTSTANDING_REQUESTS, Strategy.PREFIX_AWARE, Strategy.KV_AWARE
LOADS = st.fixed_dictionaries({f"a-{n}": st.integers(0, 6) for n in range(4)})
IDS = st.sets(st.sampled_from([f"a-{n}" for n in range(4)]))


def loaded(loads: Mapping[str, int]) -> Conditions:
    return Conditions(outstanding=lambda instance_id: loads.get(instance_id, 0))


def ask(routes: Routes, conditions: Conditions, body: bytes = b"", prefix_id: str = "", seed: int = 1) -> str:
    return chosen(
        decide(routes, None, seeded_chance(seed), conditions, prompt=lambda: Prompt([body], prefix_id=prefix_id))
    )


# All strategies


@pytest.mark.parametrize("strategy", list(Strategy))
@given(loads=LOADS, avoided=st.tuples(IDS, IDS, IDS), body=st.binary(max_size=3))
def test_never_a_tried_or_full_instance(
    strategy: Strategy, loads: dict[str, int], avoided: tuple[set[str], set[str], set[str]], body: bytes
) -> None:
    tried, full, suspects = avoided
    routes = make_routes(endpoint(with_strategy(strategy, threshold=3)))
    conditions = Conditions(suspects=suspects, full=full, outstanding=loads.__getitem__)
    decision = decide(routes, None, seeded_chance(1), conditions, prompt=lambda: Prompt([body * 999]), tried=tried)
    if left := loads.keys() - tried - full:
        assert chosen(decision) in (left - suspects or left)
    else:
        assert decision is (Refusal.FULL if loads.keys() - tried else Refusal.NONE_LEFT)


@pytest.mark.parametrize("strategy", list(Strategy))
def test_one_instance_is_asked_without_a_look_at_anything(strategy: Strategy) -> None:
    routes = make_routes(endpoint(with_strategy(strategy, 1)))
    assert chosen(decide(routes, None, Always(0.5), Conditions(), prompt=nobody_asks)) == "a-0"
    two = make_routes(endpoint(with_strategy(strategy, 2)))
    assert chosen(decide(two, "a", Always(0.5), Conditions(full={"a-0"}), prompt=nobody_asks)) == "a-1"


def test_each_variant_has_its_own_strategy() -> None:
    routes = make_routes(endpoint(variant("r", 1, 2), with_strategy(LEAST, 2, name="l")))
    conditions = loaded({"r-0": 9, "l-0": 9})
    seen = {chosen(decide(routes, None, seeded_chance(seed), conditions)) for seed in range(50)}
    assert seen == {"r-0", "r-1", "l-1"}


def test_shadow_variant_has_its_own_strategy() -> None:
    routes = make_routes(endpoint(variant("a", 1), shadows=[with_strategy(LEAST, 2, name="s")]))
    assert chosen(decide_shadow(routes, Always(0.0), loaded({"s-0": 1}))) == "s-1"


# LEAST_OUTSTANDING_REQUESTS


@given(LOADS, st.floats(0, 1, exclude_max=True))
def test_least_outstanding_is_one_of_the_least_busy(loads: dict[str, int], fell: float) -> None:
    routes = make_routes(endpoint(with_strategy(LEAST)))
    decision = decide(routes, None, Always(fell), loaded(loads), prompt=nobody_asks)
    assert loads[chosen(decision)] == min(loads.values())


def test_ties_fall_by_chance() -> None:
    routes = make_routes(endpoint(with_strategy(LEAST)))
    chance, conditions = Steps(90), loaded({"a-2": 1})
    seen = Counter(chosen(decide(routes, None, chance, conditions)) for _ in range(90))
    assert seen == {"a-0": 30, "a-1": 30, "a-3": 30}


def test_invocations_spread_evenly_by_least_outstanding() -> None:
    routes = make_routes(endpoint(with_strategy(LEAST)))
    loads: Counter[str] = Counter()
    chance = seeded_chance(1)
    for _ in range(400):
        loads[chosen(decide(routes, None, chance, loaded(loads)))] += 1
    assert set(loads.values()) == {100}


# PREFIX_AWARE


def by_hand(key: bytes, loads: Mapping[str, int], threshold: int) -> set[str]:
    """Say in plain words which instances may be picked."""
    order = sorted(loads, key=lambda name: blake2b(name.encode() + b"\0" + key, digest_size=8).digest(), reverse=True)
    for name in order:
        if loads[name] < threshold:
            return {name}
    return {name for name in loads if loads[name] == min(loads.values())}


@given(LOADS, st.binary(max_size=20), st.text("xyz", max_size=3), st.integers(1, 6))
def test_prefix_goes_to_the_first_in_its_order_that_has_room(
    loads: dict[str, int], body: bytes, prefix_id: str, threshold: int
) -> None:
    routes = make_routes(endpoint(with_strategy(PREFIX, length=10, threshold=threshold)))
    key = blake2b(prefix_id.encode() + b"\0" + body[:10], digest_size=16).digest()
    assert ask(routes, loaded(loads), body, prefix_id) in by_hand(key, loads, threshold)


def test_same_prefix_goes_to_the_same_instance_whatever_follows() -> None:
    routes = make_routes(endpoint(with_strategy(PREFIX, length=1024)))
    for number in range(20):
        prefix = f"{number:04}".encode() * 256
        assert len({ask(routes, Conditions(), prefix + bytes([n]) * n, seed=n) for n in range(20)}) == 1


def test_prefixes_and_prefix_ids_spread_over_the_instances() -> None:
    routes = make_routes(endpoint(with_strategy(PREFIX)))
    bodies = Counter(ask(routes, Conditions(), str(n).encode()) for n in range(2000))
    ids = Counter(ask(routes, Conditions(), b"same", str(n)) for n in range(2000))
    for seen in (bodies, ids):
        assert sum((count - 500) ** 2 / 500 for count in seen.values()) < 16.27  # p = 0.001


def test_all_gateways_agree_whatever_order_they_know_the_instances_in() -> None:
    made = with_strategy(PREFIX, 5)
    turned = replace(made, instances=tuple(reversed(made.instances)))
    key = ("0", "r", "ep")
    one = make_routing(Snapshot(7, {}, {key: endpoint(made)}))
    message = Snapshot(8, {}, {key: endpoint(turned)}).to_message()
    other = make_routing(Snapshot.from_message(message))
    for number in range(200):
        body = str(number).encode()
        here, there = (ask(routing.endpoints[key], Conditions(), body) for routing in (one, other))
        assert here == there


def test_another_instance_moves_no_more_than_its_share_of_the_prefixes() -> None:
    before, after = (make_routes(endpoint(with_strategy(PREFIX, count))) for count in (4, 5))
    pairs = [tuple(ask(routes, Conditions(), str(n).encode()) for routes in (before, after)) for n in range(2000)]
    moved = [new for old, new in pairs if old != new]
    assert set(moved) == {"a-4"}
    assert len(moved) == pytest.approx(400, rel=0.2)


def test_prefix_comes_back_when_its_instance_does() -> None:
    routes = make_routes(endpoint(with_strategy(PREFIX)))
    own = ask(routes, Conditions(), b"prefix")
    elsewhere = ask(routes, Conditions(suspects={own}), b"prefix")
    assert elsewhere != own
    assert ask(routes, Conditions(full={own}), b"prefix") == elsewhere
    assert ask(routes, Conditions(), b"prefix") == own


def test_prefix_awareness_without_a_configuration_does_not_stop_the_snapshot() -> None:
    made = replace(with_strategy(PREFIX, 2), prefix_aware=None)
    assert ask(make_routes(endpoint(made)), loaded({"a-0": 1})) == "a-1"


# KV_AWARE


def start(letters: str) -> bytes:
    return b"".join(letter.encode() * BLOCK_BYTES for letter in letters)


def kv(instances: int = 4) -> Routes:
    return make_routes(endpoint(with_strategy(KV, instances)))


def test_a_conversation_stays_where_its_start_is() -> None:
    routes, conditions = kv(), Conditions()
    first = ask(routes, conditions, start("a"))
    for length in range(2, 12):
        assert ask(routes, conditions, start("a" * length), seed=length) == first


def test_the_longest_start_wins() -> None:
    routes, loads = kv(), {"a-0": 0, "a-1": 1, "a-2": 1, "a-3": 1}
    conditions = loaded(loads)
    assert ask(routes, conditions, start("abc")) == "a-0"
    loads.update({"a-0": 20, "a-1": 0})
    assert ask(routes, conditions, start("abx")) == "a-1"
    loads.update({"a-0": 0, "a-1": 0})
    assert ask(routes, conditions, start("abcd")) == "a-0"
    assert ask(routes, conditions, start("abxd")) == "a-1"


@pytest.mark.parametrize("blocks", [1, 3, WORTH, WORTH + 5])
def test_a_block_is_worth_one_invocation_in_flight_up_to_a_bound(blocks: int) -> None:
    loads = {"a-1": 1}
    routes, conditions = kv(2), loaded(loads)
    assert ask(routes, conditions, start("a" * blocks)) == "a-0"
    loads.update({"a-0": min(blocks, WORTH) + 1})
    assert ask(routes, conditions, start("a" * blocks)) == "a-0"
    loads.update({"a-0": min(blocks, WORTH) + 2})
    assert ask(routes, conditions, start("a" * blocks)) == "a-1"


def test_without_a_known_start_the_least_busy_is_asked() -> None:
    conditions = loaded({"a-0": 2, "a-1": 1, "a-2": 2, "a-3": 2})
    assert ask(kv(), conditions, start("a")) == "a-1"
    assert ask(kv(), conditions, b"shorter than a block") == "a-1"


def test_a_start_is_remembered_across_snapshots_and_not_shared_by_variants() -> None:
    conditions = Conditions()
    first = ask(kv(), conditions, start("aaa"), seed=1)
    assert {ask(kv(), conditions, start("aaa"), seed=n) for n in range(20)} == {first}
    others = make_routes(endpoint(replace(with_strategy(KV), name="b")))
    busy = Conditions(outstanding=lambda name: int(name == first), kv_memory=conditions.kv_memory)
    assert first not in {ask(others, busy, start("aaa"), seed=n) for n in range(20)}


def test_a_start_whose_instance_is_gone_is_held_by_the_next() -> None:
    routes, conditions = kv(), Conditions()
    first = ask(routes, conditions, start("ab"))
    left: Variant = replace(
        with_strategy(KV), instances=tuple(instance(f"a-{n}") for n in range(4) if f"a-{n}" != first)
    )
    second = ask(make_routes(endpoint(left)), conditions, start("ab"))
    assert second != first
    assert ask(routes, conditions, start("ab"), seed=9) == second


# Many models


def of_many_models(instances: int = 4, name: str = "a") -> Variant:
    return replace(variant(name, 1, instances), multi_model=("primary",))


def ask_model(routes: Routes, conditions: Conditions, model: str, seed: int = 1) -> str:
    prompt = Prompt([b""], target_model=model)
    return chosen(decide(routes, None, seeded_chance(seed), conditions, prompt=lambda: prompt))


def test_a_model_stays_with_its_instance_and_gateways_agree_on_it() -> None:
    routes = make_routes(endpoint(of_many_models()))
    one, other = Conditions(), Conditions()
    models = [f"m{number}" for number in range(200)]
    first = [ask_model(routes, one, model) for model in models]
    assert [ask_model(routes, one, model, seed=2) for model in models] == first
    assert [ask_model(routes, other, model, seed=3) for model in models] == first
    assert min(Counter(first).values()) > 25


def test_a_model_stays_where_it_is_loaded_when_instances_come() -> None:
    conditions = Conditions()
    models = [f"m{number}" for number in range(100)]
    before = [ask_model(make_routes(endpoint(of_many_models(2))), conditions, model) for model in models]
    more = make_routes(endpoint(of_many_models(4)))
    assert [ask_model(more, conditions, model) for model in models] == before
    assert {ask_model(more, conditions, f"new{number}") for number in range(100)} == {f"a-{n}" for n in range(4)}


def test_a_hot_model_spreads_and_comes_back() -> None:
    loads = {f"a-{n}": 0 for n in range(4)}
    conditions = Conditions(outstanding=loads.__getitem__)
    routes = make_routes(endpoint(of_many_models()))
    home = ask_model(routes, conditions, "m")
    loads[home] = model_aware.WORTH
    assert ask_model(routes, conditions, "m") == home
    loads[home] = model_aware.WORTH + 1
    second = ask_model(routes, conditions, "m")
    assert second != home
    loads[second] = 2
    assert ask_model(routes, conditions, "m") == second, "it has it loaded now"
    loads[home] = 0
    loads[second] = model_aware.WORTH + 1
    assert ask_model(routes, conditions, "m") == home


@given(loads=LOADS, tried=IDS, full=IDS)
def test_a_model_never_goes_to_a_tried_or_full_instance(loads: dict[str, int], tried: set[str], full: set[str]) -> None:
    routes = make_routes(endpoint(of_many_models()))
    conditions = Conditions(full=full, outstanding=loads.__getitem__)
    prompt = Prompt([b""], target_model="m")
    decision = decide(routes, None, seeded_chance(1), conditions, prompt=lambda: prompt, tried=tried)
    if left := loads.keys() - tried - full:
        assert chosen(decision) in left
    else:
        assert decision is (Refusal.FULL if loads.keys() - tried else Refusal.NONE_LEFT)


def test_memory_of_models_is_bounded_and_forgets_the_oldest() -> None:
    memory = ModelMemory(models_kept=2)
    for model, name in ((b"a", "i"), (b"b", "i"), (b"a", "j"), (b"c", "i")):
        memory.note(model, name)
    assert [list(memory.holders(model)) for model in (b"a", b"b", b"c")] == [["j", "i"], [], ["i"]]
    for number in range(100):
        memory.note(b"a", f"i{number}")
    assert len(memory.holders(b"a")) == 16
