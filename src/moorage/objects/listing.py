"""Lists by seeking: a page costs what it shows, however many keys a common prefix hides.

Keys are ordered by their UTF-8 bytes, which is both S3's order and SQLite's. A common prefix is found at its first
key; the next search starts behind everything that begins with it.
"""

import sqlite3

from moorage.objects.rows import OBJECT, unpack_object
from moorage.objects.store import ObjectInfo, Page

_LAST = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)


def behind(prefix: str) -> str | None:
    """Give the least text that is greater than every text with a prefix; None when there is none."""
    while prefix:
        code = ord(prefix[-1]) + 1
        prefix = prefix[:-1]
        if code in _SURROGATES:
            code = _SURROGATES.stop
        if code <= _LAST:
            return prefix + chr(code)
    return None


def common_prefix(key: str, prefix: str, delimiter: str) -> str | None:
    """Give what a key is rolled up to, the delimiter included; None when it stands for itself."""
    end = key.find(delimiter, len(prefix)) if delimiter else -1
    return key[: end + len(delimiter)] if end >= 0 else None


def first_after(after: str, prefix: str, delimiter: str) -> tuple[str, str] | None:
    """Give the comparison and the text with which a page's first key is found; None when there can be none."""
    if after < prefix or not after:
        return ">=", prefix
    if after.startswith(prefix) and common_prefix(after, prefix, delimiter) == after:
        return _behind(after)
    return ">", after


def list_page(  # noqa: PLR0913 - the parameters of ListObjectsV2
    connection: sqlite3.Connection, bucket: str, *, prefix: str, delimiter: str, after: str, limit: int
) -> Page:
    """List what comes after a key or a common prefix, at most ``limit`` entries."""
    objects: list[ObjectInfo] = []
    common: list[str] = []
    last = ""
    start = first_after(after, prefix, delimiter) if limit else None
    while start is not None:
        rows = _search(connection, bucket, start, behind(prefix))
        start = None
        for row in rows:
            if len(objects) + len(common) == limit:
                rows.close()
                return Page(objects, common, last)
            rolled = common_prefix(row[0], prefix, delimiter)
            if rolled is not None:
                common.append(rolled)
                last = rolled
                start = _behind(rolled)
                break
            objects.append(unpack_object(bucket, row))
            last = row[0]
        rows.close()
    return Page(objects, common, None)


def _behind(prefix: str) -> tuple[str, str] | None:
    end = behind(prefix)
    return None if end is None else (">=", end)


def _search(connection: sqlite3.Connection, bucket: str, start: tuple[str, str], end: str | None) -> sqlite3.Cursor:
    comparison, text = start
    bounds = f"key {comparison} ?" + (" AND key < ?" if end is not None else "")
    return connection.execute(
        f"SELECT {OBJECT} FROM objects WHERE bucket = ? AND {bounds} ORDER BY key",  # noqa: S608
        [bucket, text] + ([end] if end is not None else []),
    )
