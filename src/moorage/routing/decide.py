"""Which variant and which instance an invocation goes to.

The choice of the variant is independent for each invocation, by share over the variants that have a ready instance
(data-plane.md section 2.1); the instance in it is picked by the variant's strategy (section 2.2, ``strategies``).
What can be worked out once for a snapshot is: ``make_routing`` is called when a snapshot arrives, ``decide`` for
each invocation.

Three kinds of instances are passed over:

    ========  ==============================================  ===================================================
    tried     refused this very invocation                    never asked again; another variant takes over when
                                                              all of a variant's are
    suspects  refused somebody a moment ago                   asked only when there is no other, because a variant
                                                              all of whose instances look dead is still better
                                                              asked than refused
    full      have all the invocations in flight that they    never asked; the shares stay as they are: what falls
              may have                                        to a variant with no other instances is refused, and
                                                              does not pour over the next one
    ========  ==============================================  ===================================================

The quick way is to draw first and look afterwards whether what was drawn can be asked: drawing again among the rest
gives each of the rest the same likelihood as drawing among the rest at once.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from moorage.aws.credentials import Credential
from moorage.base.chance import Chance
from moorage.routing.choice import Choice, Refusal
from moorage.routing.conditions import Conditions
from moorage.routing.prompt import Prompt, no_prompt
from moorage.routing.snapshot import Endpoint, Instance, Snapshot, Strategy, Variant
from moorage.routing.strategies import Pick, make_pick

__all__ = ["Choice", "Refusal", "Routes", "Routing", "decide", "decide_shadow", "make_routes", "make_routing"]


@dataclass(frozen=True, slots=True, eq=False)
class Fleet:
    """A variant, prepared for quick decisions."""

    variant: Variant
    choices: tuple[Choice, ...]
    """One for each ready instance."""
    pick: Pick
    random: bool
    """Whether the strategy is RANDOM, which needs no call."""


@dataclass(frozen=True, slots=True, eq=False)
class Shares:
    """Variants that can be chosen by weight, and where the part of each ends on the line from 0 to the sum."""

    fleets: tuple[Fleet, ...]
    ends: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Routes:
    """An endpoint, prepared for quick decisions."""

    endpoint: Endpoint
    by_name: Mapping[str, Variant]
    """The production variants."""
    fleets: Mapping[str, Fleet]
    """The production variants by name, prepared."""
    shares: Shares
    """Over the variants with a weight above zero and a ready instance."""
    shadow: Fleet | None
    """The shadow variant."""


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
    fleets = {variant.name: _make_fleet(endpoint, variant) for variant in variants}
    # The weight of an only variant does not matter: all the traffic is its (section 2.1).
    weighted = [f for f in fleets.values() if f.choices and (f.variant.weight > 0 or len(variants) == 1)]
    return Routes(
        endpoint=endpoint,
        by_name={variant.name: variant for variant in variants},
        fleets=fleets,
        shares=_make_shares(weighted),
        shadow=_make_fleet(endpoint, endpoint.shadows[0]) if endpoint.shadows else None,
    )


def decide(  # noqa: PLR0913 - the decision depends on this much
    routes: Routes,
    target_variant: str | None,
    chance: Chance,
    conditions: Conditions,
    *,
    prompt: Callable[[], Prompt] = no_prompt,
    tried: Collection[str] = (),
    stay_with: Variant | None = None,
) -> Choice | Refusal:
    """Choose a variant and an instance of it.

    ``prompt`` is called only by a strategy that looks at it. ``stay_with`` is the variant of an earlier attempt:
    another instance of it is better than another variant, because then refused connections do not change the shares.
    """
    if target_variant is not None:
        targeted = routes.fleets.get(target_variant)
        if targeted is None:
            return Refusal.UNKNOWN_VARIANT
        return _pick(targeted, chance, conditions, prompt, tried)
    shares = routes.shares
    if not shares.fleets:
        return _why_none(routes)
    drawn = _by_share(shares, chance)
    if drawn.random and not tried:  # the quick way, which nearly all go
        choices = drawn.choices
        choice = choices[int(chance.random() * len(choices))] if len(choices) > 1 else choices[0]
        instance_id = choice.instance.instance_id
        if instance_id not in conditions.suspects and instance_id not in conditions.full:
            return choice
    if stay_with is not None:
        drawn = routes.fleets.get(stay_with.name, drawn)
    fleet = _alive(shares, drawn, chance, (conditions.suspects, tried)) or _alive(shares, drawn, chance, (tried,))
    return Refusal.NONE_LEFT if fleet is None else _pick(fleet, chance, conditions, prompt, tried)


def decide_shadow(
    routes: Routes, chance: Chance, conditions: Conditions, *, prompt: Callable[[], Prompt] = no_prompt
) -> Choice | None:
    """Choose the instance that gets a copy for the shadow variant, by the shadow's own strategy; None: none can."""
    if routes.shadow is None:
        return None
    decision = _pick(routes.shadow, chance, conditions, prompt, ())
    return decision if isinstance(decision, Choice) else None


def _alive(shares: Shares, drawn: Fleet, chance: Chance, avoided: tuple[Collection[str], ...]) -> Fleet | None:
    """Give what was drawn if it has an instance that is not avoided, else another such one by share."""
    if drawn in shares.fleets and _left(drawn.choices, avoided):
        return drawn
    alive = [fleet for fleet in shares.fleets if _left(fleet.choices, avoided)]
    return _by_share(_make_shares(alive), chance) if alive else None


def _pick(
    fleet: Fleet,
    chance: Chance,
    conditions: Conditions,
    prompt: Callable[[], Prompt],
    tried: Collection[str],
) -> Choice | Refusal:
    choices: Sequence[Choice] = fleet.choices
    if not choices:
        return Refusal.NO_INSTANCE
    suspects, full = conditions.suspects, conditions.full
    if tried or suspects or full:
        choices = _left(choices, (suspects, full, tried)) or _left(choices, (full, tried))
        if not choices:
            return Refusal.FULL if _left(fleet.choices, (tried,)) else Refusal.NONE_LEFT
    return choices[0] if len(choices) == 1 else fleet.pick(choices, chance, conditions, prompt)


def _left(choices: Sequence[Choice], avoided: tuple[Collection[str], ...]) -> list[Choice]:
    return [c for c in choices if not any(c.instance.instance_id in names for names in avoided)]


def _why_none(routes: Routes) -> Refusal:
    variants = routes.endpoint.variants
    weightless = len(variants) > 1 and not any(v.weight > 0 for v in variants)
    return Refusal.NO_WEIGHT if weightless else Refusal.NO_INSTANCE


def _make_fleet(endpoint: Endpoint, variant: Variant) -> Fleet:
    choices = tuple(Choice(variant, instance) for instance in variant.instances)
    random = variant.strategy is Strategy.RANDOM and not variant.multi_model
    return Fleet(variant, choices, make_pick(endpoint, variant), random)


def _make_shares(fleets: Collection[Fleet]) -> Shares:
    # By the largest weight, so that the sum of large ones is a number; an only one may have a weight of zero.
    largest = max((fleet.variant.weight for fleet in fleets), default=0.0) or 1.0
    ends = accumulate(fleet.variant.weight / largest for fleet in fleets)
    return Shares(tuple(fleets), tuple(ends))


def _by_share(shares: Shares, chance: Chance) -> Fleet:
    ends = shares.ends
    if len(ends) == 1:
        return shares.fleets[0]
    place = bisect_right(ends, chance.random() * ends[-1])
    # A product can be rounded up to the sum itself, which is behind the last end.
    return shares.fleets[min(place, len(ends) - 1)]
