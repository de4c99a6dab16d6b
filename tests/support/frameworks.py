"""The Pythons with frameworks that the golden tests of the built-in server run, each made once."""

import asyncio
import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support.made_once import CannotMake, cache_folder, made_once, or_skip, run

from moorage.base.clock import SystemClock
from moorage.base.settings import cache_dir
from moorage.engine.environments import Environments
from moorage.engine.images.builtin import resolve

DEBIAN_PYTHON = Path("/usr/bin/python3")

XGBOOST = ("xgboost-cpu==3.2.0", "numpy==2.3.5", "scipy==1.16.3")
ONNX = (
    "onnxruntime==1.32.0",
    "onnx==1.23.2",
    "numpy==2.3.5",
    "flatbuffers==25.9.23",
    "packaging==25.0",
    "protobuf==7.36.2",
    "ml-dtypes==0.5.4",
    "typing-extensions==4.15.0",
)
HUGGING_FACE = (
    "transformers==4.37.2",
    "tokenizers==0.15.2",
    "huggingface-hub==0.36.2",
    "safetensors==0.8.0",
    "hf-xet==1.8.0",
    "fsspec==2026.9.0",
    "filelock==3.20.0",
    "regex==2026.11.19",
    "tqdm==4.70.1",
    "packaging==25.0",
    "pillow==12.0.0",
    "pyyaml==6.0.3",
    "requests==2.32.5",
    "urllib3==2.5.0",
    "idna==3.11",
    "certifi==2025.11.12",
    "charset-normalizer==3.4.4",
    "typing-extensions==4.15.0",
)
"""Beside Debian's python3-torch: the newest transformers for PyTorch 1.13 and for the hub's client of today."""


def plain_python() -> Path:
    """Give the Python of the tests, which has no framework that an image has."""
    return Path(sys.executable)


def sklearn_python() -> Path:
    """Give the Python of the built-in image of scikit-learn 1.2-1."""
    image = resolve("683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3")
    assert image is not None
    environments = Environments(cache_dir() / "environments", SystemClock())
    return asyncio.run(environments.ensure(image, print)).python


def xgboost_python() -> Path:
    """Give a Python with XGBoost."""
    return _with_packages("xgboost", XGBOOST, Path(sys.executable))


def onnx_python() -> Path:
    """Give a Python with onnxruntime, and with onnx to make models."""
    return _with_packages("onnx", ONNX, Path(sys.executable))


def torch_python() -> Path:
    """Give Debian's Python with its PyTorch."""

    def find() -> Path:
        said = subprocess.run([DEBIAN_PYTHON, "-c", "import torch"], capture_output=True, check=False)
        if said.returncode:
            raise CannotMake("Debian's package python3-torch is not installed")
        return DEBIAN_PYTHON

    return or_skip(find, "PyTorch")


def hugging_face_python() -> Path:
    """Give a Python with transformers over Debian's PyTorch."""
    return _with_packages("huggingface", HUGGING_FACE, torch_python(), "--system-site-packages")


def _with_packages(name: str, packages: Sequence[str], base: Path, *wishes: str) -> Path:
    """Give the Python of a virtual environment with exactly these packages."""

    def make(folder: Path) -> None:
        run(base, "-m", "venv", *wishes, folder)
        run(folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input",
            "--no-deps", "--only-binary", ":all:", *packages)  # fmt: skip

    key = hashlib.sha256("\n".join((str(base), sys.version, *packages)).encode()).hexdigest()[:12]
    return or_skip(lambda: made_once(cache_folder("frameworks") / f"{name}-{key}", make), name) / "bin" / "python"
