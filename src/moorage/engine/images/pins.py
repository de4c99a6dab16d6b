"""What packages a built-in image consists of, by the Python that runs Moorage. Pure.

Each list is complete: pip installs exactly this. All were checked against the package index in November 2026
(``scripts/check_pins.py``): there are wheels for x86-64, and no package asks for another version of one of the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Python = tuple[int, int]
"""Major and minor version."""

NEWEST_PYTHON: Python = (3, 14)


@dataclass(frozen=True, slots=True)
class Pins:
    """What an environment consists of."""

    requirements: tuple[str, ...]
    """Each with its exact version, in pip's words; the framework first."""
    warning: str | None = None
    """For people, when the version is not the image's."""
    open_ended: bool = False
    """The framework's wheels may ask for more packages than these, each in one version: libraries for GPUs."""


_SKLEARN_COMMON = (
    "joblib==1.4.2",
    "threadpoolctl==3.5.0",
    "python-dateutil==2.9.0.post0",
    "pytz==2024.2",
    "tzdata==2024.2",
    "six==1.16.0",
)

_SKLEARN: Mapping[Python, Mapping[str, tuple[str, ...]]] = {
    (3, 11): {
        "1.1.3": ("numpy==1.23.5", "scipy==1.9.3", "pandas==1.5.3"),
        "1.2.2": ("numpy==1.26.4", "scipy==1.11.4", "pandas==2.1.4"),
        "1.4.2": ("numpy==1.26.4", "scipy==1.12.0", "pandas==2.1.4"),
    },
    (3, 12): {
        "1.3.2": ("numpy==1.26.4", "scipy==1.11.4", "pandas==2.1.4"),
        "1.4.2": ("numpy==1.26.4", "scipy==1.12.0", "pandas==2.1.4"),
    },
    (3, 13): {"1.5.2": ("numpy==2.1.3", "scipy==1.14.1", "pandas==2.2.3")},
    (3, 14): {"1.7.2": ("numpy==2.3.5", "scipy==1.16.3", "pandas==2.3.3")},
}

_NUMPY: Mapping[Python, str] = {
    (3, 11): "numpy==1.26.4",
    (3, 12): "numpy==1.26.4",
    (3, 13): "numpy==2.1.3",
    (3, 14): "numpy==2.3.5",
}

_XGBOOST = ("2.1.4", "3.0.5")
"""Of ``xgboost-cpu``, whose first version is 2.1.1: it has wheels for every Python."""

_ONNX: Mapping[Python, tuple[str, ...]] = {
    (3, 11): ("1.17.3", "1.20.1", "1.22.1", "1.24.4", "1.32.0"),
    (3, 12): ("1.17.3", "1.20.1", "1.22.1", "1.24.4", "1.32.0"),
    (3, 13): ("1.20.1", "1.22.1", "1.24.4", "1.32.0"),
    (3, 14): ("1.24.4", "1.32.0"),
}

_ONNX_COMMON = (
    "coloredlogs==15.0.1",
    "flatbuffers==25.12.19",
    "humanfriendly==10.0",
    "mpmath==1.3.0",
    "packaging==25.0",
    "protobuf==5.29.5",
    "sympy==1.13.3",
)

_TORCH: Mapping[Python, tuple[str, ...]] = {
    (3, 11): ("2.0.1", "2.1.2", "2.2.2", "2.3.1", "2.4.1", "2.5.1", "2.6.0", "2.7.1", "2.8.0", "2.9.1"),
    (3, 12): ("2.2.2", "2.3.1", "2.4.1", "2.5.1", "2.6.0", "2.7.1", "2.8.0", "2.9.1"),
    (3, 13): ("2.5.1", "2.6.0", "2.7.1", "2.8.0", "2.9.1"),
    (3, 14): ("2.9.1",),
}

_TORCH_COMMON = (
    "filelock==3.16.1",
    "fsspec==2024.12.0",
    "jinja2==3.1.6",
    "markupsafe==3.0.3",
    "mpmath==1.3.0",
    "networkx==3.4.2",
    "setuptools==75.8.2",
    "typing-extensions==4.15.0",
)

_SYMPY_OF_TORCH = {"2.5.1": "sympy==1.13.1", "2.6.0": "sympy==1.13.1"}
"""These ask for this very one."""

_TRANSFORMERS: Mapping[Python, Mapping[str, str]] = {
    (3, 11): {
        "4.28.1": "tokenizers==0.13.3",
        "4.37.2": "tokenizers==0.15.2",
        "4.49.0": "tokenizers==0.21.4",
        "4.51.3": "tokenizers==0.21.4",
    },
    (3, 12): {"4.37.2": "tokenizers==0.15.2", "4.49.0": "tokenizers==0.21.4", "4.51.3": "tokenizers==0.21.4"},
    (3, 13): {"4.49.0": "tokenizers==0.21.4", "4.51.3": "tokenizers==0.21.4"},
    (3, 14): {"4.49.0": "tokenizers==0.21.4", "4.51.3": "tokenizers==0.21.4"},
}

_TRANSFORMERS_COMMON = (
    "certifi==2025.11.12",
    "charset-normalizer==3.4.4",
    "huggingface-hub==0.30.2",
    "idna==3.11",
    "packaging==25.0",
    "pillow==12.0.0",
    "protobuf==5.29.5",
    "pyyaml==6.0.3",
    "regex==2025.11.3",
    "requests==2.32.5",
    "safetensors==0.6.2",
    "sentencepiece==0.2.1",
    "tqdm==4.67.1",
    "urllib3==2.5.0",
)


def scikit_learn(version: str, python: Python) -> Pins:
    """Give the packages of AWS's scikit-learn image of a version (``1.2-1``), on a Python."""
    wanted, stacks = version.partition("-")[0], _SKLEARN[known(python)]
    framework = nearest(wanted, tuple(stacks))
    requirements = (f"scikit-learn=={framework}", *stacks[framework], *_SKLEARN_COMMON)
    return Pins(requirements, _other_version("scikit-learn", "scikit-learn", wanted, framework, python))


def xgboost(version: str, python: Python) -> Pins:
    """Give the packages of AWS's XGBoost image of a version (``1.7-1``): scikit-learn and pandas are in it too."""
    wanted = version.partition("-")[0]
    framework = nearest(wanted, _XGBOOST)
    beside = scikit_learn("1.4", python).requirements
    warning = _other_version("XGBoost", "xgboost-cpu", wanted, framework, python)
    return Pins((f"xgboost-cpu=={framework}", *beside), warning)


def pytorch(version: str, python: Python) -> Pins:
    """Give the packages of AWS's PyTorch image of a version (``2.3.0``)."""
    framework = nearest(version, _TORCH[known(python)])
    sympy = _SYMPY_OF_TORCH.get(framework, "sympy==1.13.3")
    requirements = (f"torch=={framework}", _NUMPY[known(python)], sympy, *_TORCH_COMMON)
    return Pins(requirements, _other_version("PyTorch", "torch", version, framework, python), open_ended=True)


def huggingface(torch: str, transformers: str, python: Python) -> Pins:
    """Give the packages of AWS's Hugging Face image of two versions."""
    below, stacks = pytorch(torch, python), _TRANSFORMERS[known(python)]
    framework = nearest(transformers, tuple(stacks))
    other = _other_version("transformers", "transformers", transformers, framework, python)
    warning = " ".join(text for text in (other, below.warning) if text) or None
    requirements = (
        f"transformers=={framework}",
        stacks[framework],
        *_TRANSFORMERS_COMMON,
        *below.requirements,
    )
    return Pins(requirements, warning, open_ended=True)


def onnx(version: str, python: Python) -> Pins:
    """Give the packages of ``moorage/onnx``, whose versions are onnxruntime's; empty: the newest."""
    versions = _ONNX[known(python)]
    framework = nearest(version, versions) if version else versions[-1]
    warning = _other_version("onnxruntime", "onnxruntime", version, framework, python) if version else None
    return Pins((f"onnxruntime=={framework}", _NUMPY[known(python)], *_ONNX_COMMON), warning)


def plain_python(version: str, python: Python) -> Pins:
    """Give the packages of ``moorage/python``, whose versions are Python's: none, its codecs need none."""
    running = f"{python[0]}.{python[1]}"
    warning = None
    if version and version != running:
        warning = f"The image is Python {version}; Python {running}, which runs Moorage, stands in for it."
    return Pins((), warning)


def known(python: Python) -> Python:
    """Give the Python whose pins are taken: of a newer one pip says what has no wheels."""
    return min(python, NEWEST_PYTHON)


def nearest(wanted: str, versions: Sequence[str]) -> str:
    """Give the version of the same minor one, or else the next newer, or else the newest; ``versions`` ascend."""
    release = _release(wanted)
    newer = (version for version in versions if _release(version) >= release)
    return next(newer, versions[-1])


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def _other_version(title: str, package: str, wanted: str, given: str, python: Python) -> str | None:
    if _release(wanted) == _release(given):
        return None
    return (
        f"The image has {title} {wanted}, of which {package} has no wheels for Python {python[0]}.{python[1]}; "
        f"the nearest one, {given}, stands in for it."
    )
