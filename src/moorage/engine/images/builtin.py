"""Which image URIs stand for a built-in serving stack (data-plane.md section 9.9). Pure.

AWS's framework images are known by repository and tag, those that AWS does not have by a name of Moorage's own. One
row of ``FRAMEWORKS`` says all of a framework: a further one is a row here and a list in ``pins``.
"""

import hashlib
import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from moorage.engine.images import pins
from moorage.engine.images.names import ImageName, parse
from moorage.engine.images.pins import Pins, Python

SERVING_VERSION = "1"
"""Goes up when the built-in server answers differently; part of every digest."""

RUNNING: Python = (sys.version_info.major, sys.version_info.minor)
"""The Python that runs Moorage, and that environments are made of."""

_ANY_REGISTRY = "000000000000.dkr.ecr.us-east-1.amazonaws.com"

Found = Mapping[str, str]
"""What a tag says: the groups of its pattern that are there."""


@dataclass(frozen=True, slots=True)
class Framework:
    """What stands for the images of a framework."""

    name: str
    """Begins the names of its environments, and is part of digests."""
    toolkit: str
    """Which container the built-in server behaves like (``serving.toolkits``)."""
    repositories: tuple[str, ...]
    """The first one is shown."""
    tag: re.Pattern[str]
    """``version`` is the image's; of tags that do not fit there is nothing."""
    shown: tuple[str, ...]
    """Tags that people are told of; those of AWS's that there are, or what they look like."""
    contents: Callable[[Found, Python], Pins]
    preload: tuple[str, ...]
    """Modules that a process imports before it is forked into instances."""
    module: str
    """What a Python must have to stand for an image of it; empty: nothing."""


@dataclass(frozen=True, slots=True)
class BuiltinImage:
    """A serving stack that stands for an image."""

    framework: str
    version: str
    """As in the tag: ``1.2-1``; of more than one thing, joined."""
    toolkit: str
    repository: str
    """The URI up to the tag, as the user gave it."""
    tag: str
    digest: str
    """``sha256:...`` of what the built-in consists of."""
    contents: Pins
    preload: tuple[str, ...]

    @property
    def resolved(self) -> str:
        """What reports name: ``repository@sha256:...``."""
        return f"{self.repository}@{self.digest}"

    @property
    def name(self) -> str:
        """The URI without AWS's registry: the same for users of all regions."""
        named = parse(self.repository)
        repository = self.repository if named is None else named.repository
        return f"{repository}:{self.tag}" if self.tag else repository


_SKLEARN_VERSIONS = ("0.20.0", "0.23-1", "1.0-1", "1.2-1", "1.4-2")
_XGBOOST_VERSIONS = ("0.90-1", "0.90-2", "1.0-1", "1.2-1", "1.2-2", "1.3-1", "1.5-1", "1.7-1", "3.0-5")
_FIRST_XGBOOST = "0.72-1"
"""What the built-in algorithm ``xgboost:1`` has."""

_OF = r"(?:-(?P<processor>cpu|gpu))?(?:-py\d+)?(?:-[A-Za-z0-9._-]+)?"
"""Processor, Python, and the version of the container with its CUDA and system."""


def _one_of(versions: tuple[str, ...]) -> str:
    return f"(?P<version>{'|'.join(map(re.escape, versions))})"


FRAMEWORKS = (
    Framework(
        name="scikit-learn",
        toolkit="sklearn",
        repositories=("sagemaker-scikit-learn",),
        tag=re.compile(rf"{_one_of(_SKLEARN_VERSIONS)}(?:-cpu)?(?:-py3\d*)?"),
        shown=tuple(f"{version}-cpu-py3" for version in _SKLEARN_VERSIONS),
        contents=lambda found, python: pins.scikit_learn(found["version"], python),
        preload=(
            *("numpy", "scipy.special", "joblib"),
            *("sklearn.compose", "sklearn.ensemble", "sklearn.linear_model", "sklearn.naive_bayes"),
            *("sklearn.neighbors", "sklearn.neural_network", "sklearn.pipeline", "sklearn.preprocessing"),
            *("sklearn.svm", "sklearn.tree"),
        ),
        module="sklearn",
    ),
    Framework(
        name="xgboost",
        toolkit="xgboost",
        repositories=("sagemaker-xgboost",),
        tag=re.compile(rf"{_one_of(_XGBOOST_VERSIONS)}(?:-cpu)?(?:-py3\d*)?"),
        shown=_XGBOOST_VERSIONS,
        contents=lambda found, python: pins.xgboost(found["version"], python),
        preload=("numpy", "scipy.sparse", "xgboost"),
        module="xgboost",
    ),
    Framework(
        name="xgboost",
        toolkit="xgboost",
        repositories=("xgboost",),
        tag=re.compile(r"(?P<old>1|latest)(?:-cpu)?(?:-py3\d*)?"),
        shown=("1", "latest"),
        contents=lambda _found, python: pins.xgboost(_FIRST_XGBOOST, python),
        preload=("numpy", "scipy.sparse", "xgboost"),
        module="xgboost",
    ),
    Framework(
        name="pytorch",
        toolkit="pytorch",
        repositories=("pytorch-inference", "pytorch-inference-graviton"),
        tag=re.compile(rf"(?P<version>[012]\.\d+(?:\.\d+)?){_OF}"),
        shown=("VERSION-cpu-pyVERSION",),
        contents=lambda found, python: pins.pytorch(found["version"], python),
        preload=("numpy", "torch"),
        module="torch",
    ),
    Framework(
        name="huggingface",
        toolkit="huggingface",
        repositories=("huggingface-pytorch-inference",),
        tag=re.compile(
            rf"(?P<version>[12]\.\d+(?:\.\d+)?)-transformers(?P<transformers>[45]\.\d+(?:\.\d+)?){_OF}",
        ),
        shown=("VERSION-transformersVERSION-cpu-pyVERSION",),
        contents=lambda found, python: pins.huggingface(found["version"], found["transformers"], python),
        preload=("numpy", "torch", "transformers.pipelines"),
        module="transformers",
    ),
    Framework(
        name="onnx",
        toolkit="onnx",
        repositories=("moorage/onnx",),
        tag=re.compile(r"(?:(?P<version>1\.\d+(?:\.\d+)?)|latest)?"),
        shown=("VERSION",),
        contents=lambda found, python: pins.onnx(found.get("version", ""), python),
        preload=("numpy", "onnxruntime"),
        module="onnxruntime",
    ),
    Framework(
        name="python",
        toolkit="python",
        repositories=("moorage/python",),
        tag=re.compile(r"(?:(?P<version>3\.\d+)|latest)?"),
        shown=("VERSION",),
        contents=lambda found, python: pins.plain_python(found.get("version", ""), python),
        preload=(),
        module="",
    ),
)

TOOLKITS = tuple(dict.fromkeys(framework.toolkit for framework in FRAMEWORKS))


def resolve(image_uri: str, python: Python = RUNNING) -> BuiltinImage | None:
    """Give the built-in stack that stands for an image URI; None when there is none.

    A digest beside a tag is AWS's: what stands for the tag stands for it. One without a tag says nothing of a version.
    """
    name = parse(image_uri)
    if name is None or (name.digest and not name.tag):
        return None
    framework = of_repository(name.repository, name.tag)
    match = framework and framework.tag.fullmatch(name.tag)
    if not framework or not match:
        return None
    return _make(framework, name, {group: text for group, text in match.groupdict().items() if text}, python)


def resolve_shown(name: str) -> BuiltinImage | None:
    """Give what stands for an image whose URI may lack the registry, as the lists show them."""
    return resolve(name) or resolve(f"{_ANY_REGISTRY}/{name}")


def of_repository(repository: str, tag: str | None = None) -> Framework | None:
    """Give the framework of a repository's images; None for one of which nothing is known."""
    rows = [row for row in FRAMEWORKS if repository in row.repositories]
    fitting = [row for row in rows if tag is not None and row.tag.fullmatch(tag)]
    return next(iter(fitting or rows), None)


def of_toolkit(toolkit: str) -> Framework:
    """Give the framework whose container a toolkit behaves like."""
    return next(row for row in FRAMEWORKS if row.toolkit == toolkit)


def available() -> tuple[str, ...]:
    """Name the images that there are, for the error that refuses another."""
    return tuple(f"{row.repositories[0]}:{tag}" for row in FRAMEWORKS for tag in row.shown)


def what_there_is(image_uri: str) -> str | None:
    """Say what images there are of the repository of one that is not there; None when nothing is known of it."""
    name = parse(image_uri)
    framework = name and of_repository(name.repository)
    if not framework or not name:
        return None
    return f"Built-in images of {name.repository}: {', '.join(framework.shown)}."


def _make(framework: Framework, name: ImageName, found: Found, python: Python) -> BuiltinImage:
    contents = framework.contents(found, python)
    version = "-".join(text for group, text in found.items() if group != "processor")
    parts = [SERVING_VERSION, framework.name, version, *contents.requirements]
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    if found.get("processor") == "gpu":
        contents = Pins(contents.requirements, _for_processors(contents.warning), contents.open_ended)
    return BuiltinImage(
        framework.name,
        version,
        framework.toolkit,
        name.written,
        name.tag,
        f"sha256:{digest}",
        contents,
        framework.preload,
    )


def _for_processors(warning: str | None) -> str:
    own = "The image is one for GPUs; what is built in runs on processors."
    return f"{warning} {own}" if warning else own
