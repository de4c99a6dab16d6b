"""Tokens that say where the next page of a list begins.

A token holds the sort key and the name of the last item that was shown, so that resources which come and go between
two pages make others neither vanish nor appear twice, and a hash of the filters, so that it cannot be used for
another list (control-plane.md section 4.3).
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from moorage.aws.errors import validation_exception

Position = Sequence[str | int | float]


def encode_token(position: Position, filters: Mapping[str, Any]) -> str:
    """Make a token of the last item's sort key and the list's filters (every argument but the token and page size)."""
    return base64.urlsafe_b64encode(orjson.dumps([list(position), _fingerprint(filters)])).decode()


def decode_token(token: str, filters: Mapping[str, Any], kinds: Sequence[type]) -> tuple[Any, ...]:
    """Read a token's position, whose parts must be of these kinds; raises ValidationException."""
    try:
        position, fingerprint = orjson.loads(base64.b64decode(token.encode(), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, TypeError):
        raise _invalid(token, "it cannot be read") from None
    if fingerprint != _fingerprint(filters):
        raise _invalid(token, "it belongs to a list with other filters or another order")
    if not isinstance(position, list) or [type(part) for part in position] != list(kinds):
        raise _invalid(token, "it cannot be read")
    return tuple(position)


def _fingerprint(filters: Mapping[str, Any]) -> str:
    given = {name: value for name, value in filters.items() if value is not None}
    return hashlib.sha256(orjson.dumps(given, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def _invalid(token: str, reason: str) -> Exception:
    return validation_exception(f'Invalid pagination token "{token[:200]}" because {reason}.')
