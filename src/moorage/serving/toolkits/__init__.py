"""How the server behaves for each framework container (data-plane.md sections 9.3 to 9.6; docs/reference/toolkits.md).

Each module's ``load(model_dir, environment, code, *, multi_model)`` gives the ``Handlers`` of a loaded model. They
import their frameworks where they use them: this package is loaded in every environment.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..customer import Code
from ..handlers import Handlers
from . import huggingface, onnx, python, pytorch, sklearn, xgboost

_TOOLKITS = {
    "sklearn": sklearn.load,
    "xgboost": xgboost.load,
    "pytorch": pytorch.load,
    "huggingface": huggingface.load,
    "onnx": onnx.load,
    "python": python.load,
}

TOOLKITS = tuple(_TOOLKITS)


def load(
    toolkit: str, model_dir: str, environment: Mapping[str, str], code: Code, *, multi_model: bool = False
) -> Handlers:
    """Load the model of a folder as a toolkit's container does; raises whatever that and the customer's code raise.

    ``multi_model``: as the container does when it serves several models (data-plane.md section 9.3).
    """
    if toolkit not in _TOOLKITS:
        raise ValueError(f"There is no toolkit {toolkit}; there are {', '.join(TOOLKITS)}.")
    return _TOOLKITS[toolkit](model_dir, environment, code, multi_model=multi_model)
