from collections import Counter

import pytest

from moorage.routing.rendezvous import Scores

KEYS = [str(number).encode() for number in range(4000)]


def owners(*names: str) -> list[str]:
    scores = Scores(names)
    return [max(names, key=lambda name: scores.score(name, key)) for key in KEYS]


def test_scores_are_the_same_in_every_process_and_version() -> None:
    assert Scores(["i-0"]).score("i-0", b"key").hex() == "6ea997ddec2f5834"


def test_shares_are_even() -> None:
    seen = Counter(owners("a", "b", "c", "d"))
    assert sum((count - 1000) ** 2 / 1000 for count in seen.values()) < 16.27  # p = 0.001
    assert len(seen) == 4


@pytest.mark.parametrize("count", [2, 3, 5, 9])
def test_a_new_instance_takes_its_share_and_nothing_else_moves(count: int) -> None:
    names = [f"i-{n}" for n in range(count)]
    before, after = owners(*names), owners(*names, "new")
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) == {"new"}
    assert len(moved) == pytest.approx(len(KEYS) / (count + 1), rel=0.2)


def test_the_order_of_instances_does_not_matter() -> None:
    assert owners("a", "b", "c") == owners("c", "a", "b")


def test_similar_names_and_keys_do_not_run_together() -> None:
    scores = Scores(["i-1", "i-11"])
    assert scores.score("i-1", b"1x") != scores.score("i-11", b"x")
