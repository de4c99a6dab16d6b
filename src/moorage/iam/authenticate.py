"""Whose request is this? Decides it from the signature, the known keys, the session token and the time.

The texts are those of AWS's services that speak JSON (control-plane.md section 1.4). S3 has other codes and texts for
the same failures; its neighbour makes them from ``AuthFailure``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from moorage.aws import sigv4
from moorage.aws.credentials import Credential
from moorage.aws.errors import ClientFault
from moorage.aws.sigv4 import HttpRequest, Signature
from moorage.iam.sessions import credential_of, open_token


class AuthFailure(StrEnum):
    """Why a caller is not known."""

    MISSING = "Missing"
    """Not signed at all."""
    MALFORMED = "Malformed"
    """Signed in a way that cannot be read."""
    UNKNOWN_KEY = "UnknownKey"
    BAD_TOKEN = "BadToken"  # noqa: S105 - a name
    """A session token that Moorage has not made for this key, or whose parent key is gone."""
    EXPIRED_TOKEN = "ExpiredToken"  # noqa: S105 - a name
    BAD_SIGNATURE = "BadSignature"
    """Signed with another secret, or changed afterwards."""
    EXPIRED = "Expired"
    """A presigned URL whose time is over."""
    SKEWED = "Skewed"
    """Signed too long ago, or in the future."""


_CODES = {
    AuthFailure.MISSING: "MissingAuthenticationTokenException",
    AuthFailure.MALFORMED: "IncompleteSignatureException",
    AuthFailure.UNKNOWN_KEY: "UnrecognizedClientException",
    AuthFailure.BAD_TOKEN: "UnrecognizedClientException",
    AuthFailure.EXPIRED_TOKEN: "ExpiredTokenException",
    AuthFailure.BAD_SIGNATURE: "InvalidSignatureException",
    AuthFailure.EXPIRED: "InvalidSignatureException",
    AuthFailure.SKEWED: "InvalidSignatureException",
}

_INVALID = "The security token included in the request is invalid."
_DOES_NOT_MATCH = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access "
    "Key and signing method. Consult the service documentation for details."
)


class AuthenticationFailed(Exception):
    """The caller is not who the request says, or says nothing."""

    def __init__(self, failure: AuthFailure, message: str) -> None:
        super().__init__(message)
        self.failure = failure
        self.message = message


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and what for."""

    credential: Credential
    region: str
    service: str
    """Signing name: ``sagemaker`` for both APIs of it, ``s3``, ..."""

    @property
    def account(self) -> str:
        """The account that the call belongs to."""
        return self.credential.account_id


@dataclass(frozen=True, slots=True)
class Keys:
    """What signatures and session tokens are checked with."""

    credentials: Mapping[str, Credential]
    """By access key id."""
    token_secret: str = field(default="", repr=False)
    """Empty: no session token is good."""

    def find(self, access_key_id: str, token: str | None, now: float) -> Credential:
        """Find a key, or make the credential of a session; raises AuthenticationFailed."""
        if token is None:
            if (credential := self.credentials.get(access_key_id)) is not None:
                return credential
            raise AuthenticationFailed(AuthFailure.UNKNOWN_KEY, _INVALID)
        opened = open_token(self.token_secret, access_key_id, token)
        if opened is None:
            raise AuthenticationFailed(AuthFailure.BAD_TOKEN, _INVALID)
        secret_access_key, session = opened
        if session.expires_at <= now:
            message = "The security token included in the request is expired"
            raise AuthenticationFailed(AuthFailure.EXPIRED_TOKEN, message)
        parent = self.credentials.get(session.parent_key_id)
        if parent is None:
            raise AuthenticationFailed(AuthFailure.BAD_TOKEN, _INVALID)
        return credential_of(parent, access_key_id, secret_access_key, session)


def identify(
    request: HttpRequest,
    payload_sha256: str,
    keys: Keys,
    *,
    now: float,
    skew_seconds: float,
) -> Caller:
    """Find the caller of a request; raises AuthenticationFailed.

    ``payload_sha256``: see ``sigv4.verify``. ``now`` is in seconds since the epoch.
    """
    signature = _read(request)
    credential = keys.find(signature.access_key_id, signature.session_token, now)
    _check_time(signature, now, skew_seconds)
    if unsigned := sigv4.unsigned_headers(signature, request):
        name = "Host' or ':authority" if unsigned[0] == "host" else unsigned[0]
        raise AuthenticationFailed(
            AuthFailure.BAD_SIGNATURE, f"'{name}' must be a 'SignedHeader' in the AWS Authorization."
        )
    if not sigv4.verify(signature, request, payload_sha256, credential.secret_access_key):
        raise AuthenticationFailed(AuthFailure.BAD_SIGNATURE, _DOES_NOT_MATCH)
    return Caller(credential, signature.region, signature.service)


def as_json_error(failure: AuthenticationFailed, status: int) -> ClientFault:
    """Make AWS's error of it: the control plane answers 400, the runtime 403 (data-plane.md section 1.6)."""
    return ClientFault(_CODES[failure.failure], failure.message, status=status)


def read_signature(request: HttpRequest) -> Signature | None:
    """Read a request's signature; None when it has none. Raises AuthenticationFailed when it cannot be read."""
    try:
        return sigv4.read_signature(request)
    except sigv4.MalformedSignature as fault:
        raise AuthenticationFailed(AuthFailure.MALFORMED, fault.message) from fault


def _read(request: HttpRequest) -> Signature:
    signature = read_signature(request)
    if signature is None:
        raise AuthenticationFailed(AuthFailure.MISSING, "Missing Authentication Token")
    return signature


def _check_time(signature: Signature, now: float, skew_seconds: float) -> None:
    signed_at = signature.timestamp
    if signed_at > now + skew_seconds:
        latest = sigv4.format_amz_date(now + skew_seconds)
        raise AuthenticationFailed(
            AuthFailure.SKEWED,
            f"Signature not yet current: {signature.amz_date} is still later than {latest} "
            f"({sigv4.format_amz_date(now)} + {_minutes(skew_seconds)} min.)",
        )
    if signature.expires_seconds is not None:
        ends_at = signed_at + signature.expires_seconds
        if ends_at < now:
            raise AuthenticationFailed(
                AuthFailure.EXPIRED,
                f"Signature expired: {sigv4.format_amz_date(ends_at)} is now earlier than {sigv4.format_amz_date(now)}",
            )
    elif signed_at < now - skew_seconds:
        earliest = sigv4.format_amz_date(now - skew_seconds)
        raise AuthenticationFailed(
            AuthFailure.SKEWED,
            f"Signature expired: {signature.amz_date} is now earlier than {earliest} "
            f"({sigv4.format_amz_date(now)} - {_minutes(skew_seconds)} min.)",
        )


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:g}"
