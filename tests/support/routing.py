"""Endpoints and chance for the tests of routing."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NoReturn

from moorage.routing.choice import Choice, Refusal
from moorage.routing.snapshot import Endpoint, Instance, PrefixAware, Strategy, Variant


class Steps:
    """Chance that walks evenly over [0, 1), so that counts are exact."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._next = 0

    def random(self) -> float:
        self._next = (self._next + 1) % self._count
        return self._next / self._count


class Always:
    """Chance that always gives the same."""

    def __init__(self, value: float) -> None:
        self._value = value

    def random(self) -> float:
        return self._value


class Given:
    """Chance that gives these numbers, in order."""

    def __init__(self, values: Iterable[float]) -> None:
        self._values = iter(values)

    def random(self) -> float:
        return next(self._values)


def instance(name: str) -> Instance:
    return Instance(name, f"unix:/{name}")


def variant(name: str, weight: float, instances: int = 1) -> Variant:
    return Variant(name, weight, "primary", tuple(instance(f"{name}-{n}") for n in range(instances)))


def with_strategy(
    strategy: Strategy, instances: int = 4, *, length: int = 1024, threshold: int = 1024, name: str = "a"
) -> Variant:
    configuration = PrefixAware(length, threshold) if strategy is Strategy.PREFIX_AWARE else None
    return replace(variant(name, 1, instances), strategy=strategy, prefix_aware=configuration)


def endpoint(*variants: Variant, shadows: Sequence[Variant] = ()) -> Endpoint:
    return Endpoint("0", "r", "ep", "arn", variants, tuple(shadows))


def chosen(decision: Choice | Refusal | None) -> str:
    """Give the id of the chosen instance."""
    assert isinstance(decision, Choice)
    return decision.instance.instance_id


def nobody_asks() -> NoReturn:
    """Be a prompt that is never looked at."""
    raise AssertionError("this strategy does not look at the prompt")
