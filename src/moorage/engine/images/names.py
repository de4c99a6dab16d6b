"""The URIs of AWS's images and of Moorage's own (data-plane.md section 9.9). Pure.

    uri = account ".dkr.ecr." region "." suffix "/" repository [":" tag] ["@" digest]
    uri = "moorage/" name [":" tag]

Account, region, partition and the newer names of the registry (``dkr-ecr.REGION.on.aws``) are those of any user: what
an image is stands in its repository and tag.
"""

import re
from dataclasses import dataclass

_REGION = r"[a-z]{2,}(?:-[a-z]+)+-\d+"
_REGISTRY = (
    rf"(?:\d{{12}}\.dkr\.ecr(?:-fips)?\.{_REGION}\.[a-z0-9.-]+|\d{{12}}\.dkr-ecr(?:-fips)?\.{_REGION}\.on\.[a-z.]+)"
)
_URI = re.compile(
    rf"(?P<written>(?:{_REGISTRY}/)(?P<aws>[a-z0-9][a-z0-9._/-]*)|(?P<own>moorage/[a-z0-9][a-z0-9._-]*))"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)


@dataclass(frozen=True, slots=True)
class ImageName:
    """The name of an image of AWS or of Moorage."""

    repository: str
    """Without the registry: ``sagemaker-scikit-learn``, ``moorage/onnx``."""
    written: str
    """The URI up to the tag, as the user gave it."""
    tag: str
    """Empty when there is none."""
    digest: str
    """``sha256:...``, or empty."""


def parse(uri: str) -> ImageName | None:
    """Read an image's URI; None for one that is neither AWS's nor Moorage's."""
    match = _URI.fullmatch(uri)
    if match is None:
        return None
    return ImageName(match["aws"] or match["own"], match["written"], match["tag"] or "", match["digest"] or "")
