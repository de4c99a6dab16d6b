"""AES-256 in Galois/Counter Mode, by the library ``cryptography``, which is loaded when it is first needed."""

import hashlib
import hmac
import importlib.util
from collections.abc import Mapping
from functools import cache
from typing import Any

from moorage.kms.faults import InvalidCiphertext, LibraryMissing

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
SALT_BYTES = 16


def available() -> bool:
    """Say whether there is a library to encrypt with, without loading it."""
    try:
        return importlib.util.find_spec("cryptography") is not None
    except ModuleNotFoundError:
        return False


def seal(key: bytes, nonce: bytes, content: bytes | memoryview, context: bytes) -> bytes:
    """Encrypt; the tag stands at the end. A nonce must never be used twice with one key."""
    sealed: bytes = _aead()(key).encrypt(nonce, content, context)
    return sealed


def unseal(key: bytes, nonce: bytes, sealed: bytes | memoryview, context: bytes) -> bytes:
    """Decrypt; raises InvalidCiphertext when anything is not what ``seal`` was given."""
    aead = _aead()
    try:
        content: bytes = aead(key).decrypt(nonce, sealed, context)
    except _tampered() as fault:
        raise InvalidCiphertext("The ciphertext was changed, or has another key or encryption context.") from fault
    return content


def derive(key: bytes, salt: bytes) -> bytes:
    """Give a key for one message: random nonces under one key alone would wear it out after some billions of them."""
    return hmac.digest(key, b"moorage kms message key\x01" + salt, hashlib.sha256)


def context_bytes(context: Mapping[str, str]) -> bytes:
    """Give the one spelling of an encryption context: pairs in order, each text behind its length."""
    texts = [text.encode() for pair in sorted(context.items()) for text in pair]
    return b"".join(len(text).to_bytes(4, "big") + text for text in texts)


@cache
def _aead() -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - 10 MB that most never need
    except ImportError as fault:
        raise LibraryMissing("Encryption needs the library cryptography: pip install 'moorage[kms]'.") from fault
    return AESGCM


def _tampered() -> type[Exception]:
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415

    return InvalidTag
