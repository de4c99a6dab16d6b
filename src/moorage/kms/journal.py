"""Pieces of a file that grows, encrypted one by one, so that a killed writer leaves at most its last piece torn.

    SALT (16 bytes), then pieces: LENGTH (4 bytes, of what follows), the content encrypted, and a tag of 16 bytes

As in ``frames`` the key is derived of the data key and the salt, and a piece's nonce is its number: pieces that are
changed, moved or left out are noticed. That some are missing at the end is not: a crash does that too.
"""

import secrets
from collections.abc import Iterator
from typing import BinaryIO

from moorage.kms import cipher
from moorage.kms.faults import InvalidCiphertext

_LENGTH_BYTES = 4


class JournalSealer:
    """Encrypts the pieces of one file, in order."""

    def __init__(self, data_key: bytes) -> None:
        self.head = secrets.token_bytes(cipher.SALT_BYTES)
        """What must stand before the pieces."""
        self._key = cipher.derive(data_key, self.head)
        self._number = 0

    def seal(self, content: bytes) -> bytes:
        """Encrypt the next piece."""
        sealed = cipher.seal(self._key, _nonce(self._number), content, b"")
        self._number += 1
        return len(sealed).to_bytes(_LENGTH_BYTES, "big") + sealed


def read_journal(data_key: bytes, file: BinaryIO) -> Iterator[bytes]:
    """Decrypt the pieces of a file that stands at its salt, until the end or a torn one; raises InvalidCiphertext."""
    key = cipher.derive(data_key, file.read(cipher.SALT_BYTES))
    number = 0
    while len(length := file.read(_LENGTH_BYTES)) == _LENGTH_BYTES:
        size = int.from_bytes(length, "big")
        sealed = file.read(size)
        if len(sealed) < size:  # torn
            return
        if size < cipher.TAG_BYTES:
            raise InvalidCiphertext("A piece of an encrypted file has no tag.")
        yield cipher.unseal(key, _nonce(number), sealed, b"")
        number += 1


def _nonce(number: int) -> bytes:
    return number.to_bytes(cipher.NONCE_BYTES, "big")
