"""What conditions may ask of any request (AWS's global condition keys), from what is known of it."""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache

from moorage.aws.credentials import Credential
from moorage.iam.authenticate import Caller
from moorage.iam.patterns import Context

SOURCE_IP_HEADER = "x-moorage-source-ip"
"""How the gateway tells owners where a request comes from; it never passes on a client's own."""


SECURE_HEADER = "x-moorage-secure-transport"
"""How the gateway tells owners whether a request came through TLS: ``true`` or ``false``."""


def make_context(
    caller: Caller, *, now: float, source_ip: str | None, secure: bool, more: Context | None = None
) -> Context:
    """Make the context of a request.

    ``secure`` says whether it came through our TLS (what a proxy in front of us does, nobody here knows), ``more`` is
    what its operation adds.
    """
    credential = caller.credential
    known = {
        "aws:currenttime": _iso(int(now)),
        "aws:epochtime": str(int(now)),
        "aws:principalarn": credential.principal_arn,
        "aws:principalaccount": credential.account_id,
        "aws:principalisawsservice": "false",
        "aws:principaltype": "User",
        "aws:requestedregion": caller.region,
        "aws:resourceaccount": credential.account_id,
        "aws:securetransport": "true" if secure else "false",
        "aws:userid": user_id(credential),
        "aws:viaawsservice": "false",
    }
    session = credential.session
    if session is not None:
        known["aws:tokenissuetime"] = _iso(int(session.issued_at))
        known["aws:multifactorauthpresent"] = "false"
    if session is not None and session.role is not None:
        known["aws:principaltype"] = "AssumedRole"
    else:
        known["aws:username"] = credential.user_name
    if source_ip:
        known["aws:sourceip"] = source_ip
    return {**{key: (value,) for key, value in known.items()}, **(more or {})}


def request_tags(tags: Mapping[str, str]) -> Context:
    """Give the keys that are about the tags that a request brings."""
    named = {f"aws:requesttag/{key.lower()}": (value,) for key, value in tags.items()}
    return {**named, **tag_keys(tags)}


def tag_keys(keys: Iterable[str]) -> Context:
    """Give the key that is about the names of tags that a request brings or takes away."""
    names = tuple(keys)
    return {"aws:tagkeys": names} if names else {}


def resource_tags(tags: Mapping[str, str]) -> Context:
    """Give the keys that are about the tags that a resource has."""
    return {
        f"{service}:resourcetag/{key.lower()}": (value,)
        for key, value in tags.items()
        for service in ("aws", "sagemaker")
    }


def user_id(credential: Credential) -> str:
    """Give the id that AWS would have made up for a user or role: here it follows from the name."""
    session = credential.session
    if session is not None and session.role is not None:
        return f"AROA{_letters(credential.principal_arn)}:{session.name}"
    return f"AIDA{_letters(credential.principal_arn)}"


@lru_cache(maxsize=1024)
def _letters(text: str) -> str:
    return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode()[:17]


@lru_cache(maxsize=64)
def _iso(timestamp: int) -> str:
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
