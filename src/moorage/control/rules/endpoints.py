"""Rules for CreateEndpoint and UpdateEndpointWeightsAndCapacities (control-plane.md section 5.3)."""

from moorage.control.rules import Members, tags
from moorage.control.rules.not_built import refusal
from moorage.state.records import EndpointRecord

_CREATE = {"EndpointName": ..., "EndpointConfigName": ..., "Tags": ...}
_WEIGHTS = {
    "EndpointName": ...,
    "DesiredWeightsAndCapacities": {"VariantName": ..., "DesiredWeight": ..., "DesiredInstanceCount": ...},
}


def only_what_create_builds(request: Members) -> str | None:
    """Refuse what Moorage does not do yet at CreateEndpoint, by name."""
    return refusal(request, _CREATE)


def only_what_weights_build(request: Members) -> str | None:
    """Refuse what Moorage does not do yet at UpdateEndpointWeightsAndCapacities, by name."""
    return refusal(request, _WEIGHTS)


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


CREATE_RULES = (*tags.RULES, only_what_create_builds)
WEIGHTS_RULES = (only_what_weights_build,)
