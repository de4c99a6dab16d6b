"""Digests of bodies that pass in pieces: S3's checksum algorithms, and MD5 for the ETag.

The CRCs are small arithmetic on native code (zlib, anycrc); their bytes are big-endian, as S3 writes them in Base64.
"""

import hashlib
import zlib
from collections.abc import Callable
from functools import cache
from typing import Protocol

import anycrc

ALGORITHMS = ("crc32", "crc32c", "crc64nvme", "sha1", "sha256")
"""What ``x-amz-checksum-*`` knows."""

_ANYCRC = {"crc32c": ("CRC32-ISCSI", 4), "crc64nvme": ("CRC64-NVME", 8)}


class Digest(Protocol):
    """A digest that grows."""

    def update(self, piece: bytes, /) -> None:
        """Take the next bytes."""

    def digest(self) -> bytes:
        """Give the value over all bytes so far."""


class _Crc:
    def __init__(self, step: Callable[[bytes, int], int], size: int) -> None:
        self._step = step
        self._size = size
        self._value = 0

    def update(self, piece: bytes, /) -> None:
        self._value = self._step(piece, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size, "big")


@cache
def _table(name: str) -> Callable[[bytes, int], int]:
    step: Callable[[bytes, int], int] = anycrc.Model(name).calc
    return step


def make_digest(algorithm: str) -> Digest:
    """Begin a digest; KeyError for an algorithm that does not exist."""
    if algorithm == "crc32":
        return _Crc(zlib.crc32, 4)
    if algorithm in _ANYCRC:
        name, size = _ANYCRC[algorithm]
        return _Crc(_table(name), size)
    hashes = {"md5": hashlib.md5, "sha1": hashlib.sha1, "sha256": hashlib.sha256}
    return hashes[algorithm](usedforsecurity=False)


def digest_of(algorithm: str, content: bytes) -> bytes:
    """Give the digest of something small."""
    digest = make_digest(algorithm)
    digest.update(content)
    return digest.digest()
