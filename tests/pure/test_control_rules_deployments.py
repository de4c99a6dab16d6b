"""Rules for DeploymentConfig, each by itself."""

from typing import Any

import pytest

from moorage.control.rules import Rule
from moorage.control.rules import deployments as rules


def percent(value: int) -> dict[str, Any]:
    return {"Type": "CAPACITY_PERCENT", "Value": value}


def count(value: int) -> dict[str, Any]:
    return {"Type": "INSTANCE_COUNT", "Value": value}


def blue_green(kind: str = "ALL_AT_ONCE", *, wait: int = 0, more: Any = None, **policy: Any) -> dict[str, Any]:
    traffic = {"Type": kind, "WaitIntervalInSeconds": wait, **(more or {})}
    return {"DeploymentConfig": {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": traffic, **policy}}}


def rolling(size: dict[str, Any], *, wait: int = 0, **policy: Any) -> dict[str, Any]:
    config = {"MaximumBatchSize": size, "WaitIntervalInSeconds": wait, **policy}
    return {"DeploymentConfig": {"RollingUpdatePolicy": config}}


def canary(value: dict[str, Any], **more: Any) -> dict[str, Any]:
    return blue_green("CANARY", more={"CanarySize": value}, **more)


def linear(value: dict[str, Any], **more: Any) -> dict[str, Any]:
    return blue_green("LINEAR", more={"LinearStepSize": value}, **more)


BOTH = {"DeploymentConfig": {**blue_green()["DeploymentConfig"], **rolling(percent(50))["DeploymentConfig"]}}
PERCENT = "percent of the variant's instances."


def too_long(seconds: int) -> str:
    return (
        "MaximumExecutionTimeoutInSeconds must be larger than TerminationWaitInSeconds and all "
        f"WaitIntervalInSeconds together, which are {seconds} seconds."
    )


CASES: list[tuple[Rule, dict[str, Any], str | None]] = [
    (rules.one_policy, {}, None),
    (rules.one_policy, {"DeploymentConfig": {}}, None),
    (rules.one_policy, blue_green(), None),
    (rules.one_policy, rolling(percent(50)), None),
    (
        rules.one_policy,
        BOTH,
        "Only one of BlueGreenUpdatePolicy and RollingUpdatePolicy can be specified in DeploymentConfig.",
    ),
    (rules.steps_have_a_size, blue_green(), None),
    (rules.steps_have_a_size, canary(percent(10)), None),
    (rules.steps_have_a_size, rolling(percent(10)), None),
    (
        rules.steps_have_a_size,
        blue_green("CANARY", more={"LinearStepSize": percent(10)}),
        "CanarySize is required when the traffic routing type is CANARY.",
    ),
    (
        rules.steps_have_a_size,
        blue_green("LINEAR"),
        "LinearStepSize is required when the traffic routing type is LINEAR.",
    ),
    (rules.percentages_are_in_range, canary(percent(50)), None),
    (rules.percentages_are_in_range, canary(count(99)), None),
    (rules.percentages_are_in_range, linear(percent(10)), None),
    (rules.percentages_are_in_range, rolling(percent(5), RollbackMaximumBatchSize=percent(100)), None),
    (rules.percentages_are_in_range, canary(percent(51)), f"CanarySize must be at most 50 {PERCENT}"),
    (rules.percentages_are_in_range, linear(percent(9)), f"LinearStepSize must be from 10 to 50 {PERCENT}"),
    (rules.percentages_are_in_range, rolling(percent(4)), f"MaximumBatchSize must be from 5 to 50 {PERCENT}"),
    (
        rules.percentages_are_in_range,
        rolling(percent(5), RollbackMaximumBatchSize=percent(101)),
        f"RollbackMaximumBatchSize must be at most 100 {PERCENT}",
    ),
    (rules.waits_end_before_the_timeout, blue_green(TerminationWaitInSeconds=600), None),
    (
        rules.waits_end_before_the_timeout,
        blue_green(wait=3600, TerminationWaitInSeconds=599, MaximumExecutionTimeoutInSeconds=600),
        None,
    ),
    (
        rules.waits_end_before_the_timeout,
        blue_green(TerminationWaitInSeconds=600, MaximumExecutionTimeoutInSeconds=600),
        too_long(600),
    ),
    (
        rules.waits_end_before_the_timeout,
        canary(percent(10), wait=300, TerminationWaitInSeconds=300, MaximumExecutionTimeoutInSeconds=600),
        too_long(600),
    ),
    (
        rules.waits_end_before_the_timeout,
        linear(percent(30), wait=300, MaximumExecutionTimeoutInSeconds=900),
        too_long(900),
    ),
    (
        rules.waits_end_before_the_timeout,
        linear(count(1), wait=300, MaximumExecutionTimeoutInSeconds=600),
        None,
    ),
    (
        rules.waits_end_before_the_timeout,
        rolling(percent(50), wait=300, MaximumExecutionTimeoutInSeconds=600),
        too_long(600),
    ),
]


@pytest.mark.parametrize(("rule", "request_", "text"), CASES)
def test_rule(rule: Rule, request_: dict[str, Any], text: str | None) -> None:
    assert rule(request_) == text


def test_every_rule_is_kept_by_one_case_and_broken_by_another() -> None:
    kept = {rule for rule, _, text in CASES if text is None}
    broken = {rule for rule, _, text in CASES if text is not None}
    assert kept == broken == set(rules.RULES)


@pytest.mark.parametrize(
    ("request_", "counts", "fits"),
    [
        (canary(count(1)), [1], True),
        (canary(count(1)), [3, 1000], True),
        (canary(count(2)), [3], False),
        (canary(count(2)), [4, 3], False),
        (canary(count(2)), [4], True),
        (linear(count(1)), [10], True),
        (linear(count(1)), [11], False),
        (rolling(count(1)), [20], True),
        (rolling(count(1)), [21], False),
        (rolling(count(1), RollbackMaximumBatchSize=count(3)), [2], False),
        (rolling(count(1), RollbackMaximumBatchSize=count(2)), [2], True),
        (canary(percent(50)), [1], True),
        (blue_green(), [1], True),
    ],
)
def test_numbers_of_instances_fit_every_variant(request_: dict[str, Any], counts: list[int], *, fits: bool) -> None:
    assert (rules.sizes_fit(request_["DeploymentConfig"], counts) is None) == fits


def test_the_text_names_the_size_and_the_count() -> None:
    text = "LinearStepSize must be from 10 to 50 percent of the variant's instances, of which there are 3."
    assert rules.sizes_fit(linear(count(2))["DeploymentConfig"], [3]) == text
