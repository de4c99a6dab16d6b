"""The default codecs of the containers with a model server of their own (data-plane.md section 9.2).

They differ from Flask's in CSV (``numpy.genfromtxt`` and ``numpy.savetxt``) and know sparse matrices in NPZ.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from .. import media
from ..media import UnsupportedFormatError

NPZ = "application/x-npz"


def decode(body: str | bytes, content_type: str | None) -> Any:
    """Make an array of a request's body; raises UnsupportedFormatError and what the decoders raise."""
    if content_type == media.CSV:
        return _from_csv(body if isinstance(body, str) else body.decode())
    if content_type == NPZ:
        return _from_npz(body if isinstance(body, bytes) else body.encode())
    return media.decode_array(body, str(content_type))


def encode(prediction: Any, accept: str) -> str | bytes:
    """Make a response's body; raises UnsupportedFormatError and what the encoders raise."""
    encoder = ENCODERS.get(accept)
    if encoder is None:
        raise UnsupportedFormatError(accept)
    return encoder(prediction)


def first_supported(accept: str) -> str:
    """Give the first media type of an Accept header that there is an encoder of; raises UnsupportedFormatError."""
    if accept in ENCODERS:
        return accept
    for entry in accept.replace(" ", "").split(","):
        if entry in ENCODERS:
            return entry
    raise UnsupportedFormatError(accept)


def _from_csv(text: str) -> Any:
    """Read numbers as ``numpy.genfromtxt`` does; a single row or column loses its dimension.

    Plain rows of numbers are read here, many times faster. Where that function would give records, because one column
    has whole numbers and another has not, all are floats here.
    """
    import numpy as np

    try:
        rows = [[float(cell) for cell in line.split(",")] for line in text.splitlines() if line.strip()]
    except ValueError:
        rows = []
    if not rows or any(len(row) != len(rows[0]) for row in rows):
        return np.genfromtxt(io.StringIO(text), dtype=None, delimiter=",", encoding="utf-8")
    return np.array(rows).squeeze()


def _from_npz(body: bytes) -> Any:
    import scipy.sparse

    return scipy.sparse.load_npz(io.BytesIO(body))  # scipy refuses pickles in it


def _to_csv(prediction: Any) -> str:
    """Write rows as ``numpy.savetxt`` does with ``%s``; plain numbers are written here, many times faster."""
    import numpy as np

    array = np.asarray(prediction)
    if array.ndim in {1, 2} and (array.dtype.kind in "iub" or array.dtype == np.float64):
        rows = array.tolist()
        if array.ndim == 1:
            return "".join(f"{value}\n" for value in rows)
        return "".join(",".join(map(str, row)) + "\n" for row in rows)
    stream = io.StringIO()
    np.savetxt(stream, array, delimiter=",", fmt="%s")
    return stream.getvalue()


ENCODERS: dict[str, Callable[[Any], str | bytes]] = {
    media.JSON: media.to_json,
    media.CSV: _to_csv,
    media.NPY: media.to_npy,
}
