"""Rules for CreateEndpoint, UpdateEndpoint and UpdateEndpointWeightsAndCapacities (control-plane.md section 5.3)."""

from collections.abc import Mapping, Sequence
from typing import Any

from moorage.control.rules import Members, deployments, tags
from moorage.control.rules.not_built import refusal
from moorage.state.records import EndpointRecord

_DEPLOYMENT = {
    "BlueGreenUpdatePolicy": {
        "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": ...},
        "TerminationWaitInSeconds": ...,
        "MaximumExecutionTimeoutInSeconds": ...,
    },
}
_CREATE = {"EndpointName": ..., "EndpointConfigName": ..., "DeploymentConfig": _DEPLOYMENT, "Tags": ...}
_UPDATE = {
    "EndpointName": ...,
    "EndpointConfigName": ...,
    "RetainAllVariantProperties": ...,
    "ExcludeRetainedVariantProperties": ...,
    "DeploymentConfig": _DEPLOYMENT,
    "RetainDeploymentConfig": ...,
}
_WEIGHTS = {
    "EndpointName": ...,
    "DesiredWeightsAndCapacities": {"VariantName": ..., "DesiredWeight": ..., "DesiredInstanceCount": ...},
}


def only_what_create_builds(request: Members) -> str | None:
    """Refuse what Moorage does not do yet at CreateEndpoint, by name."""
    return refusal(request, _CREATE)


def only_what_update_builds(request: Members) -> str | None:
    """Refuse what Moorage does not do yet at UpdateEndpoint, by name."""
    return refusal(request, _UPDATE)


def only_what_weights_build(request: Members) -> str | None:
    """Refuse what Moorage does not do yet at UpdateEndpointWeightsAndCapacities, by name."""
    return refusal(request, _WEIGHTS)


def one_deployment_config(request: Members) -> str | None:
    """Refuse a new DeploymentConfig together with the wish to keep the last one (section 5.3, rule 8)."""
    if request.get("RetainDeploymentConfig") and "DeploymentConfig" in request:
        return "DeploymentConfig cannot be specified when RetainDeploymentConfig is true."
    return None


def exclusions_are_from_what_is_retained(request: Members) -> str | None:
    """Refuse exclusions from nothing (rule 8)."""
    if request.get("ExcludeRetainedVariantProperties") and not request.get("RetainAllVariantProperties"):
        return "ExcludeRetainedVariantProperties can only be specified when RetainAllVariantProperties is true."
    return None


def capture_is_never_retained(request: Members) -> str | None:
    """Refuse DataCaptureConfig among the exclusions, as AWS does (rule 8)."""
    for excluded in request.get("ExcludeRetainedVariantProperties", ()):
        if excluded["VariantPropertyType"] == "DataCaptureConfig":
            return "The variant property type DataCaptureConfig is not supported in ExcludeRetainedVariantProperties."
    return None


def steps_fit(request: Members, counts: Sequence[int]) -> str | None:
    """Refuse steps of too few or too many instances of the new fleet, whose variants' counts are given (rule 8)."""
    return deployments.sizes_fit(request.get("DeploymentConfig", {}), counts)


def kind_can_change(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> str | None:
    """Refuse to make instances serverless, and hosts of inference components something else or the reverse (rule 5).

    ``before`` and ``after`` are the production variants of the deployed and of the new configuration.
    """
    if _has_models(before) != _has_models(after):
        return "An endpoint cannot change between production variants with a ModelName and such without one."
    if _is_serverless(after) and not _is_serverless(before):
        return "An endpoint with instances cannot be updated to a serverless endpoint configuration."
    return None


def _has_models(variants: Sequence[Mapping[str, Any]]) -> bool:
    return any("ModelName" in variant for variant in variants)


def _is_serverless(variants: Sequence[Mapping[str, Any]]) -> bool:
    return any("ServerlessConfig" in variant for variant in variants)


def variants_are_known(request: Members, endpoint: EndpointRecord) -> str | None:
    """Refuse a variant that is named twice or that the endpoint does not have, in the order of the request."""
    known = {variant.name for variant in endpoint.variants}
    seen: set[str] = set()
    for item in request["DesiredWeightsAndCapacities"]:
        name = item["VariantName"]
        if name in seen:
            return f'The variant name "{name}" was non-unique within the request.'
        if name not in known:
            return (
                f'The variant name(s) "{name}" is/are not present within endpoint configuration '
                f'"{endpoint.config_name}".'
            )
        seen.add(name)
    return None


def capacity_is_not_zero(request: Members) -> str | None:
    """Refuse to leave a real-time variant without instances."""
    for item in request["DesiredWeightsAndCapacities"]:
        if item.get("DesiredInstanceCount") == 0:
            return f"DesiredInstanceCount must be at least 1 for the real-time variant {item['VariantName']}."
    return None


def concurrency_is_for_serverless(request: Members) -> str | None:
    """Refuse to change the concurrency of a variant that has instances: Moorage has no others yet."""
    for item in request["DesiredWeightsAndCapacities"]:
        if "ServerlessUpdateConfig" in item:
            return f"ServerlessUpdateConfig can only be specified for a serverless variant: {item['VariantName']}."
    return None


def concurrency_fits(request: Members) -> str | None:
    """Refuse more provisioned than allowed concurrency."""
    for item in request["DesiredWeightsAndCapacities"]:
        config = item.get("ServerlessUpdateConfig", {})
        if "MaxConcurrency" in config and config.get("ProvisionedConcurrency", 0) > config["MaxConcurrency"]:
            return f"ProvisionedConcurrency must not be greater than MaxConcurrency: variant {item['VariantName']}."
    return None


CREATE_RULES = (*deployments.RULES, *tags.RULES)
UPDATE_RULES = (
    one_deployment_config,
    exclusions_are_from_what_is_retained,
    capture_is_never_retained,
    *deployments.RULES,
)
WEIGHTS_RULES = (concurrency_fits,)
"""Those that need only the request. Its sizes are checked when the fleet is known, and then what is not built."""
