"""Long content, encrypted in frames: written as it comes, and read from any place.

    SALT (16 bytes), then frames: up to 64 KiB of content, encrypted, and a tag of 16 bytes

The key of a content is derived of the data key and the salt, so a data key may be used for many contents. The nonce of
a frame is its number and whether it is the last (the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár):
frames that are left out, moved or cut off at the end are noticed. There is always a last frame, which may be empty.
"""

import secrets
from collections.abc import Iterator

from moorage.kms import cipher
from moorage.kms.faults import InvalidCiphertext

FRAME_BYTES = 65_536
"""Of content in one frame."""

_SEALED_BYTES = FRAME_BYTES + cipher.TAG_BYTES


class FrameSealer:
    """Encrypts one content."""

    def __init__(self, data_key: bytes) -> None:
        salt = secrets.token_bytes(cipher.SALT_BYTES)
        self._key = cipher.derive(data_key, salt)
        self._head = salt
        """What must stand before the frames and has not been given yet."""
        self._pending = b""
        self._number = 0

    def feed(self, content: bytes) -> bytes:
        """Take further content; gives the frames that are full. The last one waits until ``finish``."""
        content = self._pending + content if self._pending else content
        view, end = memoryview(content), max(0, len(content) - 1) // FRAME_BYTES * FRAME_BYTES
        frames = [self._take_head()]
        frames += [self._frame(view[start : start + FRAME_BYTES], last=False) for start in range(0, end, FRAME_BYTES)]
        self._pending = bytes(view[end:])
        return b"".join(frames)

    def finish(self) -> bytes:
        """Give the last frame."""
        return self._take_head() + self._frame(memoryview(self._pending), last=True)

    def _take_head(self) -> bytes:
        head, self._head = self._head, b""
        return head

    def _frame(self, content: memoryview, *, last: bool) -> bytes:
        sealed = cipher.seal(self._key, _nonce(self._number, last=last), content, b"")
        self._number += 1
        return sealed


class FrameOpener:
    """Decrypts one content whose size is known."""

    def __init__(self, data_key: bytes, head: bytes, size: int) -> None:
        """``head`` is what the file begins with, ``size`` that of the content."""
        self._key = cipher.derive(data_key, head)
        self._size = size
        self._last = max(0, size - 1) // FRAME_BYTES

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Say which bytes of the file hold a piece of content: the first one, and the one behind the last."""
        first, last = start // FRAME_BYTES, max(start, end - 1) // FRAME_BYTES
        return HEAD_BYTES + first * _SEALED_BYTES, min(HEAD_BYTES + (last + 1) * _SEALED_BYTES, sealed_size(self._size))

    def open(self, sealed: bytes, start: int, end: int) -> bytes:
        """Decrypt the piece of content whose ``span`` this is; raises InvalidCiphertext."""
        first = start // FRAME_BYTES
        content = b"".join(self._frames(sealed, first))
        begin = first * FRAME_BYTES
        if len(content) < end - begin:
            raise InvalidCiphertext("The encrypted content is shorter than it was.")
        return content[start - begin : end - begin]

    def _frames(self, sealed: bytes, first: int) -> Iterator[bytes]:
        view = memoryview(sealed)
        for number, at in enumerate(range(0, len(sealed), _SEALED_BYTES), start=first):
            nonce = _nonce(number, last=number == self._last)
            yield cipher.unseal(self._key, nonce, view[at : at + _SEALED_BYTES], b"")


HEAD_BYTES = cipher.SALT_BYTES


def sealed_size(size: int) -> int:
    """Give the size of the file of a content."""
    frames = max(1, -(-size // FRAME_BYTES))
    return HEAD_BYTES + size + frames * cipher.TAG_BYTES


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(cipher.NONCE_BYTES - 1, "big") + (b"\x01" if last else b"\x00")
