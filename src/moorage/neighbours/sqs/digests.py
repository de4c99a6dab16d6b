"""The MD5 digests that clients verify (SQS developer guide, "Calculating the MD5 message digest")."""

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

_TEXT, _BYTES = b"\x01", b"\x02"


def of_body(body: str) -> str:
    """Give the digest of a message's body."""
    return hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()


def of_attributes(attributes: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Give the digest of a message's attributes; None for none. Values of bytes are in base64."""
    if not attributes:
        return None
    digest = hashlib.md5(usedforsecurity=False)
    for name in sorted(attributes):
        attribute = attributes[name]
        for text in (name, attribute["DataType"]):
            digest.update(_counted(text.encode()))
        if "BinaryValue" in attribute:
            digest.update(_BYTES + _counted(base64.b64decode(attribute["BinaryValue"])))
        else:
            digest.update(_TEXT + _counted(attribute["StringValue"].encode()))
    return digest.hexdigest()


def _counted(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value
