"""The manner of containers with a model server of their own: TorchServe (PyTorch) and the multi-model server (MMS).

AWS's ``sagemaker-inference`` toolkit runs the customer's functions there (data-plane.md sections 9.1 and 9.5). It
counts a function's parameters, says the Content-Type that was asked for word for word, and answers an exception with
its message and its traceback. What the servers themselves refuse is JSON.
"""

from __future__ import annotations

import inspect
import io
import json
import sys
import traceback
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from .. import media
from ..context import Context
from ..handlers import Defaults, Function, Handlers, clean, with_body, with_context
from ..pages import HEALTHY, Pages
from ..wire import Answer

BODY_BYTES = 6_553_500
"""Largest body of both servers, unless another is set."""

_ESCAPED = str.maketrans({character: f"\\u{ord(character):04x}" for character in "<>&='\u2028\u2029"})
"""What Gson, which both servers write JSON with, does not leave as it is inside of strings."""


def default_accept(environment: Mapping[str, str], otherwise: str = media.JSON) -> str:
    """Give what is answered to a request that does not say what it accepts."""
    return environment.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT") or otherwise


def body_limit(environment: Mapping[str, str], name: str, otherwise: int = BODY_BYTES, *, unit: int = 1) -> int:
    """Give the largest body in bytes, by a variable if it is set; raises ValueError for what is no number."""
    given = environment.get(name)
    return int(given) * unit if given else otherwise


def limit_of_several(environment: Mapping[str, str]) -> int:
    """Give the largest body where scikit-learn's and XGBoost's containers serve several models."""
    set_limit = body_limit(environment, "MAX_CONTENT_LENGTH", 6 * 1024**2)
    return body_limit(environment, "SAGEMAKER_MAX_REQUEST_SIZE", min(set_limit, 20 * 1024**2))


def refusal(status: int, message: str, kind: str = "InternalServerException") -> Answer:
    """Make the JSON that a model server answers errors with."""
    text = json.dumps(message, ensure_ascii=False).translate(_ESCAPED)
    body = f'{{\n  "code": {status},\n  "type": "{kind}",\n  "message": {text}\n}}\n'
    return Answer(status, media.JSON, body.encode("utf-8", "replace"))


SERVER_PAGES = Pages(
    ping=HEALTHY,
    missing=refusal(404, "Requested resource is not found, please refer to API document.", "ResourceNotFoundException"),
)


class Unserializable(Exception):
    """A result that the model server cannot send."""


class ModelServerHandlers(Handlers):
    """A loaded model and the functions that use it, in the manner of ``sagemaker-inference``."""

    pages = SERVER_PAGES
    both_ways = (
        "Cannot use transform_fn implementation in conjunction with input_fn, predict_fn, and/or output_fn "
        "implementation"
    )

    def _load(self, module: ModuleType | None, defaults: Defaults) -> Any:
        context = Context(self._model_dir, {})
        pre_model_fn = getattr(module, "pre_model_fn", None)
        if pre_model_fn is not None:
            self._bind(pre_model_fn, 1)(context, self._model_dir)
        model = super()._load(module, defaults)
        model_warmup_fn = getattr(module, "model_warmup_fn", None)
        if model_warmup_fn is not None:
            self._bind(model_warmup_fn, 2)(context, self._model_dir, model)
        return model

    def _wants_context(self, function: Function, parameters: int) -> bool:
        return _count_parameters(function, otherwise=parameters) == parameters + 1

    def _bind(self, function: Function, parameters: int) -> Function:
        count = _count_parameters(function, otherwise=parameters)
        if count in {parameters, parameters + 1}:
            return with_context(function, wants=count == parameters + 1)
        name = getattr(function, "__name__", type(function).__name__)

        def refuse(*_arguments: Any) -> Any:
            raise TypeError(f"{name} takes {count} arguments but {parameters} were given.")

        return refuse

    def _content_type_of(self, headers: Mapping[str, str]) -> str | None:
        return headers.get("content-type") or headers.get("contenttype")

    def _as_text(self, body: bytes) -> str:
        return body.decode()

    def _as_answer(self, result: Any, accept: str) -> Answer:
        if isinstance(result, tuple) and len(result) >= 2:
            result, accept = result[0], str(result[1])
        return with_body(_serialized(result), clean(accept))

    def _failed(self, fault: BaseException) -> Answer:
        """Answer with the message and the traceback; an error of the toolkit's own kind brings its status."""
        if isinstance(fault, Unserializable):
            return refusal(503, "Unsupported model output data type.")
        status, message = 500, str(fault) or "Invalid Request"
        if {"status_code", "message", "phrase"} <= set(dir(fault)):  # sagemaker_inference.errors, real or lookalike
            status, message = int(fault.status_code), str(fault.message)  # type: ignore[attr-defined]
        trace = "".join(traceback.format_exception(type(fault), fault, fault.__traceback__))
        return Answer(status, "", f"{message}\n{trace}".encode("utf-8", "replace"))

    def _too_large(self) -> Answer:
        message = f"The request's body is larger than {self._body_bytes} bytes."
        return refusal(413, message, "RequestEntityTooLargeException")


def _count_parameters(function: Function, *, otherwise: int) -> int:
    try:
        return len(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # built-in functions need not have a signature
        return otherwise


def _serialized(result: Any) -> Any:
    """Give what the model server sends of a result: bytes and text as they are, tensors saved, the rest as JSON."""
    if isinstance(result, (str, bytes, bytearray, Iterator)):
        return result
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(result, torch.Tensor):
        stream = io.BytesIO()
        torch.save(result, stream)
        return stream.getvalue()
    try:
        return json.dumps(result, indent=2)
    except TypeError as fault:
        raise Unserializable(str(fault)) from fault
