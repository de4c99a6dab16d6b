"""AWS's scikit-learn container (data-plane.md section 9.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import media
from ..customer import Code
from ..handlers import NO_MODEL_FN, Defaults, Handlers
from . import codecs
from .model_servers import ModelServerHandlers, default_accept, limit_of_several


def load(model_dir: str, environment: Mapping[str, str], code: Code, *, multi_model: bool) -> Handlers:
    """Load by the customer's model_fn, which must be there."""
    module = code.require(NO_MODEL_FN)
    accept = default_accept(environment)
    if multi_model:
        defaults = Defaults(input_fn=_decode_rows, output_fn=_encode)
        return ModelServerHandlers(module, model_dir, accept, defaults, body_bytes=limit_of_several(environment))
    return Handlers(module, model_dir, accept)


def _decode_rows(body: str | bytes, content_type: str) -> Any:
    """Make an array as the container does that serves several models: there one row stays a row."""
    import numpy as np

    array = codecs.decode(body, content_type)
    if array.ndim == 1:
        array = array.reshape(1, -1)
    return array.astype(np.float32) if content_type in media.TEXT_TYPES else array


def _encode(prediction: Any, accept: str) -> tuple[Any, str]:
    return codecs.encode(prediction, accept), accept
