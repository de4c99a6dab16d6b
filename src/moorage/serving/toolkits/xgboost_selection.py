"""SAGEMAKER_INFERENCE_OUTPUT: which parts of XGBoost's predictions are answered (data-plane.md section 9.4)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from .. import media

_JSON_LINES = "application/jsonlines"
_LABEL, _LABELS = "predicted_label", "labels"
_PROBABILITY, _PROBABILITIES = "probability", "probabilities"
_RAW_SCORE, _RAW_SCORES = "raw_score", "raw_scores"
_SCORE = "predicted_score"
_SCORES = (_LABEL, _LABELS, _RAW_SCORE, _RAW_SCORES)
_ALL = (*_SCORES, _PROBABILITY, _PROBABILITIES)
_ORDER = (_LABEL, _LABELS, _PROBABILITY, _PROBABILITIES, _RAW_SCORE, _RAW_SCORES, _SCORE)
_MULTI_PROB = "multi:softprob"

VALID: dict[str, tuple[str, ...]] = {
    "reg:squarederror": (_SCORE,),
    "reg:logistic": (_SCORE,),
    "reg:gamma": (_SCORE,),
    "reg:absoluteerror": (_SCORE,),
    "reg:tweedie": (_SCORE,),
    "binary:logistic": _ALL,
    "binary:logitraw": _SCORES,
    "binary:hinge": _SCORES,
    "multi:softmax": _SCORES,
    _MULTI_PROB: _ALL,
}
"""By objective: what can be selected; anything else that is asked for is NaN."""


class Selection:
    """The parts that were asked for, in their order."""

    def __init__(self, asked: str, configuration: Any) -> None:
        """Take the variable's value and what XGBoost says about the model."""
        self._names = asked.replace(" ", "").lower().split(",")
        self._objective = str(configuration["learner"]["objective"]["name"])
        self._classes = str(configuration["learner"]["learner_model_param"].get("num_class", ""))

    def encode(self, prediction: Any, accept: str, *, batch: bool) -> str:
        """Give the body for a media type; raises ValueError or RuntimeError with the container's words."""
        rows = self._select(prediction)
        if accept == media.JSON:
            return json.dumps({"predictions": rows})
        if accept == _JSON_LINES:
            return "".join(json.dumps(row) + "\n" for row in rows)
        if accept == media.CSV:
            return "\n".join(",".join(map(_cell, (row[name] for name in self._names))) for row in rows) + "\n" * batch
        raise RuntimeError(f"Cannot encode selected predictions into accept type '{accept}'.")

    def _select(self, prediction: Any) -> list[dict[str, Any]]:
        if self._objective not in VALID:
            raise ValueError(f"Objective `{self._objective}` unsupported for selectable inference predictions.")
        valid = VALID[self._objective]
        known = [name for name in _ORDER if name in self._names and name in valid]  # in the container's order
        rows = [{name: self._part(name, raw) for name in known} for raw in prediction]
        return [{**row, **{name: math.nan for name in self._names if name not in valid}} for row in rows]

    def _part(self, name: str, raw: Any) -> Any:
        if name == _LABELS:
            return [0, 1] if self._objective.startswith("binary:") else list(range(int(self._classes)))
        if name == _LABEL:
            return _LABEL_OF[self._objective](raw)
        if self._objective == _MULTI_PROB:
            return raw.tolist() if name in {_PROBABILITIES, _RAW_SCORES} else max(raw).item()
        one = raw.item()
        return [1.0 - one, one] if name in {_PROBABILITIES, _RAW_SCORES} else one


_LABEL_OF: dict[str, Callable[[Any], Any]] = {
    "binary:hinge": lambda raw: raw.item(),
    "multi:softmax": lambda raw: raw.item(),
    "binary:logistic": lambda raw: int(raw > 0.5),
    "binary:logitraw": lambda raw: int(raw > 0),
    _MULTI_PROB: lambda raw: raw.argmax().item(),
}


def _cell(value: Any) -> str:
    return f'"{value}"' if isinstance(value, list) else str(value)
