"""The default codecs of AWS's scikit-learn container (data-plane.md sections 9.2 and 9.3).

Media types match by exact string: ``text/csv; charset=utf-8`` is unsupported there and so it is here. Only pickled
arrays in NPY are refused where older images load them: they would run the client's code.

NumPy is imported where it is used: the process that is forked into instances decides what is preloaded.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

JSON = "application/json"
CSV = "text/csv"
NPY = "application/x-npy"
HTML = "text/html; charset=utf-8"

TEXT_TYPES = frozenset({JSON, CSV})
"""Bodies of these types are given to ``input_fn`` as text, all others as bytes."""

_CHARSET_TYPES = frozenset({"application/xml", "application/javascript", "application/xml-dtd"})


class UnsupportedFormatError(Exception):
    """A media type that the default functions do not know; the words and their indentation are AWS's."""

    __module__ = "builtins"  # so that its name is said without this package's

    def __init__(self, media_type: str) -> None:
        super().__init__(
            f"Content type {media_type} is not supported by this framework.\n\n"
            "            Please implement input_fn to to deserialize the request data or an output_fn to\n"
            "            serialize the response. For more information, see the SageMaker Python SDK README."
        )


def decode(body: str | bytes, content_type: str) -> Any:
    """Make an array of a request's body, as ``input_fn`` of the container does: text types become float32."""
    import numpy as np

    array = decode_array(body, content_type)
    return array.astype(np.float32) if content_type in TEXT_TYPES else array


def decode_array(body: str | bytes, content_type: str) -> Any:
    """Make an array of a body, of the type that its values have; raises UnsupportedFormatError."""
    decoder = _DECODERS.get(content_type)
    if decoder is None:
        raise UnsupportedFormatError(content_type)
    return decoder(body)


def encode(prediction: Any, accept: str) -> str | bytes:
    """Make a response's body of a prediction, as ``output_fn`` of the container does."""
    encoder = _ENCODERS.get(accept)
    if encoder is None:
        raise UnsupportedFormatError(accept)
    return encoder(prediction)


def with_charset(media_type: str) -> str:
    """Give the Content-Type that Flask makes of a bare media type: text has its charset named."""
    named = "charset=" in media_type
    wants = media_type.startswith("text/") or media_type in _CHARSET_TYPES or media_type.endswith("+xml")
    return f"{media_type}; charset=utf-8" if wants and not named else media_type


def _from_json(body: str | bytes) -> Any:
    import numpy as np

    return np.array(json.loads(body))


def _from_csv(body: str | bytes) -> Any:
    """Read rows of numbers; a single row or column loses its dimension, as in the container."""
    import numpy as np

    text = body if isinstance(body, str) else body.decode("utf-8", "replace")
    rows = csv.reader(io.StringIO(text), strict=True)
    return np.array([[float(cell) for cell in row] for row in rows]).squeeze()


def _from_npy(body: str | bytes) -> Any:
    import numpy as np

    return np.load(io.BytesIO(body if isinstance(body, bytes) else body.encode()), allow_pickle=False)


def _plain_values(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


_JSON_ENCODER = json.JSONEncoder(default=_plain_values)


def to_json(prediction: Any) -> str:
    """Write JSON; arrays become lists."""
    return _JSON_ENCODER.encode(prediction)


def to_csv(prediction: Any) -> str:
    """Write rows of CSV; one dimension becomes one column."""
    import numpy as np

    array = np.array(prediction)
    if array.ndim == 1:
        array = array.reshape(-1, 1)
    stream = io.StringIO()
    # Python's numbers are written fast and with the same digits, except those of shorter floats.
    fast = array.ndim == 2 and (array.dtype.kind in "iub" or array.dtype == np.float64)
    csv.writer(stream, lineterminator="\n", strict=True).writerows(array.tolist() if fast else array)
    return stream.getvalue()


def to_npy(prediction: Any) -> bytes:
    """Write NumPy's format of one array."""
    import numpy as np

    stream = io.BytesIO()
    np.save(stream, prediction)
    return stream.getvalue()


_DECODERS: dict[str, Callable[[str | bytes], Any]] = {JSON: _from_json, CSV: _from_csv, NPY: _from_npy}
_ENCODERS: dict[str, Callable[[Any], str | bytes]] = {JSON: to_json, CSV: to_csv, NPY: to_npy}
