"""Bearer tokens of the OpenAI-compatible path: who made one, checked offline (data-plane.md section 3.4). Pure.

A token is a presigned URL in Base64, made by its holder without asking anybody: SigV4 in the query, of a ``POST`` to
the control plane's public host with the action ``CallWithBearerToken``. So it is checked as any presigned URL is, and
ends with its expiry, its key or its session.
"""

import base64
import binascii
import hashlib

from moorage.aws.sigv4 import HttpRequest
from moorage.iam.authenticate import AuthenticationFailed, AuthFailure, Caller, Keys, identify, read_signature

TOKEN_PREFIX = "sagemaker-api-key-"  # noqa: S105 - not a secret
LONGEST_EXPIRY_SECONDS = 43_200
LONGEST_TOKEN = 32_768
"""Characters: a session token has up to 12,288 and is encoded twice."""

_HOST = "sagemaker.amazonaws.com"
_ACTION = "CallWithBearerToken"
_VERSION = "&Version=1"
_EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


def token_of(authorization: str | None) -> str | None:
    """Give the token of an Authorization header; None when the header is none of this kind."""
    scheme, _, token = (authorization or "").strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def identify_bearer(token: str, keys: Keys, *, now: float, skew_seconds: float) -> Caller:
    """Find the caller who made a token; raises AuthenticationFailed. ``now`` is in seconds since the epoch."""
    request = _read(token)
    _check_expiry(request)
    caller = identify(request, _EMPTY_SHA256, keys, now=now, skew_seconds=skew_seconds)
    if caller.service != "sagemaker":
        raise _malformed("it is not signed for the service sagemaker")
    return caller


def _read(token: str) -> HttpRequest:
    """Make the request that was signed."""
    if not token.startswith(TOKEN_PREFIX):
        raise _malformed(f"it does not begin with {TOKEN_PREFIX}")
    if len(token) > LONGEST_TOKEN:
        raise _malformed("it is too long")
    try:
        url = base64.b64decode(token.removeprefix(TOKEN_PREFIX), validate=True).decode("ascii")
    except (binascii.Error, ValueError) as fault:
        raise _malformed("it is not Base64 of a URL") from fault
    if not url.endswith(_VERSION):
        raise _malformed("its version is not 1")
    place, _, query = url.removesuffix(_VERSION).partition("?")
    if place != f"{_HOST}/":
        raise _malformed(f"it is not for {_HOST}")
    actions = [pair for pair in query.split("&") if pair.startswith("Action=")]
    if actions != [f"Action={_ACTION}"]:
        raise _malformed(f"its action is not {_ACTION}")
    return HttpRequest("POST", "/", query, [("host", _HOST)])


def _check_expiry(request: HttpRequest) -> None:
    signature = read_signature(request)
    if signature is None:
        raise _malformed("it is not signed")
    if not 1 <= (signature.expires_seconds or 0) <= LONGEST_EXPIRY_SECONDS:
        raise _malformed(f"X-Amz-Expires must be between 1 and {LONGEST_EXPIRY_SECONDS} seconds")


def _malformed(reason: str) -> AuthenticationFailed:
    return AuthenticationFailed(AuthFailure.MALFORMED, f"The bearer token is not a SageMaker API key: {reason}.")
