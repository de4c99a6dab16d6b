"""S3's XML, written and read."""

import re
from collections.abc import Iterable
from xml.etree import ElementTree as ET

from moorage.neighbours.s3.faults import malformed_xml

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"

Content = str | int | bool | None | Iterable["Element"]
Element = tuple[str, Content]
"""A name, and text or further elements; an element with None is left out."""

_SPECIAL = re.compile(r"[&<>\x00-\x1f\x7f-\x9f\ufffe\uffff]")
_NAMED = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def write(name: str, content: Content, *, namespace: str | None = NAMESPACE) -> bytes:
    """Make a document."""
    opening = f' xmlns="{namespace}"' if namespace else ""
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<{name}{opening}>{_inner(content)}</{name}>'
    return text.encode("utf-8", "replace")


def _element(name: str, content: Content) -> str:
    return "" if content is None else f"<{name}>{_inner(content)}</{name}>"


def _inner(content: Content) -> str:
    if content is None:
        return ""
    if isinstance(content, bool):
        return "true" if content else "false"
    if isinstance(content, str):
        return _escaped(content)
    if isinstance(content, int):
        return str(content)
    return "".join(_element(*element) for element in content)


def _escaped(text: str) -> str:
    # Control characters that XML 1.0 cannot have are written like S3 writes them; clients ask for URL encoding.
    return _SPECIAL.sub(lambda found: _NAMED.get(found[0]) or f"&#x{ord(found[0]):x};", text)


def read(document: bytes, root: str) -> ET.Element:
    """Read a document whose outermost element has a name; namespaces are dropped. Raises MalformedXML."""
    if b"<!DOCTYPE" in document or b"<!ENTITY" in document:
        raise malformed_xml()
    try:
        tree = ET.fromstring(document)  # noqa: S314 - no DTD, so no entities
    except (ET.ParseError, ValueError, LookupError) as fault:
        raise malformed_xml() from fault
    for element in tree.iter():
        element.tag = str(element.tag).rpartition("}")[2]
    if tree.tag != root:
        raise malformed_xml()
    return tree


def text_of(element: ET.Element, name: str) -> str | None:
    """Give the text of a child; None when it is not there."""
    return element.findtext(name)
