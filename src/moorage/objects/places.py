"""Where an object is that a URI names: in a bucket, or at a web server.

S3 has names of its own at https as well ("Virtual hosting of buckets" in its user guide): they mean the same object as
``s3://``. One with a query (a presigned URL, a version) is what its server makes of it.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from moorage.objects.faults import UnusableUri
from moorage.objects.store import parse_s3_uri

_REGION = r"[a-z]{2,4}(?:-[a-z]+)+-\d"
_S3_HOST = re.compile(
    rf"(?:(?P<bucket>.+)\.)?s3(?:-fips)?(?:\.dualstack)?(?:[.-]{_REGION})?\.amazonaws\.com(?:\.cn)?", re.IGNORECASE
)
"""With the bucket in front, or without it."""


@dataclass(frozen=True, slots=True)
class S3Place:
    """An object, or a prefix of objects' keys, in a bucket."""

    bucket: str
    key: str

    @property
    def uri(self) -> str:
        """Its name."""
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True, slots=True)
class WebPlace:
    """What a web server has at an ``https://`` URL."""

    uri: str

    @property
    def key(self) -> str:
        """Its path, as an object's key."""
        return unquote(urlsplit(self.uri).path).removeprefix("/")


Place = S3Place | WebPlace


def parse_place(uri: str) -> Place:
    """Say where a ``s3://`` or ``https://`` URI leads; raises UnusableUri."""
    if not uri.startswith("https://"):
        return S3Place(*parse_s3_uri(uri))
    try:
        parts = urlsplit(uri)
        host, has_port = parts.hostname or "", parts.port is not None
    except ValueError as fault:
        raise UnusableUri(f"{uri!r} is not a URL: {fault}") from fault
    if not host or not uri.isascii() or any(character <= " " for character in uri):
        raise UnusableUri(f"{uri!r} is not of the form https://host/path")
    if "@" in parts.netloc:
        raise UnusableUri("a URL with a user's name or password in it is not accepted")
    match = None if has_port or parts.query else _S3_HOST.fullmatch(host)
    if match is None:
        return WebPlace(uri.partition("#")[0])
    path = unquote(parts.path).removeprefix("/")
    if match["bucket"] is not None:
        return S3Place(match["bucket"], path)
    return S3Place(*parse_s3_uri(f"s3://{path}"))
