"""The predictors of the SageMaker Python SDK 2 for frameworks, as they are: what they send and how they read answers.

Arguments: none; the endpoints are called as their frameworks. The last line printed is what was seen, as JSON.
"""

import json
import sys

import numpy as np
import sagemaker
from sagemaker.huggingface.model import HuggingFacePredictor
from sagemaker.pytorch.model import PyTorchPredictor
from sagemaker.xgboost.model import XGBoostPredictor

session = sagemaker.Session(default_bucket="predictors")
seen = {
    "xgboost": XGBoostPredictor("xgboost", sagemaker_session=session).predict("0 1:1 4:0\n0 1:0 4:0"),
    "pytorch": PyTorchPredictor("pytorch", sagemaker_session=session)
    .predict(np.array([[1, 2], [3, 4]], dtype="float32"))
    .tolist(),
    "huggingface": HuggingFacePredictor("huggingface", sagemaker_session=session).predict({"inputs": "the good ship"}),
}
sys.stdout.write(json.dumps(seen) + "\n")
