"""Rules about the variants of an endpoint configuration (control-plane.md section 5.2).

A variant is one of four kinds: instances of one type with a model, instances from pools with a model, instances that
host inference components (no model), or serverless.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from moorage.control.rules import Members

Variant = Mapping[str, Any]

_MEMORY_STEP_MB = 1024

_NOT_SERVERLESS = (
    "InstanceType",
    "InitialInstanceCount",
    "InstancePools",
    "VariantInstanceProvisionTimeoutInSeconds",
    "AcceleratorType",
    "CoreDumpConfig",
    "VolumeSizeInGB",
    "ManagedInstanceScaling",
    "RoutingConfig",
    "InferenceAmiVersion",
    "CapacityReservationConfig",
    "AcceleratorPartitionLayouts",
)
"""What says something of instances, which a serverless variant does not have."""


def variants_of(request: Members) -> list[Variant]:
    """Give production and shadow variants."""
    return [*request["ProductionVariants"], *request.get("ShadowProductionVariants", ())]


def is_serverless(variant: Variant) -> bool:
    """Say whether a variant runs without instances of its own."""
    return "ServerlessConfig" in variant


def hosts_components(variant: Variant) -> bool:
    """Say whether a variant's instances host inference components instead of a model."""
    return "ModelName" not in variant


def models_of(request: Members) -> list[str]:
    """Give the names of all models that are referred to, in the order of the request (rule 21)."""
    return [
        name
        for variant in variants_of(request)
        for name in (
            variant.get("ModelName"),
            *(pool.get("ModelNameOverride") for pool in variant.get("InstancePools", ())),
        )
        if name is not None
    ]


def types_of(variant: Variant) -> list[str]:
    """Give the instance types that a variant may run on, in the order of the request."""
    pools = (pool["InstanceType"] for pool in variant.get("InstancePools", ()))
    return [*([variant["InstanceType"]] if "InstanceType" in variant else []), *pools]


def _within(request: Members, member: str) -> Iterator[tuple[Variant, Any]]:
    """Give the variants that have a member, each with its value."""
    return ((variant, variant[member]) for variant in variants_of(request) if member in variant)


def names_are_unique(request: Members) -> str | None:
    """Refuse two variants of one name (rule 1)."""
    names = [variant["VariantName"] for variant in variants_of(request)]
    twice = next((name for name in names if names.count(name) > 1), None)
    return None if twice is None else f"Variant names must be unique within an endpoint configuration: {twice}"


def accelerators_are_retired(request: Members) -> str | None:
    """Refuse AcceleratorType, which AWS has retired (rule 12)."""
    if any("AcceleratorType" in variant for variant in variants_of(request)):
        return "AcceleratorType is no longer supported: Amazon Elastic Inference has been retired."
    return None


def serverless_variants_have_no_instances(request: Members) -> str | None:
    """Refuse serverless variants without a model, and with what says something of instances (variant kinds)."""
    for variant in variants_of(request):
        if not is_serverless(variant):
            continue
        name = variant["VariantName"]
        if "ModelName" not in variant:
            return f"ModelName is required for the serverless variant {name}."
        if excess := next((member for member in _NOT_SERVERLESS if member in variant), None):
            return f"{excess} cannot be specified together with ServerlessConfig: variant {name}."
    return None


def instances_have_type_and_count(request: Members) -> str | None:
    """Refuse variants that do not say which instances they want, or how many, or say it twice (variant kinds)."""
    for variant in variants_of(request):
        if is_serverless(variant):
            continue
        name = variant["VariantName"]
        if "InstanceType" in variant and "InstancePools" in variant:
            return f"Only one of InstanceType and InstancePools can be specified: variant {name}."
        if "InstanceType" not in variant and "InstancePools" not in variant:
            return f"InstanceType is required for the variant {name}."
        if "InitialInstanceCount" not in variant:
            return f"InitialInstanceCount is required for the variant {name}."
    return None


def kinds_are_not_mixed(request: Members) -> str | None:
    """Refuse serverless beside other variants, and variants with a model beside such without one (rules 4 and 5)."""
    variants = variants_of(request)
    if len(variants) > 1 and any(is_serverless(variant) for variant in variants):
        return "A serverless variant must be the only variant of its endpoint configuration."
    if len({hosts_components(variant) for variant in variants}) > 1:
        return "Either all variants must have a ModelName or none."
    return None


def serverless_memory_is_in_steps(request: Members) -> str | None:
    """Refuse memory that is no multiple of 1 GB (rule 5)."""
    if any(config["MemorySizeInMB"] % _MEMORY_STEP_MB for _, config in _within(request, "ServerlessConfig")):
        return "MemorySizeInMB must be one of 1024, 2048, 3072, 4096, 5120 and 6144."
    return None


def provisioned_concurrency_is_allowed(request: Members) -> str | None:
    """Refuse more provisioned than allowed concurrency (rule 5)."""
    for _, config in _within(request, "ServerlessConfig"):
        if config.get("ProvisionedConcurrency", 0) > config["MaxConcurrency"]:
            return "ProvisionedConcurrency must not be greater than MaxConcurrency."
    return None


def pools_differ(request: Members) -> str | None:
    """Refuse two pools of one variant with the same priority or the same instance type (rule 8)."""
    for variant, pools in _within(request, "InstancePools"):
        for member in ("Priority", "InstanceType"):
            if len({pool[member] for pool in pools}) < len(pools):
                return f"Each instance pool of a variant must have another {member}: variant {variant['VariantName']}."
    return None


def overrides_have_a_model(request: Members) -> str | None:
    """Refuse to override the model of a variant that has none (rule 8)."""
    for variant, pools in _within(request, "InstancePools"):
        if hosts_components(variant) and any("ModelNameOverride" in pool for pool in pools):
            name = variant["VariantName"]
            return f"ModelNameOverride can only be specified for a variant with a ModelName: variant {name}."
    return None


def instances_scale_with_components_only(request: Members) -> str | None:
    """Refuse ManagedInstanceScaling on a variant that has a model (rule 9)."""
    if any(not hosts_components(variant) for variant, _ in _within(request, "ManagedInstanceScaling")):
        return "ManagedInstanceScaling is only supported for inference component endpoints."
    return None


def scaling_bounds_hold(request: Members) -> str | None:
    """Refuse a smallest count above the largest one, and a first count outside of both (rule 9)."""
    for variant, scaling in _within(request, "ManagedInstanceScaling"):
        least, most = scaling.get("MinInstanceCount"), scaling.get("MaxInstanceCount")
        count = variant.get("InitialInstanceCount")
        if least is not None and most is not None and least > most:
            return "MinInstanceCount must not be greater than MaxInstanceCount."
        if (least is not None and count < least) or (most is not None and count > most):
            name = variant["VariantName"]
            return f"InitialInstanceCount must be from MinInstanceCount to MaxInstanceCount: variant {name}."
    return None


def prefix_routing_is_whole(request: Members) -> str | None:
    """Refuse PREFIX_AWARE without both of its settings, and its settings with another strategy (rule 10)."""
    for _, routing in _within(request, "RoutingConfig"):
        settings = routing.get("PrefixAwareRoutingConfig")
        if routing["RoutingStrategy"] != "PREFIX_AWARE":
            if settings is not None:
                return "PrefixAwareRoutingConfig can only be specified when RoutingStrategy is PREFIX_AWARE."
        elif settings is None or not {"PrefixLength", "ConcurrencyThreshold"} <= settings.keys():
            return "PrefixLength and ConcurrencyThreshold are required when RoutingStrategy is PREFIX_AWARE."
    return None


def reservations_are_whole(request: Members) -> str | None:
    """Refuse a preference for reserved capacity that names no reservation, and the reverse (rule 11)."""
    for variant, reservation in _within(request, "CapacityReservationConfig"):
        if ("CapacityReservationPreference" in reservation) != ("MlReservationArn" in reservation):
            name = variant["VariantName"]
            return f"CapacityReservationPreference and MlReservationArn must be specified together: variant {name}."
    return None


RULES = (
    names_are_unique,
    accelerators_are_retired,
    serverless_variants_have_no_instances,
    instances_have_type_and_count,
    kinds_are_not_mixed,
    serverless_memory_is_in_steps,
    provisioned_concurrency_is_allowed,
    pools_differ,
    overrides_have_a_model,
    instances_scale_with_components_only,
    scaling_bounds_hold,
    prefix_routing_is_whole,
    reservations_are_whole,
)
