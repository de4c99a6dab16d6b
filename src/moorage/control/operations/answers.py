"""Errors about resources in AWS's words (control-plane.md section 3.1). Clients match on these texts."""

from moorage.aws.arns import make_arn
from moorage.aws.errors import ClientFault, validation_exception
from moorage.state.records import EndpointKey, Kind, ResourceKey

WORDS = {
    Kind.MODEL: "model",
    Kind.ENDPOINT_CONFIG: "endpoint configuration",
    Kind.ENDPOINT: "endpoint",
    Kind.MODEL_PACKAGE: "model package",
    Kind.MODEL_PACKAGE_GROUP: "model package group",
}


def arn_of(key: ResourceKey) -> str:
    """Make the ARN of a resource."""
    return make_arn(key.region, key.account, key.kind, key.name)


def endpoint_arn(key: EndpointKey) -> str:
    """Make the ARN of an endpoint."""
    return make_arn(key.region, key.account, Kind.ENDPOINT, key.name)


def could_not_find(key: ResourceKey) -> ClientFault:
    """Make the error for a resource that is not there."""
    return validation_exception(f'Could not find {WORDS[key.kind]} "{arn_of(key)}".')


def already_exists(key: ResourceKey) -> ClientFault:
    """Make the error for a name that is taken."""
    return validation_exception(f'Cannot create already existing {WORDS[key.kind]} "{arn_of(key)}".')


def in_progress(key: EndpointKey) -> ClientFault:
    """Make the error for a change of an endpoint that is being changed, or made, or deleted."""
    return validation_exception(f'Cannot update in-progress endpoint "{endpoint_arn(key)}".')
