"""Whose request is it? Decided from path, query and headers alone, before anything is verified.

The owner verifies the signature; a request that lies about its service only reaches somebody who refuses it.
"""

from enum import Enum, auto

from moorage.aws.errors import ClientFault
from moorage.aws.sigv4 import named_service
from moorage.gateway.requests import RequestHead


class Owner(Enum):
    """Who answers a request."""

    GATEWAY = auto()
    CONTROL = auto()
    NEIGHBOURS = auto()
    NOBODY = auto()
    """It is signed for a service that Moorage does not have."""


_BY_SERVICE = {
    "sagemaker": Owner.CONTROL,
    "kms": Owner.NEIGHBOURS,
    "logs": Owner.NEIGHBOURS,
    "s3": Owner.NEIGHBOURS,
    "sqs": Owner.NEIGHBOURS,
    "sts": Owner.NEIGHBOURS,
}


def owner_of(head: RequestHead) -> Owner:
    """Find the owner of a request (docs/design/processes.md)."""
    service = signed_service(head)
    if head.path.startswith("/_moorage/"):
        return Owner.CONTROL
    if head.path.startswith("/endpoints/") and service != "s3":  # a bucket may have this name
        return Owner.GATEWAY
    if service is not None:
        return _BY_SERVICE.get(service, Owner.NOBODY)
    return Owner.CONTROL if "x-amz-target" in head.fields else Owner.NEIGHBOURS


def signed_service(head: RequestHead) -> str | None:
    """Read the service of the credential scope; None when there is none that can be read."""
    return named_service(head.fields.get("authorization"), head.query)


def unknown_service(head: RequestHead) -> ClientFault:
    """Make the error for a service that Moorage does not have."""
    service = (signed_service(head) or "")[:64]
    return ClientFault(
        "UnknownOperationException",
        f"Moorage does not have the service {service!a}. It has: {', '.join(sorted(_BY_SERVICE))}.",
    )
