"""The image ``moorage/onnx``: the one ``.onnx`` file of the artefact, run by ``onnxruntime``.

A JSON array, CSV or NPY is the model's only input; a JSON object has each input by its name. One output is answered
as it is, several by their names in JSON and side by side in CSV. Values get the type that the model wants, and a
single row becomes a batch of one where the model wants batches. ``inference.py`` may have any of the functions.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .. import media
from ..customer import Code
from ..handlers import Defaults, Handlers
from .model_servers import default_accept
from .neutral import BadRequest, NeutralHandlers, UnknownType, choose, media_type_of

_ENCODED = (media.JSON, media.CSV, media.NPY)

_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")

_TYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int8)": "int8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(uint8)": "uint8",
    "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32",
    "tensor(uint64)": "uint64",
    "tensor(bool)": "bool",
    "tensor(string)": "object",
}


class Model:
    """A session of onnxruntime, and what it takes and gives."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._inputs = {entry.name: entry for entry in session.get_inputs()}
        self._outputs = [entry.name for entry in session.get_outputs()]

    @classmethod
    def load(cls, path: Path, threads: int) -> Model:
        """Load a file; raises what onnxruntime raises. 0 threads: as many as there are cores."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        there = onnxruntime.get_available_providers()
        providers = [name for name in _PROVIDERS if name in there]
        return cls(onnxruntime.InferenceSession(os.fspath(path), options, providers=providers))

    def predict(self, data: Any) -> Any:
        """Give the only output, or all by their names; raises BadRequest for data that does not fit the model."""
        feed = {name: self._fit(name, value) for name, value in self._by_name(data).items()}
        try:
            made = self._session.run(self._outputs, feed)
        except Exception as fault:
            if type(fault).__name__ == "InvalidArgument":  # onnxruntime: dimensions that do not fit
                raise BadRequest(f"The data does not fit the model: {fault}") from fault
            raise
        return made[0] if len(made) == 1 else dict(zip(self._outputs, made))

    def _by_name(self, data: Any) -> dict[str, Any]:
        if isinstance(data, dict):
            if set(data) != set(self._inputs):
                raise BadRequest(f"The model's inputs are {_listed(self._inputs)}; given are {_listed(data)}.")
            return data
        if len(self._inputs) != 1:
            raise BadRequest(f"The model has several inputs: send a JSON object of {_listed(self._inputs)}.")
        return {next(iter(self._inputs)): data}

    def _fit(self, name: str, value: Any) -> Any:
        import numpy as np

        entry = self._inputs[name]
        wanted = _TYPES.get(entry.type)
        if wanted is None:
            raise BadRequest(f"The input {name} is a {entry.type}, which has no form in a request: write an input_fn.")
        try:
            array = np.asarray(value, dtype=wanted)
        except (ValueError, TypeError, OverflowError) as fault:
            raise BadRequest(f"The input {name} is a {entry.type}: {fault}.") from fault
        return array[np.newaxis] if array.ndim == len(entry.shape) - 1 else array


def load(model_dir: str, environment: Mapping[str, str], code: Code, *, multi_model: bool) -> Handlers:  # noqa: ARG001
    """Load by the customer's model_fn, or the one .onnx file of the folder; several models are served alike."""
    threads = int(environment.get("OMP_NUM_THREADS") or 0)
    defaults = Defaults(lambda folder: Model.load(find(folder), threads), decode, predict, encode)
    return NeutralHandlers(code.load(), model_dir, default_accept(environment), defaults)


def find(model_dir: str) -> Path:
    """Give the one .onnx file of a folder; raises ValueError."""
    paths = sorted(path for path in Path(model_dir).iterdir() if path.suffix == ".onnx" and path.is_file())
    if len(paths) != 1:
        names = [path.name for path in paths]
        raise ValueError(f"Exactly one .onnx file is required at the top of the artefact: {names}")
    return paths[0]


def decode(body: str | bytes, content_type: str) -> Any:
    """Read JSON, CSV or NPY; raises BadRequest."""
    media_type = media_type_of(content_type)
    if media_type not in _ENCODED:
        raise UnknownType(f"{content_type} cannot be read; send {', '.join(_ENCODED)}.")
    try:
        if media_type == media.JSON:
            return json.loads(body)
        if media_type == media.NPY:
            return media.decode_array(body, media.NPY)
        return _from_csv(body if isinstance(body, str) else body.decode())
    except (ValueError, EOFError, csv.Error) as fault:
        raise BadRequest(f"The body is not {media_type}: {fault}.") from fault


def predict(data: Any, model: Any) -> Any:
    """Run the model; one that the customer's model_fn has loaded is a session of onnxruntime."""
    return (model if isinstance(model, Model) else Model(model)).predict(data)


def encode(prediction: Any, accept: str) -> tuple[Any, str]:
    """Write JSON, CSV or NPY; raises BadRequest for several outputs that do not go into one table."""
    if isinstance(prediction, Iterator):
        return prediction, accept
    media_type = choose(accept, _ENCODED)
    if media_type == media.JSON:
        return media.to_json(prediction), media_type
    if media_type == media.CSV:
        return media.to_csv(_side_by_side(prediction) if isinstance(prediction, dict) else prediction), media_type
    if isinstance(prediction, dict):
        raise BadRequest(f"{media.NPY} has one array, and the model gives {_listed(prediction)}: ask for {media.JSON}.")
    return media.to_npy(prediction), media_type


def _from_csv(text: str) -> list[list[Any]]:
    """Read rows of numbers, or of text where a cell is none."""
    rows = [row for row in csv.reader(io.StringIO(text), strict=True) if row]
    try:
        return [[float(cell) for cell in row] for row in rows]
    except ValueError:
        return rows


def _side_by_side(outputs: Mapping[str, Any]) -> list[list[Any]]:
    """Make one table of several outputs with a value, or a row of them, for each row of the request."""
    import numpy as np

    columns = [np.asarray(_without_names(value)) for value in outputs.values()]
    if len({array.shape[:1] for array in columns}) != 1 or any(array.ndim not in {1, 2} for array in columns):
        raise BadRequest(f"The outputs {_listed(outputs)} do not go into one table: ask for {media.JSON}.")
    flat = [array.reshape(len(array), -1).tolist() for array in columns]
    return [[cell for part in row for cell in part] for row in zip(*flat)]


def _without_names(value: Any) -> Any:
    """Give the probabilities of a classifier, which some converters make a list of dictionaries by class."""
    return [list(row.values()) for row in value] if isinstance(value, list) and isinstance(value[0], dict) else value


def _listed(names: Any) -> str:
    return ", ".join(map(str, names))
