"""Quotas of instances (control-plane.md section 12).

The settings name them as AWS does. What they do not name is not limited, because one's own machine has no account
manager; only the number of all instances always is, so that a slip of the finger cannot take the machine down.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from moorage.state.records import DeployedVariant, EndpointRecord, EndpointStatus

ALL_INSTANCES = "Number of instances across active endpoints"

DEFAULTS: Mapping[str, int] = {ALL_INSTANCES: 1000}
"""What counts of the quotas that the settings do not name."""

_EXCEEDED = (
    "The account-level service limit '{quota}' is {limit} Instances, with current utilization of {used} Instances "
    "and a request delta of {delta} Instances. Please use AWS Service Quotas to request an increase for this quota. "
    "If AWS Service Quotas is not available, contact AWS support to request an increase for this quota."
)
_INACTIVE = frozenset({EndpointStatus.FAILED, EndpointStatus.DELETING})

Usage = Counter[str]
"""Instances by type."""


def usage_of(variants: Iterable[DeployedVariant]) -> Usage:
    """Count the instances that variants ask for."""
    usage = Usage()
    for variant in variants:
        usage[variant.instance_type] += variant.desired_count
    return usage


def usage_of_all(endpoints: Iterable[EndpointRecord]) -> Usage:
    """Count the instances that active endpoints ask for, of both fleets during a deployment."""
    usage = Usage()
    for endpoint in endpoints:
        if endpoint.status not in _INACTIVE:
            usage += usage_of(endpoint.variants)
            usage += usage_of(endpoint.deployment.variants if endpoint.deployment is not None else ())
    return usage


def growth(before: Iterable[DeployedVariant], after: Iterable[DeployedVariant]) -> Usage:
    """Count the instances that are asked for beyond those before, by type."""
    return usage_of(after) - usage_of(before)


def exceeded(limits: Mapping[str, int], used: Usage, more: Usage) -> str | None:
    """Say which quota a request for more instances would exceed: those of its types first, then that of all."""
    asked = [(f"{kind} for endpoint usage", used[kind], delta) for kind, delta in more.items()]
    for quota, now, delta in (*asked, (ALL_INSTANCES, used.total(), more.total())):
        limit = limits.get(quota, DEFAULTS.get(quota))
        if limit is not None and delta > 0 and now + delta > limit:
            return _EXCEEDED.format(quota=quota, limit=limit, used=now, delta=delta)
    return None
