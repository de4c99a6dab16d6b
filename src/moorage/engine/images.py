"""Which image URIs stand for a built-in serving stack (data-plane.md section 9.9).

AWS's framework images are known by repository and tag; account, region and partition are those of any user. The
pins say which versions of the framework there are wheels of, for the Python that runs Moorage.
"""

import hashlib
import json
import re
import sys
from dataclasses import dataclass

SERVING_VERSION = "1"
"""Goes up when the built-in server answers differently; part of every digest."""

_URI = re.compile(
    r"(?P<repository>\d{12}\.dkr\.ecr(?:-fips)?\.[a-z0-9-]+\.[a-z0-9.-]+/sagemaker-scikit-learn)"
    r":(?P<tag>(?P<version>\d+\.\d+(?:\.\d+)?-\d+|0\.20\.0)(?:-cpu)?(?:-py3\d*)?)"
)

_COMMON = (
    "joblib==1.4.2",
    "threadpoolctl==3.5.0",
    "python-dateutil==2.9.0.post0",
    "pytz==2024.2",
    "tzdata==2024.2",
    "six==1.16.0",
)

Python = tuple[int, int]

_STACKS: dict[Python, dict[str, tuple[str, ...]]] = {
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
"""By Python and scikit-learn: what has wheels, checked against the package index in November 2026."""

_PREFERRED: dict[str, dict[Python, str]] = {
    "0.20.0": {(3, 11): "1.1.3", (3, 12): "1.3.2"},
    "0.23-1": {(3, 11): "1.1.3", (3, 12): "1.3.2"},
    "1.0-1": {(3, 11): "1.1.3", (3, 12): "1.3.2"},
    "1.2-1": {(3, 11): "1.2.2", (3, 12): "1.3.2"},
    "1.4-2": {(3, 11): "1.4.2", (3, 12): "1.4.2"},
}
"""By AWS's version and Python: the scikit-learn that is the same or nearest; from 3.13 on there is one a Python."""


@dataclass(frozen=True, slots=True)
class BuiltinImage:
    """A serving stack that stands for one of AWS's images."""

    framework: str
    version: str
    """As in AWS's tag: ``1.2-1``."""
    repository: str
    """The URI up to the tag, as the user gave it."""
    tag: str
    digest: str
    """``sha256:...`` of what the built-in consists of."""

    @property
    def resolved(self) -> str:
        """What reports name: ``repository@sha256:...``."""
        return f"{self.repository}@{self.digest}"


@dataclass(frozen=True, slots=True)
class Pins:
    """What an environment consists of."""

    requirements: tuple[str, ...]
    """Each with its exact version, in pip's words; the framework first."""
    warning: str | None
    """For people, when the version is not the image's."""


def resolve(image_uri: str) -> BuiltinImage | None:
    """Give the built-in stack that stands for an image URI; None when there is none."""
    match = _URI.fullmatch(image_uri)
    if match is None or match["version"] not in _PREFERRED:
        return None
    parts = [SERVING_VERSION, "scikit-learn", match["version"], *pins(match["version"]).requirements]
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    return BuiltinImage("scikit-learn", match["version"], match["repository"], match["tag"], f"sha256:{digest}")


def available() -> tuple[str, ...]:
    """Name the images that there are, for the error that refuses another."""
    return tuple(f"sagemaker-scikit-learn:{version}-cpu-py3" for version in _PREFERRED)


def pins(version: str, python: Python = (sys.version_info.major, sys.version_info.minor)) -> Pins:
    """Give the packages that stand for AWS's scikit-learn image of a version, on a Python."""
    known = python if python in _STACKS else max(_STACKS)  # a newer Python: pip says what has no wheels
    stacks = _STACKS[known]
    framework = _PREFERRED[version].get(known) or next(iter(stacks))
    warning = None
    if framework.split(".")[:2] != version.partition("-")[0].split(".")[:2]:
        warning = (
            f"The image has scikit-learn {version.partition('-')[0]}, of which there are no wheels for Python "
            f"{python[0]}.{python[1]}; the nearest one, {framework}, stands in for it."
        )
    return Pins((f"scikit-learn=={framework}", *stacks[framework], *_COMMON), warning)
