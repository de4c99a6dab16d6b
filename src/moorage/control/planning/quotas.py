"""Quotas of instances (control-plane.md section 12).

The settings name them as AWS does. What they do not name is not limited, because one's own machine has no account
manager; only the number of all instances always is, so that a slip of the finger cannot take the machine down.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from moorage.control.planning.pools import types_of
from moorage.state.records import DeployedVariant, EndpointKey, EndpointRecord, EndpointStatus, InstanceRecord

ALL_INSTANCES = "Number of instances across active endpoints"

DEFAULTS: Mapping[str, int] = {ALL_INSTANCES: 1000}
"""What counts of the quotas that the settings do not name."""

_EXCEEDED = (
    "The account-level service limit '{quota}' is {limit} Instances, with current utilization of {used} Instances "
    "and a request delta of {delta} Instances. Please use AWS Service Quotas to request an increase for this quota. "
    "If AWS Service Quotas is not available, contact AWS support to request an increase for this quota."
)
_INACTIVE = frozenset({EndpointStatus.FAILED, EndpointStatus.DELETING})


@dataclass(frozen=True, slots=True)
class Usage:
    """Instances that are, or are to be."""

    types: Counter[str] = field(default_factory=Counter)
    """By type; of a variant of several pools each pool's type is counted in a request, for it may become of any."""
    total: int = 0

    def __add__(self, more: "Usage") -> "Usage":
        return Usage(self.types + more.types, self.total + more.total)


def usage_of(variants: Iterable[DeployedVariant]) -> Usage:
    """Count the instances that variants ask for: a quota is held for every type that they may be of."""
    usage = Usage()
    for variant in variants:
        types = Counter(dict.fromkeys(types_of(variant), variant.desired_count))
        usage += Usage(types, variant.desired_count)
    return usage


def usage_of_all(endpoints: Iterable[EndpointRecord], instances: Sequence[InstanceRecord] = ()) -> Usage:
    """Count the instances that active endpoints have or ask for, of both fleets during a deployment.

    Those that have their place count as what they are, those that have none yet as the best that they may be of.
    """
    usage = Usage()
    for endpoint in endpoints:
        if endpoint.status in _INACTIVE:
            continue
        mine = [instance for instance in instances if _is_of(instance, endpoint)]
        for variant in endpoint.variants:
            usage += _actual(variant, [i for i in mine if (i.variant, i.fleet) == (variant.name, endpoint.fleet)])
        if (deployment := endpoint.deployment) is not None:
            for variant in deployment.variants:
                usage += _actual(variant, [i for i in mine if (i.variant, i.fleet) == (variant.name, deployment.fleet)])
    return usage


def _is_of(instance: InstanceRecord, endpoint: EndpointRecord) -> bool:
    return EndpointKey(instance.account, instance.region, instance.endpoint) == endpoint.key


def _actual(variant: DeployedVariant, instances: Iterable[InstanceRecord]) -> Usage:
    placed = Counter(i.instance_type for i in instances if i.instance_type and i.retired_at is None)
    missing = max(0, variant.desired_count - placed.total())
    types = placed + Counter({types_of(variant)[0]: missing})
    return Usage(types, types.total())


def growth(before: Iterable[DeployedVariant], after: Iterable[DeployedVariant]) -> Usage:
    """Count the instances that are asked for beyond those before."""
    less, more = usage_of(before), usage_of(after)
    return Usage(more.types - less.types, max(0, more.total - less.total))


def exceeded(limits: Mapping[str, int], used: Usage, more: Usage) -> str | None:
    """Say which quota a request for more instances would exceed: those of its types first, then that of all."""
    asked = [(f"{kind} for endpoint usage", used.types[kind], delta) for kind, delta in more.types.items()]
    for quota, now, delta in (*asked, (ALL_INSTANCES, used.total, more.total)):
        limit = limits.get(quota, DEFAULTS.get(quota))
        if limit is not None and delta > 0 and now + delta > limit:
            return _EXCEEDED.format(quota=quota, limit=limit, used=now, delta=delta)
    return None
