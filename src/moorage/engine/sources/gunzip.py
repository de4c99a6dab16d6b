"""What is in a gzip stream, a bounded piece at a time, whatever it claims to be.

ISA-L inflates: on the weights of models, which hardly compress, it is twice as fast as zlib, and inflating is what a
download of an archive waits for.
"""

from collections.abc import Iterable, Iterator

from isal import isal_zlib

PIECE_BYTES = 2**20
_WITH_HEADER = 31
"""zlib's word for gzip: header, contents and the checksum behind them."""


class GzipDamaged(Exception):
    """The stream is damaged, or ends early; the text says how."""


def gunzip(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Give what is in a gzip stream of one or several members; zeros behind it are padding. Raises GzipDamaged."""
    inflater = isal_zlib.decompressobj(_WITH_HEADER)
    ended = False
    try:
        for piece in pieces:
            rest = piece
            while rest:
                if ended:
                    rest = rest.lstrip(b"\0")
                    if not rest:
                        break
                    inflater, ended = isal_zlib.decompressobj(_WITH_HEADER), False
                if plain := inflater.decompress(rest, PIECE_BYTES):
                    yield plain
                ended = inflater.eof
                rest = inflater.unused_data if ended else inflater.unconsumed_tail
            # What fills a piece of output exactly may leave some inside.
            while not ended and (plain := inflater.decompress(b"", PIECE_BYTES)):
                yield plain
                ended = inflater.eof
    except isal_zlib.error as fault:  # type: ignore[misc]  # its stub gives an instance of the class
        raise GzipDamaged(" ".join(str(fault).split()).rstrip(".")) from fault
    if not ended:
        raise GzipDamaged("it ends before its gzip stream does")
