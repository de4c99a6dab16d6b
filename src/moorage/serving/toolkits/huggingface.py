"""AWS's Hugging Face container with the multi-model server (data-plane.md section 9.6): pipelines of ``transformers``.

Every exception of an invocation is 400 there, also the server's own faults, and so it is here.
"""

from __future__ import annotations

import inspect
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from .. import media
from ..customer import Code
from ..handlers import Defaults, Function, Handlers, with_context
from ..wire import Answer
from . import huggingface_codecs
from .model_servers import BODY_BYTES, ModelServerHandlers, body_limit, refusal

_TASKS = {
    "TapasForQuestionAnswering": "table-question-answering",
    "ForQuestionAnswering": "question-answering",
    "ForTokenClassification": "token-classification",
    "ForSequenceClassification": "text-classification",
    "ForMultipleChoice": "multiple-choice",
    "ForMaskedLM": "fill-mask",
    "ForCausalLM": "text-generation",
    "ForConditionalGeneration": "text2text-generation",
    "MTModel": "text2text-generation",
    "EncoderDecoderModel": "text2text-generation",
    "GPT2LMHeadModel": "text-generation",
    "T5WithLMHeadModel": "text2text-generation",
}
"""By the end of an architecture's name; of those that fit the last one counts."""

_BY_FEATURES = frozenset(
    {
        "automatic-speech-recognition",
        "image-segmentation",
        "image-classification",
        "audio-classification",
        "object-detection",
        "zero-shot-image-classification",
    }
)
"""Tasks whose pipelines have a feature extractor where others have a tokenizer."""

_NESTED = frozenset({"zero-shot-classification", "table-question-answering"})
"""Tasks whose inputs have no form in CSV."""

_TRUE = frozenset({"y", "yes", "t", "true", "on", "1"})
_CONTEXT_OF = {"model_fn": 1, "input_fn": 2, "predict_fn": 2, "output_fn": 2, "transform_fn": 4}


class PredictionException(Exception):
    """A request that the toolkit itself refuses; the multi-model server's text of it ends with its status."""

    def __str__(self) -> str:
        return f"{self.args[0]} : 400"


def load(model_dir: str, environment: Mapping[str, str], code: Code, *, multi_model: bool) -> Handlers:  # noqa: ARG001
    """Load by the customer's model_fn, or a pipeline of the folder's files; several models are served alike."""
    pipeline = _Pipeline(environment)
    defaults = Defaults(
        model_fn=pipeline.load, input_fn=pipeline.decode, predict_fn=predict, output_fn=huggingface_codecs.encode
    )
    limit = body_limit(environment, "SAGEMAKER_MAX_PAYLOAD_IN_MB", BODY_BYTES, unit=1024**2)
    return HuggingFaceHandlers(code.load(), model_dir, media.JSON, defaults, body_bytes=limit)


class HuggingFaceHandlers(ModelServerHandlers):
    """A loaded pipeline, or what the customer's code has in its place."""

    def __init__(self, module: ModuleType | None, *arguments: Any, **named: Any) -> None:
        for name, parameters in _CONTEXT_OF.items():
            function = getattr(module, name, None)
            if function is not None:
                _check_parameters(function, parameters)
        super().__init__(module, *arguments, **named)

    def _bind(self, function: Function, parameters: int) -> Function:
        return with_context(function, wants=len(inspect.signature(function).parameters) == parameters + 1)

    def _as_answer(self, result: Any, accept: str) -> Answer:
        # The pair of a body and its type means nothing to this container: it is a list of two in JSON.
        return super()._as_answer(list(result) if isinstance(result, tuple) else result, accept)

    def _failed(self, fault: BaseException) -> Answer:
        return refusal(400, str(fault))


def _check_parameters(function: Function, parameters: int) -> None:
    count = len(inspect.signature(function).parameters)
    if count not in {parameters, parameters + 1}:
        name = getattr(function, "__name__", type(function).__name__)
        raise TypeError(f"{name} definition takes {parameters} or {parameters + 1} arguments but {count} were given.")


class _Pipeline:
    """The container's own way to load a model and to read what is asked of it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._task = environment.get("HF_TASK", "")

    def load(self, model_dir: str) -> Any:
        """Make the pipeline of a folder, or of the model of the hub that HF_MODEL_ID names."""
        from transformers import pipeline

        hub_name = self._environment.get("HF_MODEL_ID")
        folder = _download(hub_name, self._environment) if hub_name else model_dir
        self._task = self._task or _task_of(Path(folder))
        part = "feature_extractor" if self._task in _BY_FEATURES else "tokenizer"
        trust = self._environment.get("HF_TRUST_REMOTE_CODE", "False").lower() in _TRUE
        return pipeline(task=self._task, model=folder, device=_device(), trust_remote_code=trust, **{part: folder})

    def decode(self, body: str | bytes, content_type: str | None) -> Any:
        """Make a pipeline's arguments of a body."""
        if self._task in _NESTED and content_type == media.CSV:
            raise PredictionException(
                f"content type {content_type} not support with {self._task}, use different content_type"
            )
        return huggingface_codecs.decode(body, content_type)


def predict(data: Any, model: Any) -> Any:
    """Call a pipeline with what a request says: ``inputs``, or all of it, and ``parameters``."""
    inputs = data.pop("inputs", data)
    parameters = data.pop("parameters", None)
    return model(inputs) if parameters is None else model(inputs, **parameters)


def _task_of(folder: Path) -> str:
    """Tell a model's task by its configuration; raises ValueError."""
    if not folder.joinpath("config.json").is_file():
        from transformers.pipelines import SUPPORTED_TASKS

        hint = " Diffusion models need an inference.py here." if folder.joinpath("model_index.json").is_file() else ""
        raise ValueError(f"You need to define one of the following {list(SUPPORTED_TASKS)} as env 'HF_TASK'.{hint}")
    configuration = json.loads(folder.joinpath("config.json").read_text(encoding="utf-8"))
    architecture = str((configuration.get("architectures") or [None])[0])
    tasks = [task for end, task in _TASKS.items() if architecture.endswith(end)]
    if not tasks:
        raise ValueError(
            f"Task couldn't be inferenced from {architecture}. Inference Toolkit can only inference tasks from "
            f"architectures ending with {list(_TASKS)}. Use env `HF_TASK` to define your task."
        )
    return tasks[-1]


def _download(name: str, environment: Mapping[str, str]) -> str:
    """Fetch a model from the hub into the instance's own files; raises what the hub's client raises."""
    from huggingface_hub import snapshot_download

    kept = environment.get("HF_HUB_CACHE") or environment.get("HF_HOME")
    return str(
        snapshot_download(
            name,
            revision=environment.get("HF_MODEL_REVISION") or None,
            token=environment.get("HF_API_TOKEN") or environment.get("HF_TOKEN") or None,
            cache_dir=None if kept else os.path.join(tempfile.gettempdir(), "huggingface"),  # noqa: PTH118
        )
    )


def _device() -> int:
    import torch

    return 0 if torch.cuda.is_available() else -1
