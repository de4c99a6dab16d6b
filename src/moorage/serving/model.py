"""Loads the customer's code and model, as the container does that it stands for."""

from __future__ import annotations

from collections.abc import Mapping

from . import toolkits
from .customer import Code
from .handlers import Handlers


def load(
    model_dir: str, environment: Mapping[str, str], toolkit: str = "sklearn", *, multi_model: bool = False
) -> Handlers:
    """Import the customer's module and let it, or the toolkit, load the model; raises whatever they raise.

    ``toolkit`` names the container whose defaults, codecs and errors are to be shown; ``multi_model``, or AWS's
    variable for it: those that it has where it serves several models.
    """
    several = multi_model or environment.get("SAGEMAKER_MULTI_MODEL") == "true"
    return toolkits.load(toolkit, model_dir, environment, Code.find(model_dir, environment), multi_model=several)
