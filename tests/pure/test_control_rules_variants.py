"""Rules about variants, each by itself: a request that keeps it, and one that breaks it with the text of the answer."""

from typing import Any

import pytest
from tests.support.configs import host, of, pooled, serverless, variant

from moorage.control.rules import Rule
from moorage.control.rules import variants as rules

PREFIX = {"PrefixLength": 1024, "ConcurrencyThreshold": 1}
RESERVATION = {"CapacityReservationPreference": "capacity-reservations-only", "MlReservationArn": "arn"}
_NOT_SERVERLESS = rules._NOT_SERVERLESS

CASES: list[tuple[Rule, dict[str, Any], str | None]] = [
    (rules.names_are_unique, of(variant("a"), variant("b")), None),
    (
        rules.names_are_unique,
        of(variant("a"), variant("a")),
        "Variant names must be unique within an endpoint configuration: a",
    ),
    (
        rules.names_are_unique,
        of(variant("a"), ShadowProductionVariants=[variant("a")]),
        "Variant names must be unique within an endpoint configuration: a",
    ),
    (rules.accelerators_are_retired, of(), None),
    (
        rules.accelerators_are_retired,
        of(variant(AcceleratorType="ml.eia1.medium")),
        "AcceleratorType is no longer supported: Amazon Elastic Inference has been retired.",
    ),
    (rules.serverless_variants_have_no_instances, of(serverless()), None),
    (
        rules.serverless_variants_have_no_instances,
        of({"VariantName": "v", "ServerlessConfig": {}}),
        "ModelName is required for the serverless variant v.",
    ),
    *(
        (
            rules.serverless_variants_have_no_instances,
            of({**serverless(), member: 1}),
            f"{member} cannot be specified together with ServerlessConfig: variant v.",
        )
        for member in _NOT_SERVERLESS
    ),
    (rules.instances_have_type_and_count, of(), None),
    (rules.instances_have_type_and_count, of(pooled({})), None),
    (rules.instances_have_type_and_count, of(host()), None),
    (rules.instances_have_type_and_count, of(serverless()), None),
    (
        rules.instances_have_type_and_count,
        of(variant(InstanceType=None)),
        "InstanceType is required for the variant v.",
    ),
    (
        rules.instances_have_type_and_count,
        of(variant(InitialInstanceCount=None)),
        "InitialInstanceCount is required for the variant v.",
    ),
    (
        rules.instances_have_type_and_count,
        of({**pooled({}), "InstanceType": "ml.m5.large"}),
        "Only one of InstanceType and InstancePools can be specified: variant v.",
    ),
    (rules.kinds_are_not_mixed, of(serverless()), None),
    (rules.kinds_are_not_mixed, of(variant("a"), variant("b")), None),
    (rules.kinds_are_not_mixed, of(host("a"), host("b")), None),
    (
        rules.kinds_are_not_mixed,
        of(serverless("a"), variant("b")),
        "A serverless variant must be the only variant of its endpoint configuration.",
    ),
    (
        rules.kinds_are_not_mixed,
        of(serverless("a"), serverless("b")),
        "A serverless variant must be the only variant of its endpoint configuration.",
    ),
    (rules.kinds_are_not_mixed, of(variant("a"), host("b")), "Either all variants must have a ModelName or none."),
    (rules.serverless_memory_is_in_steps, of(serverless(MemorySizeInMB=6144)), None),
    (
        rules.serverless_memory_is_in_steps,
        of(serverless(MemorySizeInMB=1500)),
        "MemorySizeInMB must be one of 1024, 2048, 3072, 4096, 5120 and 6144.",
    ),
    (rules.provisioned_concurrency_is_allowed, of(serverless(ProvisionedConcurrency=5)), None),
    (
        rules.provisioned_concurrency_is_allowed,
        of(serverless(ProvisionedConcurrency=6)),
        "ProvisionedConcurrency must not be greater than MaxConcurrency.",
    ),
    (rules.pools_differ, of(pooled({}, {"InstanceType": "ml.c5.large"})), None),
    (
        rules.pools_differ,
        of(pooled({}, {"InstanceType": "ml.c5.large", "Priority": 1})),
        "Each instance pool of a variant must have another Priority: variant v.",
    ),
    (
        rules.pools_differ,
        of(pooled({}, {})),
        "Each instance pool of a variant must have another InstanceType: variant v.",
    ),
    (rules.overrides_have_a_model, of(pooled({"ModelNameOverride": "n"})), None),
    (rules.overrides_have_a_model, of(pooled({}, ModelName=None)), None),
    (
        rules.overrides_have_a_model,
        of(pooled({"ModelNameOverride": "n"}, ModelName=None)),
        "ModelNameOverride can only be specified for a variant with a ModelName: variant v.",
    ),
    (rules.instances_scale_with_components_only, of(host(ManagedInstanceScaling={})), None),
    (
        rules.instances_scale_with_components_only,
        of(variant(ManagedInstanceScaling={})),
        "ManagedInstanceScaling is only supported for inference component endpoints.",
    ),
    (rules.scaling_bounds_hold, of(host(ManagedInstanceScaling={"MinInstanceCount": 0, "MaxInstanceCount": 1})), None),
    (rules.scaling_bounds_hold, of(host(ManagedInstanceScaling={"MinInstanceCount": 1})), None),
    (
        rules.scaling_bounds_hold,
        of(host(ManagedInstanceScaling={"MinInstanceCount": 3, "MaxInstanceCount": 2})),
        "MinInstanceCount must not be greater than MaxInstanceCount.",
    ),
    (
        rules.scaling_bounds_hold,
        of(host(ManagedInstanceScaling={"MinInstanceCount": 2})),
        "InitialInstanceCount must be from MinInstanceCount to MaxInstanceCount: variant v.",
    ),
    (
        rules.scaling_bounds_hold,
        of(host(InitialInstanceCount=3, ManagedInstanceScaling={"MaxInstanceCount": 2})),
        "InitialInstanceCount must be from MinInstanceCount to MaxInstanceCount: variant v.",
    ),
    (rules.prefix_routing_is_whole, of(variant(RoutingConfig={"RoutingStrategy": "RANDOM"})), None),
    (
        rules.prefix_routing_is_whole,
        of(variant(RoutingConfig={"RoutingStrategy": "PREFIX_AWARE", "PrefixAwareRoutingConfig": PREFIX})),
        None,
    ),
    (
        rules.prefix_routing_is_whole,
        of(variant(RoutingConfig={"RoutingStrategy": "RANDOM", "PrefixAwareRoutingConfig": PREFIX})),
        "PrefixAwareRoutingConfig can only be specified when RoutingStrategy is PREFIX_AWARE.",
    ),
    (
        rules.prefix_routing_is_whole,
        of(variant(RoutingConfig={"RoutingStrategy": "PREFIX_AWARE", "PrefixAwareRoutingConfig": {"PrefixLength": 1}})),
        "PrefixLength and ConcurrencyThreshold are required when RoutingStrategy is PREFIX_AWARE.",
    ),
    (
        rules.prefix_routing_is_whole,
        of(variant(RoutingConfig={"RoutingStrategy": "PREFIX_AWARE"})),
        "PrefixLength and ConcurrencyThreshold are required when RoutingStrategy is PREFIX_AWARE.",
    ),
    (rules.reservations_are_whole, of(variant(CapacityReservationConfig=RESERVATION)), None),
    (rules.reservations_are_whole, of(variant(CapacityReservationConfig={})), None),
    (
        rules.reservations_are_whole,
        of(variant(CapacityReservationConfig={"MlReservationArn": "arn"})),
        "CapacityReservationPreference and MlReservationArn must be specified together: variant v.",
    ),
]


@pytest.mark.parametrize(("rule", "request_", "text"), CASES)
def test_rule(rule: Rule, request_: dict[str, Any], text: str | None) -> None:
    assert rule(request_) == text


def test_every_rule_is_kept_by_one_case_and_broken_by_another() -> None:
    kept = {rule for rule, _, text in CASES if text is None}
    broken = {rule for rule, _, text in CASES if text is not None}
    assert kept == broken == set(rules.RULES)


def test_models_are_those_of_variants_and_of_their_pools() -> None:
    request = of(pooled({"ModelNameOverride": "n"}), ShadowProductionVariants=[variant("s", ModelName="o")])
    assert rules.models_of(request) == ["m", "n", "o"]
    assert rules.models_of(of(host())) == []
