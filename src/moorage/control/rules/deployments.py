"""Rules for DeploymentConfig (control-plane.md section 7.2).

The rules of ``RULES`` need the request only. ``sizes_fit`` needs the instance counts of the fleet that is rolled out,
so UpdateEndpoint applies it when it knows them.
"""

from collections.abc import Iterable, Iterator, Mapping
from math import ceil
from typing import Any

from moorage.control.rules import Members

_PERCENT = "CAPACITY_PERCENT"
_SIZE_OF_TYPE = {"CANARY": "CanarySize", "LINEAR": "LinearStepSize"}

_PERCENT_RANGES = {
    "CanarySize": (0, 50),
    "LinearStepSize": (10, 50),
    "MaximumBatchSize": (5, 50),
    "RollbackMaximumBatchSize": (0, 100),
}
"""Least and most per cent of a variant's instances."""


def _config(request: Members) -> Mapping[str, Any]:
    config: Mapping[str, Any] = request.get("DeploymentConfig", {})
    return config


def _traffic(config: Mapping[str, Any]) -> Mapping[str, Any]:
    traffic: Mapping[str, Any] = config.get("BlueGreenUpdatePolicy", {}).get("TrafficRoutingConfiguration", {})
    return traffic


def _sizes(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for holder in (_traffic(config), config.get("RollingUpdatePolicy", {})):
        yield from ((name, holder[name]) for name in _PERCENT_RANGES if name in holder)


def _bounds(name: str) -> str:
    least, most = _PERCENT_RANGES[name]
    return f"from {least} to {most}" if least else f"at most {most}"


def one_policy(request: Members) -> str | None:
    """Refuse both policies at once (section 7.1)."""
    config = _config(request)
    if "BlueGreenUpdatePolicy" in config and "RollingUpdatePolicy" in config:
        return "Only one of BlueGreenUpdatePolicy and RollingUpdatePolicy can be specified in DeploymentConfig."
    return None


def steps_have_a_size(request: Members) -> str | None:
    """Refuse a canary or linear shift of traffic that does not say how large a step is."""
    traffic = _traffic(_config(request))
    size = _SIZE_OF_TYPE.get(traffic.get("Type", ""))
    if size is not None and size not in traffic:
        return f"{size} is required when the traffic routing type is {traffic['Type']}."
    return None


def percentages_are_in_range(request: Members) -> str | None:
    """Refuse a step or batch of too few or too many per cent."""
    for name, size in _sizes(_config(request)):
        least, most = _PERCENT_RANGES[name]
        if size["Type"] == _PERCENT and not least <= size["Value"] <= most:
            return f"{name} must be {_bounds(name)} percent of the variant's instances."
    return None


def waits_end_before_the_timeout(request: Members) -> str | None:
    """Refuse a timeout that the waits alone would reach."""
    config = _config(request)
    blue_green, rolling = config.get("BlueGreenUpdatePolicy", {}), config.get("RollingUpdatePolicy", {})
    timeout = {**blue_green, **rolling}.get("MaximumExecutionTimeoutInSeconds")
    if timeout is None:
        return None
    traffic = _traffic(config)
    waits = blue_green.get("TerminationWaitInSeconds", 0)
    waits += _least_waits_of_traffic(traffic) * traffic.get("WaitIntervalInSeconds", 0)
    if rolling:
        waits += _least_steps(rolling["MaximumBatchSize"]) * rolling["WaitIntervalInSeconds"]
    if timeout <= waits:
        return (
            "MaximumExecutionTimeoutInSeconds must be larger than TerminationWaitInSeconds and all "
            f"WaitIntervalInSeconds together, which are {waits} seconds."
        )
    return None


def _least_waits_of_traffic(traffic: Mapping[str, Any]) -> int:
    """Count the waits between steps; after the last one comes the termination wait."""
    size = traffic.get(_SIZE_OF_TYPE.get(traffic.get("Type", ""), ""))
    if size is None:
        return 0
    return 1 if traffic["Type"] == "CANARY" else _least_steps(size) - 1


def _least_steps(size: Mapping[str, Any]) -> int:
    """Count the steps; of a number of instances is known only that it is at most half of them."""
    return ceil(100 / size["Value"]) if size["Type"] == _PERCENT else 2


def sizes_fit(config: Mapping[str, Any], counts: Iterable[int]) -> str | None:
    """Refuse steps and batches of too few or too many instances for any of the variants.

    ``counts`` are the variants' instances. One instance is always allowed: a variant of one has no half.
    """
    for name, size in _sizes(config):
        if size["Type"] == _PERCENT:
            continue
        least, most = _PERCENT_RANGES[name]
        for count in counts:
            if not count * least <= size["Value"] * 100 <= max(100, count * most):
                return f"{name} must be {_bounds(name)} percent of the variant's instances, of which there are {count}."
    return None


RULES = (one_policy, steps_have_a_size, percentages_are_in_range, waits_end_before_the_timeout)
