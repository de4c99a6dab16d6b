"""Session tokens: what a temporary key is, signed, in the hands of its holder. Nothing is stored.

A token says which key the session was begun with, until when it lasts and what limits it, and ends in a code that
only Moorage can make. The session's secret key follows from the token and Moorage's own secret, so that each process
that has the newest snapshot can check a request alone. Deleting the parent key ends its sessions.
"""

import base64
import binascii
import hmac
import json
import zlib
from dataclasses import asdict
from functools import lru_cache

from moorage.aws.credentials import Credential, Session

LONGEST_TOKEN = 12_288
"""Characters: it must fit into a header beside others."""

_VERSION = b"\x01"
_CODE_BYTES = 32


class TokenTooLong(ValueError):
    """The session's policies do not fit into a token."""


def make_token(token_secret: str, access_key_id: str, session: Session) -> tuple[str, str]:
    """Make the secret access key and the session token of a new session; raises TokenTooLong."""
    claims = zlib.compress(json.dumps([access_key_id, asdict(session)], separators=(",", ":")).encode())
    token = base64.urlsafe_b64encode(_VERSION + _code(token_secret, claims) + claims).decode()
    if len(token) > LONGEST_TOKEN:
        raise TokenTooLong
    return _secret_access_key(token_secret, claims), token


@lru_cache(maxsize=1024)
def open_token(token_secret: str, access_key_id: str, token: str) -> tuple[str, Session] | None:
    """Give the secret access key and the session of a token; None when it is not one of this key and of ours.

    Whether it has expired is for the caller to see.
    """
    if not token_secret or len(token) > LONGEST_TOKEN:
        return None
    try:
        content = base64.b64decode(token, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    version, code, claims = content[:1], content[1 : 1 + _CODE_BYTES], content[1 + _CODE_BYTES :]
    if version != _VERSION or not hmac.compare_digest(code, _code(token_secret, claims)):
        return None
    named, session = json.loads(zlib.decompress(claims))
    if named != access_key_id:
        return None
    session["policies"] = tuple(session["policies"])
    return _secret_access_key(token_secret, claims), Session(**session)


def credential_of(parent: Credential, access_key_id: str, secret_access_key: str, session: Session) -> Credential:
    """Make the credential of a session: its parent's account, user and policies, under its own limits."""
    return Credential(access_key_id, secret_access_key, parent.account_id, parent.user_name, parent.policies, session)


def _code(token_secret: str, claims: bytes) -> bytes:
    return hmac.digest(token_secret.encode(), b"code:" + claims, "sha256")


def _secret_access_key(token_secret: str, claims: bytes) -> str:
    return base64.b64encode(hmac.digest(token_secret.encode(), b"secret:" + claims, "sha256")[:30]).decode()
