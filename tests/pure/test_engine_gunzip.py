"""What is in gzip streams, however they are cut into pieces."""

import gzip
import zlib
from collections.abc import Iterator
from random import Random

import pytest

from moorage.engine.sources.gunzip import PIECE_BYTES, GzipDamaged, gunzip

CONTENT = Random(1).randbytes(300_000) + bytes(3_000_000) + b"end"
PACKED = gzip.compress(CONTENT, mtime=0)


def cut(content: bytes, size: int) -> Iterator[bytes]:
    return (content[start : start + size] for start in range(0, len(content), size))


@pytest.mark.parametrize("size", [1, 7, 1000, 65_536, 10**9])
def test_all_of_it_comes_in_bounded_pieces(size: int) -> None:
    pieces = list(gunzip(cut(PACKED, size)))
    assert b"".join(pieces) == CONTENT
    assert max(map(len, pieces)) <= PIECE_BYTES


@pytest.mark.parametrize("size", [1, 1000, 10**9])
def test_members_follow_each_other_and_zeros_are_padding(size: int) -> None:
    whole = gzip.compress(b"a" * 5000) + gzip.compress(b"") + bytes(100) + gzip.compress(b"b") + bytes(10_000)
    assert b"".join(gunzip(cut(whole, size))) == b"a" * 5000 + b"b"


def test_content_that_fills_pieces_exactly_is_whole() -> None:
    for size in (PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES):
        packed = gzip.compress(bytes(size))
        assert sum(map(len, gunzip(cut(packed, 100)))) == size


@pytest.mark.parametrize("size", [1, 1000, 10**9])
@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        PACKED[:5],
        PACKED[:-1],
        PACKED[: len(PACKED) // 2],
        PACKED[:-8] + bytes(4) + PACKED[-4:],
        PACKED[:-4] + b"abcd",
        PACKED[:50_000] + b"\xff" * 100 + PACKED[50_100:],
        PACKED + b"garbage",
        PACKED + PACKED[:-1],
        zlib.compress(CONTENT),
    ],
    ids=[
        "nothing",
        "part of its head",
        "without its last byte",
        "half",
        "wrong checksum",
        "wrong length",
        "changed inside",
        "with garbage behind",
        "with half a member behind",
        "not gzip",
    ],
)
def test_damage_is_told(damaged: bytes, size: int) -> None:
    with pytest.raises(GzipDamaged):
        for _ in gunzip(cut(damaged, size)):
            pass
