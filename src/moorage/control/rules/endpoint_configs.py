"""Rules for CreateEndpointConfig (control-plane.md section 5.2)."""

from collections.abc import Mapping
from typing import Any

from moorage.control.rules import Members, tags
from moorage.control.rules.not_built import refusal

_MEMORY_STEP_MB = 1024
_NOT_SERVERLESS = (
    "InstanceType",
    "InitialInstanceCount",
    "InstancePools",
    "VolumeSizeInGB",
    "ManagedInstanceScaling",
    "AcceleratorType",
    "CoreDumpConfig",
    "RoutingConfig",
)
_FREQUENCIES_SECONDS = (10, 30, 60, 120, 180, 240, 300)

_BUILT = {
    "EndpointConfigName": ...,
    "ProductionVariants": {
        "VariantName": ...,
        "ModelName": ...,
        "InitialInstanceCount": ...,
        "InstanceType": ...,
        "InitialVariantWeight": ...,
        "EnableSSMAccess": False,
    },
    "EnableNetworkIsolation": False,
    "Tags": ...,
}


def _variants(request: Members) -> list[Mapping[str, Any]]:
    return [*request["ProductionVariants"], *request.get("ShadowProductionVariants", ())]


def names_are_unique(request: Members) -> str | None:
    """Refuse two variants of one name (rule 1)."""
    names = [variant["VariantName"] for variant in _variants(request)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is None:
        return None
    return f"Variant names must be unique within an endpoint configuration: {twice}"


def shadow_has_one_counterpart(request: Members) -> str | None:
    """Refuse a shadow variant beside several production variants (rule 2)."""
    if request.get("ShadowProductionVariants") and len(request["ProductionVariants"]) != 1:
        return "ShadowProductionVariants requires exactly one variant in ProductionVariants."
    return None


def kinds_are_whole(request: Members) -> str | None:
    """Refuse variants that lack what their kind needs or have what it excludes (variant kinds)."""
    for variant in _variants(request):
        name = variant["VariantName"]
        if "ServerlessConfig" in variant:
            if "ModelName" not in variant:
                return f"ModelName is required for the serverless variant {name}."
            if excess := next((member for member in _NOT_SERVERLESS if member in variant), None):
                return f"{excess} cannot be specified together with ServerlessConfig: variant {name}."
        elif "InstanceType" in variant and "InstancePools" in variant:
            return f"Only one of InstanceType and InstancePools can be specified: variant {name}."
        elif "InstanceType" not in variant and "InstancePools" not in variant:
            return f"InstanceType is required for the variant {name}."
        elif "InitialInstanceCount" not in variant:
            return f"InitialInstanceCount is required for the variant {name}."
    return None


def kinds_are_not_mixed(request: Members) -> str | None:
    """Refuse serverless beside other variants, and variants with a model beside such without one (rule 4)."""
    variants = _variants(request)
    if len(variants) > 1 and any("ServerlessConfig" in variant for variant in variants):
        return "A serverless variant must be the only variant of its endpoint configuration."
    if len({"ModelName" in variant for variant in variants}) > 1:
        return "Either all variants must have a ModelName or none."
    return None


def component_hosts_have_a_role(request: Members) -> str | None:
    """Refuse variants without a model when nobody says in whose name components are fetched."""
    if any("ModelName" not in variant for variant in _variants(request)) and "ExecutionRoleArn" not in request:
        return "ExecutionRoleArn is required for variants without ModelName."
    return None


def instances_scale_with_components_only(request: Members) -> str | None:
    """Refuse ManagedInstanceScaling on a variant that has a model (section 3.3)."""
    if any("ManagedInstanceScaling" in variant and "ModelName" in variant for variant in _variants(request)):
        return "ManagedInstanceScaling is only supported for inference component endpoints."
    return None


def serverless_sizes_fit(request: Members) -> str | None:
    """Refuse memory that is no multiple of 1 GB and more provisioned than allowed concurrency (rule 5)."""
    for variant in _variants(request):
        config = variant.get("ServerlessConfig")
        if config is None:
            continue
        if config["MemorySizeInMB"] % _MEMORY_STEP_MB:
            return "MemorySizeInMB must be one of 1024, 2048, 3072, 4096, 5120 and 6144."
        if config.get("ProvisionedConcurrency", 0) > config["MaxConcurrency"]:
            return "ProvisionedConcurrency must not be greater than MaxConcurrency."
    return None


def accelerators_are_retired(request: Members) -> str | None:
    """Refuse AcceleratorType, which AWS has retired (rule 12)."""
    if any("AcceleratorType" in variant for variant in _variants(request)):
        return "AcceleratorType is no longer supported: Amazon Elastic Inference has been retired."
    return None


def frequency_is_known(request: Members) -> str | None:
    """Refuse a frequency of metrics that is none of the seven (rule 18)."""
    frequency = request.get("MetricsConfig", {}).get("MetricPublishFrequencyInSeconds")
    if frequency is not None and frequency not in _FREQUENCIES_SECONDS:
        return "MetricPublishFrequencyInSeconds must be one of 10, 30, 60, 120, 180, 240 and 300."
    return None


def only_what_is_built(request: Members) -> str | None:
    """Refuse what Moorage does not do yet, by name."""
    return refusal(request, _BUILT)


RULES = (
    names_are_unique,
    shadow_has_one_counterpart,
    accelerators_are_retired,
    kinds_are_whole,
    kinds_are_not_mixed,
    component_hosts_have_a_role,
    instances_scale_with_components_only,
    serverless_sizes_fit,
    frequency_is_known,
    *tags.RULES,
    only_what_is_built,
)
