"""Encryption of folders by the file system itself (fscrypt, policies of version 2), by the kernel's calls.

Contents and names below such a folder are on the disk only as ciphertext: AES-256 in the modes XTS and CTS. The key is
in the kernel's memory from ``add_key`` to ``remove_key`` or to the unmounting. What the disk tells without the key is
how many files there are and how large, and when they were changed.
"""

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KEY_BYTES = 32

_ADD_KEY, _REMOVE_KEY, _SET_POLICY = 0xC0506617, 0xC0406618, 0x800C6613
_BY_IDENTIFIER = 2
_KEY = struct.Struct("=II32s")
"""``struct fscrypt_key_specifier`` of linux/fscrypt.h."""
_POLICY = struct.Struct("=BBBBBBBB16s")
_AES_256_XTS, _AES_256_CTS, _NAMES_PADDED_TO_32 = 1, 4, 3
_IDENTIFIER = slice(8, 24)
_STATUS = struct.Struct("=40xI20x")


def add_key(mounted: Path, key: bytes) -> bytes:
    """Give a mounted file system a key; gives the key's identifier, which is no secret. Raises OSError."""
    argument = bytearray(_KEY.pack(_BY_IDENTIFIER, 0, b"") + struct.pack("=II32x", len(key), 0) + key)
    with _opened(mounted) as descriptor:
        fcntl.ioctl(descriptor, _ADD_KEY, argument)
    return bytes(argument[_IDENTIFIER])


def encrypt(folder: Path, identifier: bytes) -> None:
    """Encrypt all that will be in an empty folder; raises OSError."""
    policy = _POLICY.pack(2, _AES_256_XTS, _AES_256_CTS, _NAMES_PADDED_TO_32, 0, 0, 0, 0, identifier)
    with _opened(folder) as descriptor:
        fcntl.ioctl(descriptor, _SET_POLICY, policy)


def remove_key(mounted: Path, identifier: bytes) -> bool:
    """Take the key out of the kernel; False while files are still open, which can be read as long. Raises OSError."""
    argument = bytearray(_KEY.pack(_BY_IDENTIFIER, 0, identifier) + bytes(24))
    with _opened(mounted) as descriptor:
        fcntl.ioctl(descriptor, _REMOVE_KEY, argument)
    (files_busy,) = _STATUS.unpack(argument)
    return not files_busy


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
