"""Finds the customer's module and loads it and the model (data-plane.md section 9.1)."""

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path

from . import media
from .handlers import NO_MODEL_FN, Handlers

_MODEL_DIR_ON_AWS = "/opt/ml/model"
_SHOWN_NAMES = 10


class MissingCode(Exception):
    """The environment names code that is not there."""


def load(model_dir: str, environment: Mapping[str, str], toolkit: str = "sklearn") -> Handlers:
    """Import the customer's module and let its model_fn load the model; raises whatever they raise.

    ``toolkit`` names the container whose defaults, codecs and errors are to be shown.
    """
    if toolkit != "sklearn":
        raise ValueError(f"There is no toolkit {toolkit}.")
    program = environment.get("SAGEMAKER_PROGRAM", "")
    folder = code_folder(model_dir, environment.get("SAGEMAKER_SUBMIT_DIRECTORY", ""))
    name = (program or "inference.py").removesuffix(".py")
    if not folder.joinpath(f"{name}.py").is_file() and not folder.joinpath(name, "__init__.py").is_file():
        if not program:
            raise NotImplementedError(f"{NO_MODEL_FN}\n{_what_is_there(folder, model_dir)}")
        raise MissingCode(f"SAGEMAKER_PROGRAM is {program}, but {folder} has no such file.")
    sys.path.insert(0, str(folder))
    module = importlib.import_module(name.replace("/", "."))
    accept = environment.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT") or media.JSON
    return Handlers(module, model_dir, accept)


def code_folder(model_dir: str, submitted: str) -> Path:
    """Give the folder of the customer's code: ``code`` of the artefact, unless another is named.

    What was submitted at an S3 URI is there too: the node agent has put it in the place of the artefact's own.
    """
    if not submitted or submitted.startswith("s3://"):
        return Path(model_dir, "code")
    if "://" in submitted:
        raise MissingCode(
            f"SAGEMAKER_SUBMIT_DIRECTORY is {submitted}. Moorage takes code from s3:// or from the model artefact: put "
            f"it into the folder code of model.tar.gz and set SAGEMAKER_SUBMIT_DIRECTORY to {_MODEL_DIR_ON_AWS}/code."
        )
    path = Path(submitted)
    if path.is_relative_to(_MODEL_DIR_ON_AWS):  # the plain-process engine has the artefact elsewhere
        return Path(model_dir, path.relative_to(_MODEL_DIR_ON_AWS))
    return path


def _what_is_there(folder: Path, model_dir: str) -> str:
    """Say what the artefact has in place of code: most often it was packed together with the folder that it was in."""
    names = sorted(path.name for path in Path(model_dir).iterdir())
    shown = ", ".join(names[:_SHOWN_NAMES]) + (", ..." if len(names) > _SHOWN_NAMES else "")
    return f"There is no {folder}/inference.py. At the top of the artefact are: {shown or 'no files'}."
