"""Ranges and conditions of reads. Pure."""

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from moorage.aws.errors import ClientFault
from moorage.neighbours.s3.faults import not_implemented
from moorage.objects.faults import PreconditionFailed
from moorage.objects.store import Condition, ObjectInfo

_RANGE = re.compile(r"bytes=([0-9]{0,19})-([0-9]{0,19})")


def read_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Give the first byte and the one behind the last; None for the whole object.

    A header that is no single range of bytes is as good as none (RFC 9110, 14.2). Raises InvalidRange.
    """
    found = _RANGE.fullmatch(header.strip()) if header else None
    if found is None or found.group(1, 2) == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return None
    if start >= size or start >= end:
        raise ClientFault(
            "InvalidRange",
            "The requested range is not satisfiable",
            status=416,
            members={"RangeRequested": header, "ActualObjectSize": size},
        )
    return start, end


def names_etag(header: str, etag: str) -> bool:
    """Say whether a list of ETags has this one."""
    tags = {tag.strip().removeprefix("W/").strip('"') for tag in header.split(",")}
    return bool(tags & {etag, "*"})


def unchanged(headers: Mapping[str, str], info: ObjectInfo, prefix: str = "") -> bool:
    """Say whether the reader has the object already, so that the answer is 304; raises PreconditionFailed.

    The order is RFC 9110's (13.2.2): an ETag counts more than a time. ``prefix`` is that of copies.
    """
    modified = int(info.modified_at)
    if (tags := headers.get(prefix + "if-match")) is not None:
        if not names_etag(tags, info.etag):
            raise PreconditionFailed("If-Match")
    elif (moment := _moment(headers.get(prefix + "if-unmodified-since"))) is not None and modified > moment:
        raise PreconditionFailed("If-Unmodified-Since")
    if (tags := headers.get(prefix + "if-none-match")) is not None:
        return names_etag(tags, info.etag)
    moment = _moment(headers.get(prefix + "if-modified-since"))
    return moment is not None and modified <= moment


def write_condition(headers: Mapping[str, str]) -> Condition:
    """Read what must hold of the object that a write replaces; raises NotImplemented."""
    absent = headers.get("if-none-match")
    if absent not in (None, "*"):
        raise not_implemented("If-None-Match with anything but * on writes")
    etag = headers.get("if-match")
    return Condition(absent=absent is not None, etag=None if etag is None else etag.strip().strip('"'))


def _moment(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None
