"""Who may read the page for Prometheus, which cannot sign its requests. Pure.

A signature of Signature Version 4 goes the usual way. Without one it takes the token of the setting
``MOORAGE_METRICS_TOKEN`` (``Authorization: Bearer ...``), or, when no token is set, a connection from this machine.
"From this machine" is what the gateway says of the socket. A proxy on the same machine would make everybody local, so
a request that was passed on is not taken for local; nor is one for a name that is not this machine's, because a web
page can have a browser send it (DNS rebinding).
"""

import hmac
import ipaddress
from enum import Enum, auto

from moorage.aws.errors import ClientFault
from moorage.aws.sigv4 import HttpRequest, header_value
from moorage.iam.context import SOURCE_IP_HEADER

_PASSED_ON = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


class Admission(Enum):
    """How somebody may read the page."""

    OPEN = auto()
    """As it is, with all accounts."""
    SIGNED = auto()
    """If the signature is right, with the caller's account."""


def admit(http: HttpRequest, token: str) -> Admission:
    """Decide by a request's headers; raises ClientFault for who may not read the page."""
    authorization = header_value(http, "authorization") or ""
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() == "bearer":
        if token and hmac.compare_digest(given.strip().encode(), token.encode()):
            return Admission.OPEN
        raise ClientFault("AccessDeniedException", "The bearer token is not MOORAGE_METRICS_TOKEN.", status=403)
    if authorization or "X-Amz-Signature" in http.query:
        return Admission.SIGNED
    if not token and _is_local(http):
        return Admission.OPEN
    message = (
        "From another machine, or once MOORAGE_METRICS_TOKEN is set, this page wants 'Authorization: Bearer' with that "
        "token, or a signature."
    )
    raise ClientFault("MissingAuthenticationTokenException", message, status=403)


def _is_local(http: HttpRequest) -> bool:
    if any(header_value(http, name) is not None for name in _PASSED_ON):
        return False
    return _is_loopback(header_value(http, SOURCE_IP_HEADER) or "") and _is_own_name(header_value(http, "host") or "")


def _is_loopback(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback


def _is_own_name(host: str) -> bool:
    """Say whether a Host header names this machine: ``localhost`` or an address, with or without a port."""
    name = host.partition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
    if name.lower() == "localhost":
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
