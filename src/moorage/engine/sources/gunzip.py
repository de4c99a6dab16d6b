"""What is in a gzip stream, a bounded piece at a time, whatever it claims to be."""

import zlib
from collections.abc import Iterable, Iterator

PIECE_BYTES = 2**20
_WITH_HEADER = 31
"""zlib's word for gzip: header, contents and the checksum behind them."""


def gunzip(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Give what is in a gzip stream of one or several members.

    Zeros behind it are padding. Raises EOFError when it ends early, zlib.error when it is damaged.
    """
    inflater = zlib.decompressobj(_WITH_HEADER)
    ended = False
    for piece in pieces:
        rest = piece
        while rest:
            if ended:
                rest = rest.lstrip(b"\0")
                if not rest:
                    break
                inflater, ended = zlib.decompressobj(_WITH_HEADER), False
            plain = inflater.decompress(rest, PIECE_BYTES)
            if plain:
                yield plain
            ended = inflater.eof
            rest = inflater.unused_data if ended else inflater.unconsumed_tail
        # What fills a piece of output exactly may leave some inside.
        while not ended and (plain := inflater.decompress(b"", PIECE_BYTES)):
            yield plain
            ended = inflater.eof
    if not ended:
        raise EOFError("it ends before its gzip stream does")
