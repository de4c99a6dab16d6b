"""XGBoost's container without the customer's code: the built-in algorithm (data-plane.md section 9.4).

The order of its checks is the container's: body, content type, data, prediction, and only then Accept.
"""

from __future__ import annotations

import csv
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import media
from ..handlers import Handlers, one_line
from ..wire import Answer, Request, plain
from . import xgboost_data
from .model_servers import SERVER_PAGES, default_accept, limit_of_several
from .model_servers import body_limit as limit_of
from .xgboost_selection import Selection

JSON_LINES = "application/jsonlines"
_RECORDIO = "application/x-recordio-protobuf"
_ACCEPTED = [media.JSON, JSON_LINES, _RECORDIO, media.CSV]
_BODY_BYTES = 6 * 1024**2
_CSV_NAMES = ("csv", "text/csv")
_LIBSVM_NAMES = ("libsvm", "text/libsvm", "text/x-libsvm")
_NOT_BUILT = ("parquet", "application/x-parquet", "recordio-protobuf", _RECORDIO)
_NAMES = (
    "csv, libsvm, parquet, recordio-protobuf, text/csv, text/libsvm, text/x-libsvm, application/x-parquet, "
    "application/x-recordio-protobuf"
)
_VOTING = ("multi:softmax", "binary:hinge")


class Refusal(Exception):
    """A request that is answered with a status and a text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Models:
    """The boosters of a folder, of which several are an ensemble."""

    def __init__(self, folder: str, *, ensemble: bool) -> None:
        """Load the files of a folder; raises RuntimeError."""
        paths = sorted(path for path in Path(folder).iterdir() if path.is_file() and not path.name.startswith("."))
        if not paths:
            raise RuntimeError(f"there is no model file in {folder}")
        self._boosters = [_load_booster(path) for path in (paths if ensemble else paths[:1])]
        self.first, self._pickled = self._boosters[0]

    def predict(self, data: Any, format_name: str) -> Any:
        """Predict; raises ValueError where a pickled model was trained with another number of features."""
        import numpy as np

        if self._pickled:
            _check_width(data.num_col(), self.first.num_features(), format_name)
        made = [_predict(booster, data) for booster, _pickled in self._boosters]
        if len(made) == 1:
            return made[0]
        return _most_frequent(made) if self.objective in _VOTING else np.mean(made, axis=0)

    @property
    def objective(self) -> str:
        """What the first model was trained for, in XGBoost's words."""
        if not hasattr(self, "_objective"):
            self._objective = str(self.configuration["learner"]["objective"]["name"])
        return self._objective

    @property
    def configuration(self) -> Any:
        """What XGBoost says about the first model."""
        import json

        return json.loads(self.first.save_config())


class Algorithm(Handlers):
    """The built-in algorithm, in the manner of the container that serves one model."""

    def __init__(self, model_dir: str, environment: Mapping[str, str]) -> None:
        """Load the model files; raises RuntimeError with the container's words."""
        try:
            self._models = Models(model_dir, ensemble=environment.get("SAGEMAKER_INFERENCE_ENSEMBLE", "true") == "true")
        except Exception as fault:
            raise RuntimeError(f"Unable to load model: {fault}") from fault
        self._body_bytes = self._largest(environment)
        self._accept = self._default_accept_of(environment)
        self._batch = bool(environment.get("SAGEMAKER_BATCH"))
        self._selection: Selection | None = None
        if "SAGEMAKER_INFERENCE_OUTPUT" in environment:
            self._selection = Selection(environment["SAGEMAKER_INFERENCE_OUTPUT"], self._models.configuration)

    def _largest(self, environment: Mapping[str, str]) -> int:
        return limit_of(environment, "MAX_CONTENT_LENGTH", _BODY_BYTES)

    def _default_accept_of(self, environment: Mapping[str, str]) -> str:
        return default_accept(environment, media.CSV)

    def _transform(self, request: Request) -> Answer:
        if not request.body:
            return Answer(204, media.HTML, b"")
        data, format_name = _read(request.body, request.headers.get("content-type"))
        try:
            prediction = self._models.predict(data, format_name)
        except Exception as fault:
            said = str(fault).partition("\nStack trace:")[0]  # of XGBoost's own C++
            raise Refusal(400, f"Unable to evaluate payload provided: {said}") from fault
        return self._encode(prediction, request.headers.get("accept", ""))

    def _encode(self, prediction: Any, asked: str) -> Answer:
        accept = self._accept_of(asked)
        if self._selection is not None:
            return self._select(self._selection, prediction, accept)
        scores = prediction.tolist()
        if self._batch:
            body: str | bytes = "\n".join(map(str, scores)) + "\n"
        elif accept == media.JSON:
            body = media.to_json({"predictions": [{"score": score} for score in scores]})
        else:
            body = media.encode(scores, accept)
        return Answer(200, media.with_charset(accept), body if isinstance(body, bytes) else body.encode())

    def _accept_of(self, asked: str) -> str:
        accept = xgboost_data.parse_header(asked)[0]
        if not accept or accept == "*/*":
            return self._accept
        if accept.lower() not in _ACCEPTED:
            raise Refusal(
                406, f"Accept type {accept} is not supported. Please use supported accept types: {_ACCEPTED}."
            )
        return accept.lower()

    def _select(self, selection: Selection, prediction: Any, accept: str) -> Answer:
        if accept == _RECORDIO:
            raise Refusal(406, f"Accept type {accept} is not built into Moorage: ask for {media.JSON} or {media.CSV}.")
        try:
            body = selection.encode(prediction, accept, batch=self._batch)
        except Exception as fault:
            raise Refusal(500, str(fault)) from fault
        return Answer(200, media.with_charset(accept), body.encode())

    def _failed(self, fault: BaseException) -> Answer:
        if isinstance(fault, Refusal):
            return Answer(fault.status, media.HTML, str(fault).encode("utf-8", "replace"))
        return plain(500, one_line(fault))


class AlgorithmOfSeveral(Algorithm):
    """The built-in algorithm in the manner of the container that serves several models: other forms of answers."""

    pages = SERVER_PAGES

    def _largest(self, environment: Mapping[str, str]) -> int:
        return limit_of_several(environment)

    def _default_accept_of(self, environment: Mapping[str, str]) -> str:
        return default_accept(environment)

    def _encode(self, prediction: Any, asked: str) -> Answer:
        accept = self._accept if not asked or asked == "*/*" else asked
        scores = prediction.tolist()
        if accept.lower() in _CSV_NAMES:
            body = "\n".join(map(str, scores)) + "\n" if self._batch else ",".join(map(str, scores))
        elif accept.lower() == media.JSON:
            body = media.to_json(scores)
        else:
            raise Refusal(
                415,
                f"Encoding to accept type {accept} failed with exception: {accept} is not an accepted Accept type. "
                f"Please choose one of the following: ['{media.CSV}', '{media.JSON}'].",
            )
        return Answer(200, accept, body.encode())

    def _failed(self, fault: BaseException) -> Answer:
        status = fault.status if isinstance(fault, Refusal) else 500
        return Answer(status, "", str(fault).encode("utf-8", "replace"))


def _read(body: bytes, content_type: str | None) -> tuple[Any, str]:
    """Make a DMatrix of a body; says in which format it was. Raises Refusal."""
    format_name = _format_of(content_type)
    try:
        text = body.strip().decode()
        data = xgboost_data.from_csv(text) if format_name == "csv" else xgboost_data.from_libsvm(text)
    except (ValueError, csv.Error, IndexError, OverflowError, TypeError) as fault:
        raise Refusal(
            415,
            f"Loading {format_name} data failed with Exception, please ensure data is in {format_name} format:\n "
            f"{type(fault)}\n {fault}",
        ) from fault
    return data, format_name


def _format_of(content_type: str | None) -> str:
    if content_type is None:
        return "libsvm"
    name, parameters = xgboost_data.parse_header(content_type.lower())
    if name in _CSV_NAMES:
        if parameters.get("label_size", "1") != "1":
            raise Refusal(
                415,
                f"{content_type} is not an accepted csv ContentType. Optional parameter label_size must be equal to 1",
            )
        return "csv"
    if name in _LIBSVM_NAMES:
        return "libsvm"
    if name in _NOT_BUILT:
        raise Refusal(
            415, f"Content-type {content_type} is not built into Moorage: send text/csv or text/libsvm instead."
        )
    raise Refusal(415, f"{content_type} is not an accepted ContentType: {_NAMES}.")


def _load_booster(path: Path) -> tuple[Any, bool]:
    """Load a file of the artefact, which is the customer's own; tells whether it was pickled. Raises RuntimeError."""
    from xgboost import Booster

    try:
        with path.open("rb") as file:
            booster = pickle.load(file)  # noqa: S301 - the customer's model, as trusted as their code
        booster = booster.get_booster() if hasattr(booster, "get_booster") else booster
        pickled = True
    except Exception as unpicklable:  # noqa: BLE001 - a file that is no pickle fails in many ways
        try:
            booster = Booster(model_file=bytearray(path.read_bytes()))
        except Exception as fault:
            raise RuntimeError(
                f"Model {path} cannot be loaded:\nPickle load error={unpicklable}\nXGB load model error={fault}"
            ) from fault
        pickled = False
    booster.set_param("nthread", 1)
    return booster, pickled


def _predict(booster: Any, data: Any) -> Any:
    """Predict, with the trees up to the best iteration where an old model says which."""
    best = int(getattr(booster, "best_ntree_limit", 0) or 0)
    if best:
        return booster.predict(data, iteration_range=(0, best), validate_features=False)
    return booster.predict(data, validate_features=False)


def _check_width(given: int, trained: int, format_name: str) -> None:
    if format_name == "libsvm":
        if given > trained + 1:
            raise ValueError(
                f"Feature size of libsvm inference data {given} is larger than feature size of trained model {trained}."
            )
    elif given not in {trained, trained - 1}:
        raise ValueError(
            f"Feature size of {format_name} inference data {given} is not consistent with feature size of trained "
            f"model {trained}."
        )


def _most_frequent(made: list[Any]) -> Any:
    """Give each column's most frequent value, the smallest of equals."""
    import numpy as np

    columns = []
    for column in np.array(made).T:
        values, counts = np.unique(column, return_counts=True)
        columns.append(values[counts.argmax()])
    return np.array(columns)
