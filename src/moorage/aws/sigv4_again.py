"""Verifies further signatures of a signer whose earlier request has been verified in full. Pure.

What one client signs for one path differs from request to request in the date, the signed headers' values and the
body. The rest of the canonical form, and the first block of both halves of the HMAC, are made once here. The rule is
``sigv4.verify``'s, for plain paths without a query; where this says no, that has the last word.
"""

import hashlib
import hmac

from moorage.aws.sigv4 import ALGORITHM, Signature, signing_key

_BLOCK_BYTES = 64


class Verifier:
    """One signer's key of one day, and what it signs for one path."""

    __slots__ = ("_canonical", "_outer", "_started", "_text", "date")

    def __init__(self, signature: Signature, secret_access_key: str, method: str, path: str) -> None:
        """Take the parts that stay the same from a signature that has been verified."""
        key = signing_key(secret_access_key, signature.date, signature.region, signature.service)
        block = key.ljust(_BLOCK_BYTES, b"\0")
        # RFC 2104: H(key ^ opad, H(key ^ ipad, text)); the key is shorter than a block.
        self._started = hashlib.sha256(bytes([byte ^ 0x36 for byte in block]))
        self._outer = hashlib.sha256(bytes([byte ^ 0x5C for byte in block]))
        lines = "".join(f"{_literal(name)}:%b\n" for name in signature.signed_headers)
        names = _literal(";".join(signature.signed_headers))
        self._canonical = f"{_literal(method)}\n{_literal(path)}\n\n{lines}\n{names}\n".encode()
        self._text = f"{ALGORITHM}\n%b\n{_literal(signature.scope)}\n%b".encode()
        self.date = signature.date.encode()
        """Day of the credential scope, which the request's date must have."""

    def verify(self, signed_values: tuple[bytes, ...], amz_date: bytes, payload_sha256: str, given: bytes) -> bool:
        """Say whether ``given`` signs these values and this body; False also for what must be looked at in full.

        ``signed_values`` are those of the signed headers in their order: visible ASCII and spaces between.
        """
        canonical = self._canonical % signed_values + payload_sha256.encode()
        if b"  " in canonical:
            return False
        digest = hashlib.sha256(canonical).hexdigest().encode()
        inner = self._started.copy()
        inner.update(self._text % (amz_date, digest))
        outer = self._outer.copy()
        outer.update(inner.digest())
        return hmac.compare_digest(outer.hexdigest().encode(), given)


def _literal(text: str) -> str:
    return text.replace("%", "%%")
