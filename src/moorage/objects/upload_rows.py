"""The statements that read and write multipart uploads and their parts.

All take a connection; those that write are called within a transaction.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from moorage.objects.faults import EntityTooSmall, InvalidPart, InvalidPartOrder, NoSuchUpload
from moorage.objects.rows import (
    find_bucket,
    pack_checksum,
    pack_description,
    pack_encryption,
    unpack_checksum,
    unpack_description,
    unpack_encryption,
)
from moorage.objects.store import NamedPart, Part, Upload

LEAST_PART_BYTES = 5 * 2**20
"""Smallest part that is not the last (S3's limit)."""

_PART = "number, size, etag, modified_at, checksum, blob"
_UPLOAD = "id, bucket, key, started_at, description, algorithm, kind, encryption"


@dataclass(frozen=True, slots=True)
class KeptPart:
    """A part and its blob."""

    part: Part
    blob: str


def start_upload(connection: sqlite3.Connection, upload: Upload) -> None:
    """Record an upload; raises NoSuchBucket."""
    find_bucket(connection, upload.bucket)
    connection.execute(
        "INSERT INTO uploads VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            upload.upload_id,
            upload.bucket,
            upload.key,
            upload.started_at,
            pack_description(upload.description),
            upload.algorithm,
            upload.kind,
            pack_encryption(upload.encryption),
        ],
    )


def find_upload(connection: sqlite3.Connection, bucket: str, key: str, upload_id: str) -> Upload:
    """Give an upload; raises NoSuchBucket, NoSuchUpload."""
    row = connection.execute(
        f"SELECT {_UPLOAD} FROM uploads WHERE id = ? AND bucket = ? AND key = ?",  # noqa: S608
        [upload_id, bucket, key],
    ).fetchone()
    if row is None:
        find_bucket(connection, bucket)
        raise NoSuchUpload(upload_id)
    return _unpack_upload(row)


def list_uploads(
    connection: sqlite3.Connection, bucket: str, *, prefix: str, after: tuple[str, str], limit: int
) -> list[Upload]:
    """List a bucket's uploads by key and id."""
    find_bucket(connection, bucket)
    rows = connection.execute(
        f"SELECT {_UPLOAD} FROM uploads WHERE bucket = ? AND (key, id) > (?, ?) "  # noqa: S608
        "AND substr(key, 1, ?) = ? ORDER BY key, id LIMIT ?",
        [bucket, *after, len(prefix), prefix, limit],
    )
    return [_unpack_upload(row) for row in rows]


def put_part(connection: sqlite3.Connection, upload: Upload, kept: KeptPart) -> list[str]:
    """Record a part in place of one of its number; gives the blobs that are no longer named."""
    find_upload(connection, upload.bucket, upload.key, upload.upload_id)
    part = kept.part
    replaced = connection.execute(
        "SELECT blob FROM parts WHERE upload = ? AND number = ?", [upload.upload_id, part.number]
    ).fetchall()
    connection.execute(
        "INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            upload.upload_id,
            part.number,
            kept.blob,
            part.size,
            part.etag,
            part.modified_at,
            pack_checksum(part.checksum),
        ],
    )
    return [blob for (blob,) in replaced]


def list_parts(connection: sqlite3.Connection, upload: Upload, *, after: int, limit: int) -> list[KeptPart]:
    """List an upload's parts by number; no limit when it is negative."""
    find_upload(connection, upload.bucket, upload.key, upload.upload_id)
    rows = connection.execute(
        f"SELECT {_PART} FROM parts WHERE upload = ? AND number > ? ORDER BY number LIMIT ?",  # noqa: S608
        [upload.upload_id, after, limit],
    )
    return [
        KeptPart(Part(number, size, etag, modified_at, unpack_checksum(checksum)), blob)
        for number, size, etag, modified_at, checksum, blob in rows
    ]


def remove_upload(connection: sqlite3.Connection, upload: Upload) -> list[str]:
    """Forget an upload and its parts; gives the blobs that are no longer named. Raises NoSuchUpload."""
    blobs = [kept.blob for kept in list_parts(connection, upload, after=0, limit=-1)]
    connection.execute("DELETE FROM parts WHERE upload = ?", [upload.upload_id])
    connection.execute("DELETE FROM uploads WHERE id = ?", [upload.upload_id])
    return blobs


def choose_parts(upload: Upload, there: Sequence[KeptPart], named: Sequence[NamedPart]) -> list[KeptPart]:
    """Find the parts that a completion names.

    Raises InvalidPartOrder, InvalidPart, EntityTooSmall.
    """
    numbers = [part.number for part in named]
    if any(second <= first for first, second in pairwise(numbers)):
        raise InvalidPartOrder(upload.upload_id)
    by_number = {kept.part.number: kept for kept in there}
    chosen = []
    for wanted in named:
        kept = by_number.get(wanted.number)
        if kept is None or kept.part.etag != wanted.etag or not _checksum_agrees(kept.part, wanted):
            raise InvalidPart(upload.upload_id, wanted.number, wanted.etag)
        chosen.append(kept)
    for kept in chosen[:-1]:
        if kept.part.size < LEAST_PART_BYTES:
            raise EntityTooSmall(kept.part.number, kept.part.etag, kept.part.size, LEAST_PART_BYTES)
    return chosen


def _checksum_agrees(part: Part, wanted: NamedPart) -> bool:
    return wanted.checksum is None or (part.checksum is not None and part.checksum.value == wanted.checksum)


def _unpack_upload(row: Sequence[str]) -> Upload:
    upload_id, bucket, key, started_at, description, algorithm, kind, encryption = row
    return Upload(
        upload_id,
        bucket,
        key,
        float(started_at),
        unpack_description(description),
        algorithm,
        kind,
        unpack_encryption(encryption),
    )
