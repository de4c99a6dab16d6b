"""What AWS's containers have installed beside the framework, as far as public handlers import it.

``from sagemaker_containers.beta.framework import encoders, worker`` is in many an ``inference.py``. These modules are
found only where the package itself is not installed, and have the functions that handlers call, over this server's own
codecs. What is not here says so, and can be had by ``requirements.txt``.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from . import media

_Members = Mapping[str, Any]

_FRAMEWORK = "sagemaker_containers.beta.framework"
_INFERENCE = "sagemaker_inference"
_XGBOOST = "sagemaker_xgboost_container"
_HUGGING_FACE = "sagemaker_huggingface_inference_toolkit"


def install() -> None:
    """Let the modules be imported from now on, by whoever finds none of that name anywhere else."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module of this list."""
        if fullname not in _MODULES:
            return None
        return ModuleSpec(fullname, _Loader(), is_package=any(name.startswith(f"{fullname}.") for name in _MODULES))


class _Loader(Loader):
    def exec_module(self, module: ModuleType) -> None:
        """Fill a module with its members."""
        vars(module).update(_MODULES[module.__name__]())
        package = module.__name__.partition(".")[0].replace("_", "-")

        def missing(name: str) -> Any:
            if f"{module.__name__}.{name}" in _MODULES:  # as though the package had imported its modules
                return importlib.import_module(f"{module.__name__}.{name}")
            raise AttributeError(
                f"Moorage's stand-in for {module.__name__} has no {name}; add {package} to code/requirements.txt."
            )

        module.__getattr__ = missing  # type: ignore[method-assign]  # PEP 562


class Response:
    """What a function may return in place of a body and its type: a body, a status and headers."""

    def __init__(
        self,
        response: Any = None,
        accept: str | None = None,  # noqa: ARG002 - ignored there too
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        mimetype: str | None = None,
    ) -> None:
        self.status_code = int(status)
        self.headers = {"Content-Type": media.with_charset(mimetype or media.JSON), **(headers or {})}
        self._body = b"" if response is None else response

    def get_data(self) -> Any:
        """Give the body."""
        return self._body


class BaseInferenceToolkitError(Exception):
    """An error that brings the status of its answer."""

    def __init__(self, status_code: int, message: str, phrase: str) -> None:
        self.status_code = status_code
        self.message = message
        self.phrase = phrase
        super().__init__(status_code, message, phrase)


class GenericInferenceToolkitError(BaseInferenceToolkitError):
    """An error with as much as is known of it."""

    def __init__(self, status_code: int, message: str | None = None, phrase: str | None = None) -> None:
        message = message or "Invalid Request"
        super().__init__(status_code, message, phrase or message)


class PredictionException(Exception):
    """What the multi-model server answers with a status of its own."""

    def __init__(self, message: str, error_code: int = 500) -> None:
        self.message = message
        self.error_code = error_code
        super().__init__(message)

    def __str__(self) -> str:
        return f"{self.message} : {self.error_code}"


class _InferenceHandler:
    """The default functions of ``sagemaker-inference``, to be derived from."""

    def default_input_fn(self, input_data: Any, content_type: str, context: Any = None) -> Any:  # noqa: ARG002
        """Decode a body."""
        return _codecs().decode(input_data, content_type)

    def default_output_fn(self, prediction: Any, accept: str, context: Any = None) -> Any:  # noqa: ARG002
        """Encode a prediction; gives the body and its media type."""
        media_type = _codecs().first_supported(accept)
        return _codecs().encode(prediction, media_type), media_type


def _codecs() -> Any:
    return importlib.import_module(".toolkits.codecs", __package__)


def _nothing() -> _Members:
    return {}


def _content_types() -> _Members:
    return {
        "JSON": media.JSON,
        "CSV": media.CSV,
        "NPY": media.NPY,
        "NPZ": "application/x-npz",
        "OCTET_STREAM": "application/octet-stream",
        "ANY": "*/*",
        "UTF8_TYPES": [media.JSON, media.CSV],
    }


def _flask_encoders() -> _Members:
    return {
        "encode": media.encode,
        "decode": media.decode_array,
        "array_to_json": media.to_json,
        "array_to_csv": media.to_csv,
        "array_to_npy": media.to_npy,
        "json_to_numpy": lambda text: media.decode_array(text, media.JSON),
        "csv_to_numpy": lambda text: media.decode_array(text, media.CSV),
        "npy_to_numpy": lambda data: media.decode_array(data, media.NPY),
    }


def _errors() -> _Members:
    return {
        "UnsupportedFormatError": media.UnsupportedFormatError,
        "BaseInferenceToolkitError": BaseInferenceToolkitError,
        "GenericInferenceToolkitError": GenericInferenceToolkitError,
    }


def _utils() -> _Members:
    return {
        "parse_accept": lambda accept: accept.replace(" ", "").split(","),
        "retrieve_content_type_header": lambda headers: headers.get("content-type") or headers.get("contenttype"),
    }


def _xgboost_encoder() -> _Members:
    data = importlib.import_module(".toolkits.xgboost_data", __package__)

    def on_text(make: Callable[[str], Any]) -> Callable[[Any], Any]:
        return lambda body, *_dtype: make(body if isinstance(body, str) else bytes(body).decode())

    csv, libsvm = on_text(data.from_csv), on_text(data.from_dense_libsvm)
    by_type = {"text/csv": csv, "text/libsvm": libsvm, "text/x-libsvm": libsvm}

    def decode(body: Any, content_type: str) -> Any:
        media_type = data.parse_header(content_type)[0]
        if media_type not in by_type:
            raise media.UnsupportedFormatError(media_type)
        return by_type[media_type](body)

    return {"csv_to_dmatrix": csv, "libsvm_to_dmatrix": libsvm, "decode": decode}


def _hugging_face_codecs() -> _Members:
    codecs = importlib.import_module(".toolkits.huggingface_codecs", __package__)
    return {
        "decode": lambda content, content_type=media.JSON: codecs.decode(content, content_type),
        "encode": lambda content, accept_type=media.JSON: codecs.encode(content, accept_type),
    }


_MODULES: dict[str, Callable[[], _Members]] = {
    "sagemaker_containers": _nothing,
    "sagemaker_containers.beta": _nothing,
    _FRAMEWORK: _nothing,
    f"{_FRAMEWORK}.content_types": _content_types,
    f"{_FRAMEWORK}.encoders": _flask_encoders,
    f"{_FRAMEWORK}.env": _nothing,
    f"{_FRAMEWORK}.errors": _errors,
    f"{_FRAMEWORK}.modules": _nothing,
    f"{_FRAMEWORK}.server": _nothing,
    f"{_FRAMEWORK}.transformer": _nothing,
    f"{_FRAMEWORK}.worker": lambda: {"Response": Response},
    _INFERENCE: _nothing,
    f"{_INFERENCE}.content_types": _content_types,
    f"{_INFERENCE}.decoder": lambda: {"decode": _codecs().decode},
    f"{_INFERENCE}.default_inference_handler": lambda: {"DefaultInferenceHandler": _InferenceHandler},
    f"{_INFERENCE}.encoder": lambda: {"encode": _codecs().encode, "SUPPORTED_CONTENT_TYPES": set(_codecs().ENCODERS)},
    f"{_INFERENCE}.errors": _errors,
    f"{_INFERENCE}.utils": _utils,
    _XGBOOST: _nothing,
    f"{_XGBOOST}.encoder": _xgboost_encoder,
    _HUGGING_FACE: _nothing,
    f"{_HUGGING_FACE}.content_types": _content_types,
    f"{_HUGGING_FACE}.decoder_encoder": _hugging_face_codecs,
    "mms": _nothing,
    "mms.service": lambda: {"PredictionException": PredictionException},
}
"""What can be imported, and what makes its members."""
