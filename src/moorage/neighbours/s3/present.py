"""How values look in S3's answers. Pure."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import formatdate
from urllib.parse import quote

from moorage.neighbours.s3 import xml
from moorage.neighbours.s3.faults import invalid_argument
from moorage.neighbours.s3.request import META
from moorage.neighbours.web import Answer
from moorage.objects.store import Checksum, ObjectInfo

_XML = ("content-type", "application/xml")


def xml_answer(name: str, content: xml.Content, headers: Iterable[tuple[str, str]] = ()) -> Answer:
    """Make an answer of a document."""
    return Answer(headers=(_XML, *headers), body=xml.write(name, content))


def iso_time(timestamp: float) -> str:
    """Give a time as S3's documents do: in UTC, with milliseconds that are always 0."""
    return datetime.fromtimestamp(int(timestamp), UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def checksum_headers(checksum: Checksum | None) -> list[tuple[str, str]]:
    """Give the headers that tell a checksum."""
    if checksum is None:
        return []
    return [(f"x-amz-checksum-{checksum.algorithm}", checksum.value), ("x-amz-checksum-type", checksum.kind)]


def checksum_elements(checksum: Checksum | None) -> list[xml.Element]:
    """Give the elements that tell a checksum."""
    if checksum is None:
        return []
    return [(f"Checksum{checksum.algorithm.upper()}", checksum.value), ("ChecksumType", checksum.kind)]


def object_headers(info: ObjectInfo) -> dict[str, str]:
    """Give the headers that describe an object."""
    return {
        "last-modified": formatdate(int(info.modified_at), usegmt=True),
        "etag": f'"{info.etag}"',
        "accept-ranges": "bytes",
        "content-type": info.description.content_type,
        **info.description.headers,
        **{META + name: value for name, value in info.description.metadata.items()},
    }


def object_element(info: ObjectInfo, encoding: str | None, owner: str | None) -> xml.Element:
    """Give the element of a list."""
    checksum = info.checksum
    return (
        "Contents",
        [
            ("Key", encoded(info.key, encoding)),
            ("LastModified", iso_time(info.modified_at)),
            ("ETag", f'"{info.etag}"'),
            ("ChecksumAlgorithm", checksum.algorithm.upper() if checksum else None),
            ("ChecksumType", checksum.kind if checksum else None),
            ("Size", info.size),
            ("Owner", None if owner is None else [("ID", owner)]),
            ("StorageClass", "STANDARD"),
        ],
    )


def read_encoding(query: Mapping[str, str]) -> str | None:
    """Read ``encoding-type``; raises InvalidArgument."""
    encoding = query.get("encoding-type")
    if encoding not in (None, "url"):
        raise invalid_argument("Invalid Encoding Method specified in Request", "encoding-type", encoding)
    return encoding


def encoded(text: str, encoding: str | None) -> str:
    """Give a key as the client wants it."""
    return quote(text, safe="/") if encoding else text


def read_count(query: Mapping[str, str], name: str, most: int = 1000) -> int:
    """Read how many entries a page may have; more than the most is the most. Raises InvalidArgument."""
    text = query.get(name)
    if text is None or text == "":
        return most
    if not text.isascii() or not text.isdecimal() or len(text) > 10 or int(text) > 2**31 - 1:
        raise invalid_argument(f"Argument {name} must be an integer between 0 and 2147483647", name, text)
    return min(int(text), most)
