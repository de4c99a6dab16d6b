"""What the Hugging Face container reads and writes: JSON, CSV with a header, NPY, images and sound (section 9.6)."""

from __future__ import annotations

import base64
import csv
import datetime as dt
import io
import json
from collections.abc import Iterator
from typing import Any

from .. import media
from ..media import UnsupportedFormatError

_IMAGES = frozenset(f"image/{name}" for name in ("jpeg", "png", "tiff", "bmp", "gif", "webp", "x-image"))
_SOUNDS = frozenset(f"audio/{name}" for name in ("x-flac", "mpeg", "wave", "ogg", "x-audio"))
_HEADERS = ("question", "context", "inputs")


class MissingHeader(Exception):
    """Rows of CSV whose columns have no names; the text ends as the multi-model server's of it does."""

    def __init__(self) -> None:
        super().__init__(
            "You need to provide the correct CSV with Header columns to use it with the inference toolkit default "
            "handler. : 400"
        )


def decode(body: str | bytes, content_type: str | None) -> Any:
    """Make of a body what ``predict`` takes; raises UnsupportedFormatError and what the decoders raise."""
    if content_type == media.JSON:
        return json.loads(body)
    if content_type == media.CSV:
        return _from_csv(body if isinstance(body, str) else body.decode())
    if content_type == media.NPY:
        return media.decode_array(body, media.NPY)
    data = body if isinstance(body, bytes) else body.encode()
    if content_type in _IMAGES:
        from PIL import Image

        return {"inputs": Image.open(io.BytesIO(data)).convert("RGB")}
    if content_type in _SOUNDS:
        return {"inputs": data}
    raise UnsupportedFormatError(str(content_type))


def encode(prediction: Any, accept: str) -> Any:
    """Make a body of what a pipeline gave; raises UnsupportedFormatError and what the encoders raise."""
    if isinstance(prediction, Iterator):
        return prediction
    if accept == media.JSON:
        return _JSON.encode(prediction)
    if accept == media.CSV:
        return _to_csv(prediction)
    if accept == media.NPY:
        return media.to_npy(prediction)
    if accept in _IMAGES:
        return _to_image(prediction, "PNG" if accept == "image/x-image" else accept.partition("/")[2].upper())
    raise UnsupportedFormatError(accept)


def _from_csv(text: str) -> dict[str, Any]:
    first = text.splitlines()[0].lower()
    if not any(name in first for name in _HEADERS):
        raise MissingHeader
    rows = list(csv.DictReader(io.StringIO(text)))
    return {"inputs": [row["inputs"] for row in rows] if "inputs" in rows[0] else rows}


def _to_csv(prediction: Any) -> str:
    rows = prediction if isinstance(prediction, list) else list(prediction)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _to_image(image: Any, name: str) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=name)
    return stream.getvalue()


def _plain_value(value: Any) -> Any:
    """Give JSON's form of what pipelines have in their results; raises TypeError."""
    if hasattr(value, "tolist"):  # numbers and arrays of NumPy, tensors
        return value.tolist()
    if isinstance(value, dt.datetime):
        return str(value)
    if hasattr(value, "save") and hasattr(value, "getbands"):  # an image of Pillow
        return base64.b64encode(_to_image(value, "PNG")).decode()
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain_value)
