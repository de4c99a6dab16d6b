"""Which variant and which instance an invocation goes to.

The choice of the variant is independent for each invocation, by share over the variants that have a ready instance
(data-plane.md section 2.1); the choice of the instance in it is uniform (section 2.2, RANDOM). What can be worked
out once for a snapshot is: ``make_routing`` is called when a snapshot arrives, ``decide`` for each invocation.

Two kinds of instances are passed over. ``tried`` are those that refused this very invocation: they are out.
``suspects`` refused somebody a moment ago: they are out while there is another one, because a variant all of whose
instances look dead is still better asked than refused.
"""

from bisect import bisect_right
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import accumulate

from moorage.aws.credentials import Credential
from moorage.base.chance import Chance
from moorage.routing.snapshot import Endpoint, Instance, Snapshot, Variant


@dataclass(frozen=True, slots=True)
class Shares:
    """Variants that can be chosen by weight, and where the part of each ends on the line from 0 to the sum."""

    variants: tuple[Variant, ...]
    ends: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Routes:
    """An endpoint, prepared for quick decisions."""

    endpoint: Endpoint
    by_name: Mapping[str, Variant]
    shares: Shares
    """Over the variants with a weight above zero and a ready instance."""


@dataclass(frozen=True, slots=True)
class Routing:
    """A snapshot, prepared for quick decisions."""

    version: int
    keys: Mapping[str, Credential] = field(default_factory=dict)
    endpoints: Mapping[tuple[str, str, str], Routes] = field(default_factory=dict)
    """By account, region and name."""
    instances: Mapping[str, Instance] = field(default_factory=dict)
    """By instance id."""
    token_secret: str = field(default="", repr=False)
    tags: Mapping[tuple[str, str, str], Mapping[str, str]] = field(default_factory=dict)
    """Of endpoints, by account, region and name."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Where an invocation goes."""

    variant: Variant
    instance: Instance


class Refusal(StrEnum):
    """Why an invocation goes nowhere."""

    UNKNOWN_VARIANT = "UnknownVariant"
    NO_WEIGHT = "NoWeight"
    """Several variants, all with a weight of zero, and none named."""
    NO_INSTANCE = "NoInstance"
    """No ready instance is known."""
    NONE_LEFT = "NoneLeft"
    """There were ready instances, and each refused this invocation."""


def make_routing(snapshot: Snapshot) -> Routing:
    """Prepare a snapshot."""
    return Routing(
        version=snapshot.version,
        keys=snapshot.keys,
        endpoints={key: make_routes(endpoint) for key, endpoint in snapshot.endpoints.items()},
        instances={
            instance.instance_id: instance
            for endpoint in snapshot.endpoints.values()
            for instance in endpoint.instances
        },
        token_secret=snapshot.token_secret,
        tags=snapshot.tags,
    )


def make_routes(endpoint: Endpoint) -> Routes:
    """Prepare an endpoint."""
    variants = endpoint.variants
    # The weight of an only variant does not matter: all the traffic is its (section 2.1).
    weighted = [v for v in variants if v.instances and (v.weight > 0 or len(variants) == 1)]
    return Routes(endpoint, {v.name: v for v in variants}, _shares(weighted))


def decide(  # noqa: PLR0913 - the decision depends on this much
    routes: Routes,
    target_variant: str | None,
    chance: Chance,
    *,
    tried: Collection[str] = (),
    suspects: Collection[str] = (),
    stay_with: Variant | None = None,
) -> Choice | Refusal:
    """Choose a variant and an instance of it.

    ``stay_with`` is the variant of an earlier attempt: another instance of it is better than another variant,
    because then refused connections do not change the shares.
    """
    if target_variant is not None:
        variant = routes.by_name.get(target_variant)
        if variant is None:
            return Refusal.UNKNOWN_VARIANT
        return _of_variant(variant, chance, tried, suspects)
    shares = routes.shares
    if not shares.variants:
        return _why_none(routes)
    if not tried and not suspects:
        variant = _by_share(shares, chance)
        return Choice(variant, _uniform(variant.instances, chance))
    return _around_the_dead(shares, chance, tried, suspects, stay_with)


def _around_the_dead(
    shares: Shares,
    chance: Chance,
    tried: Collection[str],
    suspects: Collection[str],
    stay_with: Variant | None,
) -> Choice | Refusal:
    for avoided in (_either(tried, suspects), tried):
        alive = [v for v in shares.variants if any(i.instance_id not in avoided for i in v.instances)]
        if not alive:
            continue
        if stay_with is not None and any(v.name == stay_with.name for v in alive):
            variant = next(v for v in alive if v.name == stay_with.name)
        else:
            variant = _by_share(_shares(alive), chance)
        return Choice(variant, _uniform(_left(variant, avoided), chance))
    return Refusal.NONE_LEFT


def _of_variant(
    variant: Variant, chance: Chance, tried: Collection[str], suspects: Collection[str]
) -> Choice | Refusal:
    if not variant.instances:
        return Refusal.NO_INSTANCE
    left = _left(variant, _either(tried, suspects)) or _left(variant, tried)
    return Choice(variant, _uniform(left, chance)) if left else Refusal.NONE_LEFT


def _why_none(routes: Routes) -> Refusal:
    variants = routes.endpoint.variants
    weightless = len(variants) > 1 and not any(v.weight > 0 for v in variants)
    return Refusal.NO_WEIGHT if weightless else Refusal.NO_INSTANCE


def _shares(variants: Collection[Variant]) -> Shares:
    only = len(variants) == 1
    ends = accumulate(1.0 if only else v.weight for v in variants)
    return Shares(tuple(variants), tuple(ends))


def _by_share(shares: Shares, chance: Chance) -> Variant:
    ends = shares.ends
    if len(ends) == 1:
        return shares.variants[0]
    place = bisect_right(ends, chance.random() * ends[-1])
    # A product can be rounded up to the sum itself, which is behind the last end.
    return shares.variants[min(place, len(ends) - 1)]


def _uniform(instances: tuple[Instance, ...], chance: Chance) -> Instance:
    count = len(instances)
    return instances[0] if count == 1 else instances[int(chance.random() * count)]


def _left(variant: Variant, avoided: Collection[str]) -> tuple[Instance, ...]:
    return tuple(i for i in variant.instances if i.instance_id not in avoided)


def _either(tried: Collection[str], suspects: Collection[str]) -> Collection[str]:
    return {*tried, *suspects} if suspects else tried
