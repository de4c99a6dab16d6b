"""AWS's XGBoost container (data-plane.md section 9.4): in script mode, or without code by the built-in algorithm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import media
from ..customer import Code
from ..handlers import NO_MODEL_FN, Defaults, Handlers
from . import codecs, xgboost_data
from .model_servers import ModelServerHandlers, default_accept, limit_of_several
from .xgboost_algorithm import Algorithm, AlgorithmOfSeveral


def load(model_dir: str, environment: Mapping[str, str], code: Code, *, multi_model: bool) -> Handlers:
    """Load by the customer's model_fn if SAGEMAKER_PROGRAM names code, otherwise the model files of the folder."""
    if not code.program:
        return (AlgorithmOfSeveral if multi_model else Algorithm)(model_dir, environment)
    module = code.require(NO_MODEL_FN)
    accept = default_accept(environment)
    if multi_model:
        defaults = Defaults(input_fn=_decode, predict_fn=_predict, output_fn=_encode)
        return ModelServerHandlers(module, model_dir, accept, defaults, body_bytes=limit_of_several(environment))
    return Handlers(module, model_dir, accept, Defaults(input_fn=_decode, predict_fn=_predict))


def _decode(body: str | bytes, content_type: str) -> Any:
    """Make a DMatrix of a body, whose media type may have parameters."""
    media_type = xgboost_data.parse_header(str(content_type))[0]
    decoder = _DECODERS.get(media_type)
    if decoder is None:
        raise media.UnsupportedFormatError(media_type)
    return decoder(body if isinstance(body, str) else body.decode())


def _predict(data: Any, model: Any) -> Any:
    return model.predict(data, validate_features=False)


def _encode(prediction: Any, accept: str) -> Any:
    return codecs.encode(prediction, accept)


_DECODERS = {
    media.CSV: xgboost_data.from_csv,
    "text/libsvm": xgboost_data.from_dense_libsvm,
    "text/x-libsvm": xgboost_data.from_dense_libsvm,
}
