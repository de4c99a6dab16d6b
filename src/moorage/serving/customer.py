"""The customer's own code: where it is, and its import (data-plane.md section 9.1)."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from . import lookalikes

_MODEL_DIR_ON_AWS = "/opt/ml/model"
_SHOWN_NAMES = 10


class MissingCode(Exception):
    """The environment names code that is not there."""


@dataclass(frozen=True)
class Code:
    """A module that may be there."""

    folder: Path
    program: str
    """As SAGEMAKER_PROGRAM names it; empty: it does not, and the module may be missing."""
    model_dir: str

    @classmethod
    def find(cls, model_dir: str, environment: Mapping[str, str]) -> Code:
        """Say where the code is by the container's environment; raises MissingCode."""
        folder = code_folder(model_dir, environment.get("SAGEMAKER_SUBMIT_DIRECTORY", ""))
        return cls(folder, environment.get("SAGEMAKER_PROGRAM", ""), model_dir)

    def load(self) -> ModuleType | None:
        """Import the module; None where there is none and none is named. Raises MissingCode and what the import raises.

        What AWS's containers have installed beside the framework can be imported by it (``lookalikes``).
        """
        name = (self.program or "inference.py").removesuffix(".py")
        if not self.folder.joinpath(f"{name}.py").is_file() and not self.folder.joinpath(name, "__init__.py").is_file():
            if not self.program:
                return None
            raise MissingCode(f"SAGEMAKER_PROGRAM is {self.program}, but {self.folder} has no such file.")
        sys.path.insert(0, str(self.folder))
        lookalikes.install()
        return importlib.import_module(name.replace("/", "."))

    def require(self, why: str) -> ModuleType:
        """Import the module, or raise NotImplementedError with the container's words and what there is instead."""
        module = self.load()
        if module is None:
            raise NotImplementedError(f"{why}\n{_what_is_there(self.folder, self.model_dir)}")
        return module


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
