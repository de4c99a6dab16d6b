"""Rules for CreateEndpointConfig, each by itself."""

from collections.abc import Callable
from typing import Any

import pytest

from moorage.control.rules import endpoint_configs as rules

Rule = Callable[[dict[str, Any]], str | None]


def variant(name: str = "v", **changes: Any) -> dict[str, Any]:
    made = {"VariantName": name, "ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1, **changes}
    return {member: value for member, value in made.items() if value is not None}


def serverless(name: str = "v", **config: Any) -> dict[str, Any]:
    settings = {"MemorySizeInMB": 2048, "MaxConcurrency": 5, **config}
    return {"VariantName": name, "ModelName": "m", "ServerlessConfig": settings}


def of(*variants: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"ProductionVariants": list(variants), **members}


@pytest.mark.parametrize(
    ("rule", "request_", "refused"),
    [
        (rules.names_are_unique, of(variant("a"), variant("b")), False),
        (rules.names_are_unique, of(variant("a"), variant("a")), True),
        (rules.names_are_unique, of(variant("a"), ShadowProductionVariants=[variant("a")]), True),
        (rules.shadow_has_one_counterpart, of(variant("a"), ShadowProductionVariants=[variant("s")]), False),
        (
            rules.shadow_has_one_counterpart,
            of(variant("a"), variant("b"), ShadowProductionVariants=[variant("s")]),
            True,
        ),
        (rules.kinds_are_whole, of(variant()), False),
        (rules.kinds_are_whole, of(variant(InstanceType=None)), True),
        (rules.kinds_are_whole, of(variant(InitialInstanceCount=None)), True),
        (rules.kinds_are_whole, of(variant(InstancePools=[{}])), True),
        (rules.kinds_are_whole, of(variant(InstanceType=None, InstancePools=[{}])), False),
        (rules.kinds_are_whole, of(serverless()), False),
        (rules.kinds_are_whole, of({**serverless(), "InstanceType": "ml.m5.large"}), True),
        (rules.kinds_are_whole, of({"VariantName": "v", "ServerlessConfig": {}}), True),
        (rules.kinds_are_not_mixed, of(serverless("a")), False),
        (rules.kinds_are_not_mixed, of(serverless("a"), variant("b")), True),
        (rules.kinds_are_not_mixed, of(variant("a"), variant("b", ModelName=None)), True),
        (rules.component_hosts_have_a_role, of(variant(ModelName=None)), True),
        (rules.component_hosts_have_a_role, of(variant(ModelName=None), ExecutionRoleArn="r"), False),
        (rules.instances_scale_with_components_only, of(variant(ManagedInstanceScaling={})), True),
        (rules.instances_scale_with_components_only, of(variant(ModelName=None, ManagedInstanceScaling={})), False),
        (rules.serverless_sizes_fit, of(serverless(MemorySizeInMB=1500)), True),
        (rules.serverless_sizes_fit, of(serverless(ProvisionedConcurrency=6)), True),
        (rules.serverless_sizes_fit, of(serverless(ProvisionedConcurrency=5)), False),
        (rules.accelerators_are_retired, of(variant(AcceleratorType="ml.eia1.medium")), True),
        (rules.accelerators_are_retired, of(variant()), False),
        (rules.frequency_is_known, of(variant(), MetricsConfig={"MetricPublishFrequencyInSeconds": 61}), True),
        (rules.frequency_is_known, of(variant(), MetricsConfig={"MetricPublishFrequencyInSeconds": 60}), False),
    ],
)
def test_rule(rule: Rule, request_: dict[str, Any], *, refused: bool) -> None:
    assert (rule(request_) is not None) == refused


@pytest.mark.parametrize(
    "member",
    [
        "InstancePools",
        "VariantInstanceProvisionTimeoutInSeconds",
        "CoreDumpConfig",
        "ServerlessConfig",
        "VolumeSizeInGB",
        "ModelDataDownloadTimeoutInSeconds",
        "ContainerStartupHealthCheckTimeoutInSeconds",
        "ManagedInstanceScaling",
        "RoutingConfig",
        "InferenceAmiVersion",
        "CapacityReservationConfig",
    ],
)
def test_member_of_a_variant_that_is_not_built_is_refused_by_name(member: str) -> None:
    request = of(variant("a"), variant("b", **{member: 1}))
    assert rules.only_what_is_built(request) == f"ProductionVariants.2.{member} is not supported by Moorage yet."


@pytest.mark.parametrize(
    "member",
    [
        "DataCaptureConfig",
        "KmsKeyId",
        "AsyncInferenceConfig",
        "ExplainerConfig",
        "ShadowProductionVariants",
        "ExecutionRoleArn",
        "VpcConfig",
        "MetricsConfig",
        "CrossRegionTrafficConfig",
    ],
)
def test_member_that_is_not_built_is_refused_by_name(member: str) -> None:
    refusal = rules.only_what_is_built(of(variant(), **{member: 1}))
    assert refusal == f"{member} is not supported by Moorage yet."


def test_defaults_may_be_asked_for() -> None:
    request = of(variant(EnableSSMAccess=False), EnableNetworkIsolation=False, ShadowProductionVariants=[])
    assert rules.only_what_is_built(request) is None
    assert rules.only_what_is_built(of(variant(EnableSSMAccess=True))) is not None
    assert rules.only_what_is_built(of(variant(), EnableNetworkIsolation=True)) is not None
