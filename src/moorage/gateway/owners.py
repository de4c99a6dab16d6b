"""Whose request is it? Decided from path, query and headers alone, before anything is verified.

The owner verifies the signature; a request that lies about its service only reaches somebody who refuses it.
"""

import re
from enum import Enum, auto
from urllib.parse import unquote

from moorage.aws.errors import ClientFault
from moorage.gateway.requests import RequestHead

_HEADER_SCOPE = re.compile(r"Credential=[^,\s]*?/[0-9]*/[^/,\s]*/([^/,\s]+)/aws4_request")
_QUERY_SCOPE = re.compile(r"(?:^|&)X-Amz-Credential=([^&]*)")


class Owner(Enum):
    """Who answers a request."""

    GATEWAY = auto()
    CONTROL = auto()
    NEIGHBOURS = auto()
    NOBODY = auto()
    """It is signed for a service that Moorage does not have."""


_BY_SERVICE = {"sagemaker": Owner.CONTROL, "s3": Owner.NEIGHBOURS}


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
    authorization = head.fields.get("authorization")
    if authorization is not None:
        found = _HEADER_SCOPE.search(authorization)
        return found[1] if found else None
    if "X-Amz-Credential=" in head.query and (given := _QUERY_SCOPE.search(head.query)):
        parts = unquote(given[1]).split("/")
        return parts[-2] if len(parts) >= 5 else None
    return None


def unknown_service(head: RequestHead) -> ClientFault:
    """Make the error for a service that Moorage does not have."""
    service = (signed_service(head) or "")[:64]
    return ClientFault(
        "UnknownOperationException",
        f"Moorage does not have the service {service!a}. It has: {', '.join(sorted(_BY_SERVICE))}.",
    )
