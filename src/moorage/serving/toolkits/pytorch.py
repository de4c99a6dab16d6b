"""AWS's PyTorch container (data-plane.md section 9.5)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .. import media
from ..customer import Code
from ..handlers import Defaults, Handlers
from . import codecs
from .model_servers import ModelServerHandlers, body_limit, default_accept

_MODEL = "model.pt"


class ModelLoadError(Exception):
    """The model file is not TorchScript."""


def load(model_dir: str, environment: Mapping[str, str], code: Code, *, multi_model: bool) -> Handlers:  # noqa: ARG001
    """Load by the customer's model_fn, or the one TorchScript file of the folder; several models are served alike."""
    defaults = Defaults(model_fn=load_script, input_fn=decode, predict_fn=_Predict(), output_fn=encode)
    limit = body_limit(environment, "TS_MAX_REQUEST_SIZE")
    return ModelServerHandlers(code.load(), model_dir, default_accept(environment), defaults, body_bytes=limit)


def load_script(model_dir: str) -> Any:
    """Load ``model.pt``, or else the only file ending in .pt or .pth, which must be TorchScript."""
    import torch

    path = Path(model_dir, _MODEL)
    if not path.exists():
        names = sorted(entry.name for entry in Path(model_dir).iterdir() if _is_model(entry))
        if len(names) != 1:
            raise ValueError(f"Exactly one .pth or .pt file is required for PyTorch models: {names}")
        path = Path(model_dir, names[0])
    try:
        return torch.jit.load(os.fspath(path), map_location=_device()).to(_device())
    except RuntimeError as fault:
        raise ModelLoadError(f"Failed to load {path}. Please ensure model is saved using torchscript.") from fault


def decode(body: str | bytes, content_type: str) -> Any:
    """Make a tensor of a body: of floats where it was text, else of the array's own type."""
    import numpy as np
    import torch

    array = codecs.decode(body, content_type)
    if content_type in media.TEXT_TYPES:
        array = np.asarray(array, dtype=np.float32)
    return torch.from_numpy(array).to(_device())


class _Predict:
    """Calls the model without gradients; a model is made ready for that once."""

    __name__ = "predict_fn"

    def __init__(self) -> None:
        self._given: Any = None
        self._ready: Any = None

    def __call__(self, data: Any, model: Any) -> Any:
        import torch

        with torch.no_grad():
            if model is not self._given:
                self._ready, self._given = model.to(_device()), model
                self._ready.eval()
            return self._ready(data.to(_device()))


def encode(prediction: Any, accept: str) -> Any:
    """Encode for the first media type that is known; the answer's Content-Type stays what was asked for."""
    import torch

    if isinstance(prediction, Iterator):
        return prediction
    if isinstance(prediction, torch.Tensor):
        prediction = prediction.detach().cpu().numpy().tolist()
    return codecs.encode(prediction, codecs.first_supported(accept))


def _is_model(path: Path) -> bool:
    return path.is_file() and path.suffix in {".pt", ".pth"}


def _device() -> Any:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
