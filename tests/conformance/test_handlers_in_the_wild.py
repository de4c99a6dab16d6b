"""Handlers in the style of AWS's public examples run unchanged, with what they import of AWS's toolkits."""

from pathlib import Path
from typing import NamedTuple

import pytest
from tests.support.golden import CSV, JSON, LIBSVM
from tests.support.golden_models import MODELS
from tests.support.model_server import serving, write_code

pytestmark = [
    pytest.mark.slow,  # frameworks take seconds to import; the first test of a machine installs them
    pytest.mark.timeout(900),
]


class Handler(NamedTuple):
    """An inference.py, and what it answers."""

    artefact: str
    """Whose of the golden models."""
    code: str
    sent: str
    given: str
    accept: str
    answer: tuple[int, str, str]


FEATURIZER = """
from __future__ import print_function
import json, os
import joblib
from io import StringIO
from sagemaker_containers.beta.framework import (
    content_types, encoders, env, modules, transformer, worker)

def model_fn(model_dir):
    return joblib.load(os.path.join(model_dir, "model.joblib"))

def input_fn(input_data, content_type):
    if content_type == "text/csv":
        return [[float(cell) for cell in row.split(",")] for row in StringIO(input_data).read().split()]
    raise ValueError("{} not supported by script!".format(content_type))

def output_fn(prediction, accept):
    if accept == "application/json":
        instances = [{"features": [row]} for row in prediction.tolist()]
        return worker.Response(json.dumps({"instances": instances}), mimetype=accept)
    elif accept == "text/csv":
        return worker.Response(encoders.encode(prediction, accept), mimetype=accept)
    else:
        raise RuntimeError("{} accept type is not supported by this script.".format(accept))

def predict_fn(input_data, model):
    return model.predict(input_data)
"""

TRANSFORMER = """
import joblib, os
import numpy as np

def model_fn(model_dir):
    return joblib.load(os.path.join(model_dir, "model.joblib"))

def transform_fn(model, request_body, content_type, accept_type):
    rows = np.array([line.split(",") for line in request_body.split()], dtype=float)
    return ",".join(model.predict(rows).astype(str)), accept_type
"""

SPARSE = """
import json
import os
import xgboost as xgb
from sagemaker_xgboost_container import encoder as xgb_encoders

def model_fn(model_dir):
    booster = xgb.Booster()
    booster.load_model(bytearray(open(os.path.join(model_dir, "xgboost-model"), "rb").read()))
    return booster

def input_fn(request_body, request_content_type):
    if request_content_type == "text/libsvm":
        return xgb_encoders.libsvm_to_dmatrix(request_body)
    raise ValueError("Content type {} is not supported.".format(request_content_type))

def predict_fn(input_data, model):
    return model.predict(input_data, output_margin=True)

def output_fn(predictions, content_type):
    return ",".join("%g" % value for value in predictions.tolist())
"""

DEVICE = """
import json, logging, os
import torch
from sagemaker_inference import content_types, decoder, encoder, errors, utils

logger = logging.getLogger(__name__)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

def model_fn(model_dir, context):
    logger.info("loading from %s", context.system_properties.get("model_dir"))
    return torch.jit.load(os.path.join(model_dir, "model.pt"), map_location=device).eval()

def input_fn(request_body, request_content_type, context):
    assert context.get_request_header(0, "Content-Type") == request_content_type
    assert context.request_processor[0].get_request_properties()["Accept"]
    if request_content_type not in (content_types.JSON, content_types.CSV):
        raise errors.UnsupportedFormatError(request_content_type)
    return torch.FloatTensor(decoder.decode(request_body, request_content_type)).to(device)

def predict_fn(input_object, model, context):
    with torch.no_grad():
        return model(input_object)

def output_fn(prediction, accept, context):
    for content_type in utils.parse_accept(accept):
        if content_type in encoder.SUPPORTED_CONTENT_TYPES:
            return encoder.encode(prediction.tolist(), content_type), content_type
    raise errors.UnsupportedFormatError(accept)
"""

CLASSIFIER = """
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from sagemaker_huggingface_inference_toolkit import decoder_encoder
import torch

def model_fn(model_dir):
    return AutoModelForSequenceClassification.from_pretrained(model_dir), AutoTokenizer.from_pretrained(model_dir)

def input_fn(input_data, content_type):
    return decoder_encoder.decode(input_data, content_type)

def predict_fn(data, model_and_tokenizer):
    model, tokenizer = model_and_tokenizer
    encoded = tokenizer(data.pop("inputs", data), return_tensors="pt")
    with torch.no_grad():
        return {"label": model.config.id2label[model(**encoded).logits[0].argmax().item()]}

def output_fn(prediction, accept):
    return decoder_encoder.encode(prediction, accept)
"""

SESSION = """
import onnxruntime, os

def model_fn(model_dir):
    return onnxruntime.InferenceSession(os.path.join(model_dir, "model.onnx"), providers=["CPUExecutionProvider"])

def input_fn(body, content_type):
    return [[float(cell) for cell in body.split(";")]]
"""

TWO_ROWS = "5.1,3.5,1.4,0.2\n6.7,3.0,5.2,2.3\n"

HANDLERS = {
    "scikit-learn, Response objects": Handler(
        "sklearn", FEATURIZER, TWO_ROWS, CSV, JSON,
        (200, JSON, '{"instances": [{"features": [0]}, {"features": [2]}]}'),
    ),
    "scikit-learn, encoders": Handler(
        "sklearn", FEATURIZER, TWO_ROWS, CSV, CSV, (200, "text/csv; charset=utf-8", "0\n2\n")
    ),
    "scikit-learn, transform_fn": Handler(
        "sklearn", TRANSFORMER, TWO_ROWS, CSV, CSV, (200, "text/csv; charset=utf-8", "0,2")
    ),
    "XGBoost, encoder": Handler(
        "xgboost", SPARSE, "0 1:1 4:0\n0 1:0 4:0\n", LIBSVM, CSV, (200, "text/html; charset=utf-8", "1,-1")
    ),
    "PyTorch, four functions with context": Handler(
        "pytorch", DEVICE, "[[1, 2]]", JSON, "text/html, text/csv", (200, CSV, "5.0\n")
    ),
    "Hugging Face, codecs": Handler(
        "huggingface", CLASSIFIER, '{"inputs": "good"}', JSON, JSON, (200, JSON, '{"label":"FÄHRT"}')
    ),
    "ONNX, a session of its own": Handler("onnx", SESSION, "1;2", CSV, JSON, (200, JSON, "[[5.0]]")),
}  # fmt: skip


@pytest.mark.parametrize("name", HANDLERS)
def test_handler_runs_unchanged(name: str, tmp_path: Path) -> None:
    handler = HANDLERS[name]
    model = MODELS[handler.artefact]
    model.make(tmp_path)
    write_code(tmp_path, handler.code)
    script = {"SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code"}
    with serving(tmp_path, tmp_path / "log", model.python(), model.toolkit, **script) as instance:
        status, kind, body = instance.post(handler.sent.encode(), Content_Type=handler.given, Accept=handler.accept)
    assert (status, kind, body.decode()) == handler.answer, (tmp_path / "log").read_text()
