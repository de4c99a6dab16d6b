"""What is in a gzip stream, a bounded piece at a time, whatever it claims to be.

ISA-L (the extra ``moorage[fast]``) is used where it is installed: on the weights of models, which hardly compress, it
is twice as fast as zlib, and inflating is what a download of an archive waits for.
"""

import importlib
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

PIECE_BYTES = 2**20
_WITH_HEADER = 31
"""zlib's word for gzip: header, contents and the checksum behind them."""


class GzipDamaged(Exception):
    """The stream is damaged, or ends early; the text says how."""


@dataclass(frozen=True, slots=True)
class Inflating:
    """A library that inflates."""

    make: Callable[[int], Any]
    """Its ``decompressobj``, which takes the number of bits."""
    fault: type[Exception]
    """What it raises."""


ZLIB = Inflating(zlib.decompressobj, zlib.error)


def find_isal() -> Inflating | None:
    """Give ISA-L where it is installed."""
    try:
        found = importlib.import_module("isal.isal_zlib")
    except ImportError:
        return None
    return Inflating(found.decompressobj, found.error)


BEST = find_isal() or ZLIB


def gunzip(pieces: Iterable[bytes], inflating: Inflating = BEST) -> Iterator[bytes]:
    """Give what is in a gzip stream of one or several members; zeros behind it are padding. Raises GzipDamaged."""
    inflater = inflating.make(_WITH_HEADER)
    ended = False
    try:
        for piece in pieces:
            rest = piece
            while rest:
                if ended:
                    rest = rest.lstrip(b"\0")
                    if not rest:
                        break
                    inflater, ended = inflating.make(_WITH_HEADER), False
                if plain := inflater.decompress(rest, PIECE_BYTES):
                    yield plain
                ended = inflater.eof
                rest = inflater.unused_data if ended else inflater.unconsumed_tail
            # What fills a piece of output exactly may leave some inside.
            while not ended and (plain := inflater.decompress(b"", PIECE_BYTES)):
                yield plain
                ended = inflater.eof
    except inflating.fault as fault:
        raise GzipDamaged(" ".join(str(fault).split()).rstrip(".")) from fault
    if not ended:
        raise GzipDamaged("it ends before its gzip stream does")
