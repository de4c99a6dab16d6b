"""Who gets a place: never more than there is, in the order of asking, and nobody waits for ever."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.control.planning.placement import (
    Claim,
    Held,
    Reserved,
    Resources,
    exceeded,
    give_places,
    resources_of,
    sum_of,
    unreserved,
)

SMALL, MIDDLE, LARGE, GPU = "ml.m5.large", "ml.m5.xlarge", "ml.m5.4xlarge", "ml.g4dn.xlarge"
TYPES = (SMALL, MIDDLE, LARGE, GPU, "ml.c5.large", "ml.inf1.xlarge", "ml.r5.24xlarge")
ARN, OTHER = "arn:aws:sagemaker:us-east-1:0:ml-reservation/a", "arn:aws:sagemaker:us-east-1:0:ml-reservation/b"
MACHINE = Resources(4, 16 * 1024)


def a_claim(name: str, *types: str, since: float = 0.0, reservation: str | None = None) -> Claim:
    return Claim(name, types or (SMALL,), since, reservation)


def test_types_take_what_they_are_made_of() -> None:
    assert resources_of(SMALL) == Resources(2, 8 * 1024)
    assert resources_of(GPU) == Resources(4, 16 * 1024, gpus=1)
    assert resources_of("ml.inf1.xlarge") == Resources(4, 8 * 1024, others=1)
    assert sum_of([SMALL, SMALL, GPU]) == Resources(8, 32 * 1024, gpus=1)


def test_amounts_are_told_in_words() -> None:
    assert str(resources_of(GPU)) == "4 vCPUs, 16 GiB of memory, 1 GPUs"
    assert str(Resources(1.5, 512, others=2)) == "1.5 vCPUs, 0.5 GiB of memory, 2 accelerators that are no GPUs"


def test_claims_are_served_in_the_order_of_asking_until_nothing_is_left() -> None:
    claims = [a_claim("i-3", since=3.0), a_claim("i-1", since=1.0), a_claim("i-2", since=2.0)]
    assert give_places(claims, [], [], MACHINE) == {"i-1": SMALL, "i-2": SMALL}
    assert give_places(claims, [Held(SMALL)], [], MACHINE) == {"i-1": SMALL}


def test_of_claims_of_one_moment_the_order_is_the_same_each_time() -> None:
    claims = [a_claim(f"i-{number}") for number in (3, 1, 2)]
    assert give_places(claims, [], [], MACHINE) == give_places(claims[::-1], [], [], MACHINE)


def test_nobody_overtakes_one_that_waits_however_small() -> None:
    claims = [a_claim("i-1", MIDDLE, since=1.0), a_claim("i-2", SMALL, since=2.0)]
    assert give_places(claims, [Held(SMALL)], [], MACHINE) == {}
    assert give_places(claims, [], [], MACHINE) == {"i-1": MIDDLE}


def test_claim_that_can_never_be_satisfied_is_in_nobodys_way() -> None:
    claims = [a_claim("i-1", LARGE, since=1.0), a_claim("i-2", GPU, since=2.0), a_claim("i-3", since=3.0)]
    assert give_places(claims, [], [], MACHINE) == {"i-3": SMALL}


def test_best_type_for_which_there_is_room_is_taken() -> None:
    claims = [a_claim("i-1", MIDDLE, SMALL, since=1.0), a_claim("i-2", MIDDLE, SMALL, since=2.0)]
    assert give_places(claims, [Held(SMALL)], [], MACHINE) == {"i-1": SMALL}
    assert give_places(claims[1:], [], [], MACHINE) == {"i-2": MIDDLE}
    assert give_places([a_claim("i-1", GPU, SMALL)], [], [], MACHINE) == {"i-1": SMALL}


def test_any_gpu_of_the_machine_stands_for_that_of_the_type() -> None:
    assert give_places([a_claim("i-1", GPU)], [], [], replace(MACHINE, gpus=1)) == {"i-1": GPU}


def test_where_capacity_is_not_strict_everybody_has_room_as_the_best_type() -> None:
    claims = [a_claim("i-1", "ml.r5.24xlarge", SMALL), a_claim("i-2")]
    assert give_places(claims, [Held(LARGE)] * 9, [], None) == {"i-1": "ml.r5.24xlarge", "i-2": SMALL}


@pytest.mark.parametrize("total", [None, MACHINE])
def test_places_of_a_reservation_are_for_who_names_it(total: Resources | None) -> None:
    reserved = [Reserved(ARN, SMALL, 2)]
    named = [a_claim(f"i-{number}", since=number, reservation=ARN) for number in range(3)]
    assert give_places(named, [], reserved, total) == {"i-0": SMALL, "i-1": SMALL}
    assert give_places(named, [Held(SMALL, ARN)], reserved, total) == {"i-0": SMALL}
    assert give_places([a_claim("i-9", reservation=OTHER)], [], reserved, total) == {}
    assert give_places([a_claim("i-9", MIDDLE, reservation=ARN)], [], reserved, total) == {}


def test_nobody_else_uses_what_is_reserved() -> None:
    assert unreserved(MACHINE, [Reserved(ARN, SMALL, 1)]) == Resources(2, 8 * 1024)
    claims = [a_claim("i-1"), a_claim("i-2")]
    assert give_places(claims, [], [Reserved(ARN, SMALL, 1)], MACHINE) == {"i-1": SMALL}
    assert give_places(claims, [], [Reserved(ARN, SMALL, 2)], MACHINE) == {}


def test_what_is_promised_beyond_the_machine_is_named() -> None:
    assert exceeded(MACHINE, sum_of([SMALL, SMALL])) == frozenset()
    assert exceeded(MACHINE, sum_of(["ml.c5.large"] * 3)) == {"vCPUs"}
    assert exceeded(MACHINE, sum_of([SMALL, GPU])) == {"vCPUs", "memory", "GPUs"}
    assert exceeded(MACHINE, sum_of(["ml.inf1.xlarge"])) == {"accelerators"}


MACHINES = st.builds(Resources, st.integers(0, 64), st.integers(0, 256 * 1024), st.integers(0, 2))
RESERVATIONS = st.lists(
    st.builds(Reserved, st.sampled_from([ARN, OTHER]), st.sampled_from(TYPES), st.integers(1, 3)),
    unique_by=lambda one: one.arn,
)


@st.composite
def queues(draw: st.DrawFn) -> list[Claim]:
    kinds = st.lists(st.sampled_from(TYPES), min_size=1, max_size=3, unique=True).map(tuple)
    named = st.sampled_from([None, None, None, ARN, OTHER])
    parts = draw(st.lists(st.tuples(kinds, st.integers(0, 9), named), max_size=12))
    return [Claim(f"i-{number:02d}", *part) for number, part in enumerate(parts)]


def as_held(claims: list[Claim], places: dict[str, str]) -> list[Held]:
    return [Held(places[c.instance_id], c.reservation) for c in claims if c.instance_id in places]


@given(queues(), RESERVATIONS, MACHINES)
def test_never_more_than_there_is(claims: list[Claim], reserved: list[Reserved], machine: Resources) -> None:
    places = dict(give_places(claims, [], reserved, machine))
    held = as_held(claims, places)
    used = Counter(one.reservation for one in held)
    assert all(used[one.arn] <= one.count for one in reserved)
    assert set(used) <= {None, *(one.arn for one in reserved)}
    taken = sum_of(one.instance_type for one in held if one.reservation is None)
    assert not used[None] or unreserved(machine, reserved).holds(taken)
    assert all(places[c.instance_id] in c.types for c in claims if c.instance_id in places)


@given(queues(), RESERVATIONS, MACHINES)
def test_what_was_given_is_never_given_again(claims: list[Claim], reserved: list[Reserved], machine: Resources) -> None:
    """Whoever died between two passes finds the same: those who have a place keep it, and nobody gets one more."""
    places = dict(give_places(claims, [], reserved, machine))
    waiting = [claim for claim in claims if claim.instance_id not in places]
    assert give_places(waiting, as_held(claims, places), reserved, machine) == {}


@given(queues(), RESERVATIONS, MACHINES)
def test_who_asked_later_has_a_place_only_if_who_asked_before_has_or_could_never_have_one(
    claims: list[Claim], reserved: list[Reserved], machine: Resources
) -> None:
    places = give_places(claims, [], reserved, machine)
    whole = unreserved(machine, reserved)
    queue = sorted((c for c in claims if c.reservation is None), key=lambda c: (c.since, c.instance_id))
    served = [claim.instance_id in places for claim in queue if any(whole.holds(resources_of(t)) for t in claim.types)]
    assert served == sorted(served, reverse=True)


@given(queues(), RESERVATIONS, MACHINES)
def test_everybody_who_could_be_satisfied_is_when_those_before_go(
    claims: list[Claim], reserved: list[Reserved], machine: Resources
) -> None:
    left, order = list(claims), list[str]()
    while places := give_places(left, [], reserved, machine):
        order += places
        left = [claim for claim in left if claim.instance_id not in places]
    whole, arns = unreserved(machine, reserved), {one.arn: one.instance_type for one in reserved}
    for claim in left:
        if claim.reservation is None:
            assert not any(whole.holds(resources_of(name)) for name in claim.types)
        else:
            assert arns.get(claim.reservation) not in claim.types
    assert len(order) + len(left) == len(claims)
