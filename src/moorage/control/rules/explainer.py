"""Rules for ExplainerConfig (explainer.md section 1.3; the numbers are those of its table).

The expressions in JMESPath (R8, R9) are checked where they are evaluated.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from moorage.control.rules import Members

_CSV = "text/csv"
_JSON_LINES = "application/jsonlines"
_FEATURES = "$features"


def _clarify(request: Members) -> Mapping[str, Any]:
    config: Mapping[str, Any] = request.get("ExplainerConfig", {}).get("ClarifyExplainerConfig", {})
    return config


def _inference(request: Members) -> Mapping[str, Any]:
    config: Mapping[str, Any] = _clarify(request).get("InferenceConfig", {})
    return config


def _baseline(request: Members) -> Mapping[str, Any] | None:
    config: Mapping[str, Any] | None = _clarify(request).get("ShapConfig", {}).get("ShapBaselineConfig")
    return config


def one_baseline(request: Members) -> str | None:
    """Refuse two baselines, and none (R1, R2)."""
    config = _baseline(request)
    if config is None:
        return None
    given = {"ShapBaseline", "ShapBaselineUri"} & config.keys()
    if len(given) > 1:
        return (
            "ShapBaseline and ShapBaselineUri are mutually exclusive. "
            "Provide exactly one of them in ShapBaselineConfig."
        )
    return None if given else "One of ShapBaseline or ShapBaselineUri is required in ShapBaselineConfig."


def baseline_format_is_known(request: Members) -> str | None:
    """Refuse a baseline of another format than the two that there are (R3)."""
    kind = (_baseline(request) or {}).get("MimeType", _CSV)
    if kind in {_CSV, _JSON_LINES}:
        return None
    return f"Unsupported ShapBaselineConfig MimeType '{kind}'. Supported: {_CSV}, {_JSON_LINES}."


def feature_types_are_for_text(request: Members) -> str | None:
    """Refuse types of features without a text among them, and texts without their language (R4, R5)."""
    types = _inference(request).get("FeatureTypes")
    if types is None:
        return None
    if "text" not in types:
        return "FeatureTypes must contain at least one 'text'."
    if "TextConfig" not in _clarify(request)["ShapConfig"]:
        return "TextConfig is required when FeatureTypes contains 'text'."
    return None


def headers_fit_types(request: Members) -> str | None:
    """Refuse another number of names than of types (R7)."""
    config = _inference(request)
    headers, types = config.get("FeatureHeaders"), config.get("FeatureTypes")
    if headers is not None and types is not None and len(headers) != len(types):
        return f"FeatureHeaders has {len(headers)} items but FeatureTypes has {len(types)}."
    return None


def template_makes_an_object(request: Members) -> str | None:
    """Refuse a template without exactly one placeholder, or that makes no JSON object (R10)."""
    template = _inference(request).get("ContentTemplate")
    if template is None or (template.count(_FEATURES) == 1 and _is_object(template.replace(_FEATURES, "[]"))):
        return None
    return "ContentTemplate must contain exactly one $features placeholder and form a JSON object."


def _is_object(text: str) -> bool:
    try:
        return isinstance(orjson.loads(text), dict)
    except ValueError:
        return False


def baseline_is_a_table(request: Members) -> str | None:
    """Refuse an inline baseline that is no table of as many columns as there are features (R12)."""
    try:
        rows = _rows_of_baseline(request)
        if rows is not None:
            _check_columns(rows, _inference(request))
    except (ValueError, csv.Error) as fault:
        kind = (_baseline(request) or {}).get("MimeType", _CSV)
        return f"ShapBaseline could not be parsed as {kind}: {fault}"
    return None


def texts_have_texts_as_baseline(request: Members) -> str | None:
    """Refuse a baseline of a text that is none (R15)."""
    types = _inference(request).get("FeatureTypes", ())
    for row in _rows_of_baseline(request) or ():
        for number, (kind, cell) in enumerate(zip(types, row, strict=False), 1):
            if kind == "text" and not isinstance(cell, str):
                return f"Baseline of text feature {number} must be a string."
    return None


def _rows_of_baseline(request: Members) -> list[list[Any]] | None:
    """Read an inline baseline; None when there is none, or FeaturesAttribute has to find the features in it."""
    config = _baseline(request) or {}
    if "ShapBaseline" not in config:
        return None
    text = config["ShapBaseline"].rstrip("\r\n")
    if config.get("MimeType", _CSV) == _CSV:
        return list(csv.reader(io.StringIO(text, newline=""), strict=True))
    lines = [orjson.loads(line) for line in text.split("\n")]
    if "FeaturesAttribute" in _inference(request):
        return None
    if not all(isinstance(line, list) for line in lines):
        raise ValueError("each line must be a list of features when FeaturesAttribute is not specified")
    return lines


def _check_columns(rows: Sequence[Sequence[Any]], inference: Mapping[str, Any]) -> None:
    widths = {len(row) for row in rows}
    if not widths or 0 in widths:
        raise ValueError("a row is empty")
    if len(widths) > 1:
        raise ValueError("the rows have different numbers of features")
    (width,) = widths
    for member in ("FeatureHeaders", "FeatureTypes"):
        if member in inference and len(inference[member]) != width:
            raise ValueError(f"the rows have {width} features but {member} has {len(inference[member])} items")


RULES = (
    one_baseline,
    baseline_format_is_known,
    feature_types_are_for_text,
    headers_fit_types,
    template_makes_an_object,
    baseline_is_a_table,
    texts_have_texts_as_baseline,
)
