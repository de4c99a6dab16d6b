"""The image ``moorage/python``: an ``inference.py`` and nothing else, not even NumPy."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from .. import media
from ..customer import Code
from ..handlers import Defaults, Handlers
from .model_servers import default_accept
from .neutral import BadRequest, NeutralHandlers, media_type_of

NO_FUNCTION = "Write transform_fn, or predict_fn and what it needs of model_fn, input_fn and output_fn."


def load(model_dir: str, environment: Mapping[str, str], code: Code, *, multi_model: bool) -> Handlers:  # noqa: ARG001
    """Load by the customer's model_fn if there is one; several models are served alike."""
    module = code.require(f"The image moorage/python has a module inference with the model's functions. {NO_FUNCTION}")
    if not hasattr(module, "transform_fn") and not hasattr(module, "predict_fn"):
        raise NotImplementedError(f"{module.__file__} has neither transform_fn nor predict_fn. {NO_FUNCTION}")
    defaults = Defaults(model_fn=_no_model, input_fn=decode, predict_fn=_no_model, output_fn=encode)
    return NeutralHandlers(module, model_dir, default_accept(environment, "*/*"), defaults)


def decode(body: str | bytes, content_type: str) -> Any:
    """Read JSON; other text stays text, and the rest bytes."""
    media_type = media_type_of(content_type)
    if media_type == media.JSON:
        try:
            return json.loads(body)
        except ValueError as fault:
            raise BadRequest(f"The body is not JSON: {fault}.") from fault
    if media_type.startswith("text/") and isinstance(body, bytes):
        try:
            return body.decode()
        except UnicodeDecodeError as fault:
            raise BadRequest(f"The body is not text in UTF-8: {fault}.") from fault
    return body


def encode(prediction: Any, accept: str) -> tuple[Any, str]:
    """Send bytes and text as they are, as what was asked for; anything else as JSON."""
    if isinstance(prediction, (bytes, bytearray, memoryview, Iterator)):
        return prediction, _first(accept) or "application/octet-stream"
    if isinstance(prediction, str):
        return prediction, _first(accept) or "text/plain"
    return media.to_json(prediction), media.JSON


def _first(accept: str) -> str:
    """Give what was asked for first, unless it is a range."""
    first = accept.partition(",")[0].partition(";")[0].strip()
    return "" if "*" in first else first


def _no_model(*_arguments: Any) -> None:
    return None
