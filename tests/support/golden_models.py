"""The models that golden rows are asked of: which toolkit, made by which program in which Python."""

import subprocess
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import frameworks

IRIS = """
import sys, joblib
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
rows, classes = load_iris(return_X_y=True)
joblib.dump(LogisticRegression(max_iter=500).fit(rows, classes), sys.argv[1] + "/model.joblib")
"""

LOAD_JOBLIB = """
import joblib, os
def model_fn(model_dir):
    return joblib.load(os.path.join(model_dir, "model.joblib"))
"""

STUMPS = """
import pickle, sys
import numpy as np, xgboost as xgb
kind, folder = sys.argv[2], sys.argv[1]
rows = np.array([[side, 0, 0, 0] for side in (0, 1) for _ in range(4)], dtype=float)
labels = rows[:, 0]
how = {"max_depth": 1, "eta": 1.0, "base_score": 0.5, "min_child_weight": 0, "nthread": 1}
def train(objective, rounds=1, **more):
    return xgb.train({**how, "objective": objective, **more}, xgb.DMatrix(rows, labels), rounds)
def save(booster, name):
    booster.save_model(folder + "/model.ubj")
    import os
    os.replace(folder + "/model.ubj", folder + "/" + name)
if kind == "pickled":
    pickle.dump(train("binary:logistic"), open(folder + "/xgboost-model", "wb"))
elif kind == "ensemble":
    save(train("binary:logistic"), "a-model")
    save(train("binary:logistic", **{"lambda": 3.0}), "b-model")
elif kind == "softprob":
    save(train("multi:softprob", num_class=3, base_score=0.0), "xgboost-model")
else:
    save(train("binary:logistic"), "xgboost-model")
"""
"""One tree of two leaves, +1 and -1, so that scores are the logistic function of 1 and of -1 with any version."""

LOAD_BOOSTER = """
import os, xgboost
def model_fn(model_dir):
    booster = xgboost.Booster()
    booster.load_model(bytearray(open(os.path.join(model_dir, "xgboost-model"), "rb").read()))
    return booster
"""

LINEAR = """
import sys, torch
layer = torch.nn.Linear(2, 1, bias=False)
layer.weight.data = torch.tensor([[1.0, 2.0]])
torch.jit.script(layer).save(sys.argv[1] + "/model.pt")
"""

OUR_STATUS = """
import json
from sagemaker_inference import content_types, decoder, encoder, errors
def model_fn(model_dir, context):
    return context.system_properties["model_dir"]
def input_fn(input_data, content_type):
    return decoder.decode(input_data, content_type)
def predict_fn(data, model, context):
    if data.min() < 0:
        raise errors.BaseInferenceToolkitError(422, "negative", "negative")
    context.set_response_header(0, "X-Rows", str(len(data)))
    return data.sum(axis=1)
def output_fn(prediction, accept):
    return encoder.encode(prediction, accept), accept
"""

WRONG_ARITY = """
def model_fn(model_dir):
    return None
def predict_fn(data):
    return data
"""

BERT = """
import sys
import torch
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast
folder = sys.argv[1]
words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "ship", "the"]
open(folder + "/vocab.txt", "w").write("\\n".join(words))
BertTokenizerFast(folder + "/vocab.txt").save_pretrained(folder)
labels = {0: "SINKT", 1: "F\\u00c4HRT"}
model = BertForSequenceClassification(BertConfig(
    vocab_size=len(words), hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8,
    max_position_embeddings=32, id2label=labels, label2id={label: number for number, label in labels.items()}))
model.classifier.weight.data.zero_()
model.classifier.bias.data = torch.tensor([0.0, 2.0])
model.eval().save_pretrained(folder)
"""
"""Says the same of everything: 0.88 for the second label, whose name is not ASCII."""

GRAPHS = """
import sys
import onnx
from onnx import TensorProto, helper
def save(nodes, inputs, outputs, weights=()):
    def describe(entries):
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", width]) for name, width in entries]
    graph = helper.make_graph(nodes, "graph", describe(inputs), describe(outputs), list(weights))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, sys.argv[1] + "/model.onnx")
if sys.argv[2] == "linear":
    weights = helper.make_tensor("weights", TensorProto.FLOAT, [2, 1], [1.0, 2.0])
    save([helper.make_node("MatMul", ["x", "weights"], ["y"])], [("x", 2)], [("y", 1)], [weights])
else:
    nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Mul", ["a", "b"], ["product"])]
    save(nodes, [("a", 2), ("b", 2)], [("sum", 2), ("product", 2)])
"""

PLAIN = """
def predict_fn(data, model):
    if data == "fail":
        raise RuntimeError("no rudder")
    return data if isinstance(data, (str, bytes)) else {"got": data, "model": model}
"""


@dataclass(frozen=True)
class Model:
    """What is served."""

    toolkit: str
    python: Callable[[], Path]
    program: str = ""
    """Makes the artefact in the folder that is its first argument."""
    kind: str = ""
    code: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)

    def make(self, folder: Path) -> None:
        """Make the artefact without its code."""
        if self.program:
            command: list[str | Path] = [self.python(), "-c", textwrap.dedent(self.program), folder, self.kind]
            done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
            assert done.returncode == 0, done.stderr


_SCRIPT = {"SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code"}
_SELECTED = {"SAGEMAKER_INFERENCE_OUTPUT": "probabilities, predicted_label,predicted_score"}
_SEVERAL = {"SAGEMAKER_MULTI_MODEL": "true"}
_XGBOOST, _TORCH, _FACE = frameworks.xgboost_python, frameworks.torch_python, frameworks.hugging_face_python

MODELS: dict[str, Model] = {
    "sklearn": Model("sklearn", frameworks.sklearn_python, IRIS, code=LOAD_JOBLIB),
    "sklearn of several": Model("sklearn", frameworks.sklearn_python, IRIS, code=LOAD_JOBLIB, variables=_SEVERAL),
    "xgboost": Model("xgboost", _XGBOOST, STUMPS, "native"),
    "xgboost pickled": Model("xgboost", _XGBOOST, STUMPS, "pickled"),
    "xgboost ensemble": Model("xgboost", _XGBOOST, STUMPS, "ensemble"),
    "xgboost first of ensemble": Model(
        "xgboost", _XGBOOST, STUMPS, "ensemble", variables={"SAGEMAKER_INFERENCE_ENSEMBLE": "false"}
    ),
    "xgboost softprob": Model("xgboost", _XGBOOST, STUMPS, "softprob"),
    "xgboost selected": Model("xgboost", _XGBOOST, STUMPS, "native", variables=_SELECTED),
    "xgboost batch": Model("xgboost", _XGBOOST, STUMPS, "native", variables={"SAGEMAKER_BATCH": "true"}),
    "xgboost script": Model("xgboost", _XGBOOST, STUMPS, "native", LOAD_BOOSTER, _SCRIPT),
    "xgboost of several": Model("xgboost", _XGBOOST, STUMPS, "pickled", variables=_SEVERAL),
    "xgboost script of several": Model("xgboost", _XGBOOST, STUMPS, "native", LOAD_BOOSTER, {**_SCRIPT, **_SEVERAL}),
    "pytorch": Model("pytorch", _TORCH, LINEAR),
    "pytorch script": Model("pytorch", _TORCH, code=OUR_STATUS),
    "pytorch wrong arity": Model("pytorch", _TORCH, code=WRONG_ARITY),
    "huggingface": Model("huggingface", _FACE, BERT),
    "onnx": Model("onnx", frameworks.onnx_python, GRAPHS, "linear"),
    "onnx of several": Model("onnx", frameworks.onnx_python, GRAPHS, "two"),
    "python": Model("python", frameworks.plain_python, code=PLAIN),
}
"""By the name that rows say."""
