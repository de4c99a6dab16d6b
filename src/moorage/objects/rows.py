"""Rows of the index as values, and the statements that read and write buckets and objects.

All take a connection; those that write are called within a transaction.
"""

import base64
from collections.abc import Collection, Sequence
from dataclasses import asdict
from sqlite3 import Connection
from typing import Any

import orjson

from moorage.objects.faults import BucketExists, BucketNotEmpty, NoSuchBucket, NoSuchKey, PreconditionFailed
from moorage.objects.store import Bucket, Checksum, Condition, Description, Encryption, ObjectInfo

OBJECT = "key, blob, size, etag, modified_at, description, checksum, encryption"


def pack_description(description: Description) -> str:
    """Give the JSON of a description."""
    return orjson.dumps([description.content_type, dict(description.headers), dict(description.metadata)]).decode()


def unpack_description(text: str) -> Description:
    """Read the JSON of a description."""
    return Description(*orjson.loads(text))


def pack_checksum(checksum: Checksum | None) -> str | None:
    """Give the JSON of a checksum."""
    if checksum is None:
        return None
    return orjson.dumps([checksum.algorithm, checksum.value, checksum.kind]).decode()


def unpack_checksum(text: str | None) -> Checksum | None:
    """Read the JSON of a checksum."""
    return Checksum(*orjson.loads(text)) if text else None


def pack_encryption(encryption: Encryption | None) -> str | None:
    """Give the JSON of an encryption."""
    if encryption is None:
        return None
    return orjson.dumps({**asdict(encryption), "sealed": base64.b64encode(encryption.sealed).decode()}).decode()


def unpack_encryption(text: str | None) -> Encryption | None:
    """Read the JSON of an encryption."""
    if not text:
        return None
    values = orjson.loads(text)
    return Encryption(**{**values, "sealed": base64.b64decode(values["sealed"])})


def unpack_object(bucket: str, row: Sequence[Any]) -> ObjectInfo:
    """Read the columns of OBJECT."""
    key, _, size, etag, modified_at, description, checksum, encryption = row
    return ObjectInfo(
        bucket,
        key,
        size,
        etag,
        modified_at,
        unpack_description(description),
        unpack_checksum(checksum),
        unpack_encryption(encryption),
    )


def create_bucket(connection: Connection, bucket: Bucket) -> None:
    """Record a bucket; raises BucketExists."""
    row = connection.execute("SELECT account FROM buckets WHERE name = ?", [bucket.name]).fetchone()
    if row:
        raise BucketExists(bucket.name, own=row[0] == bucket.account)
    connection.execute(
        "INSERT INTO buckets VALUES (?, ?, ?, ?)",
        [bucket.name, bucket.account, bucket.region, bucket.created_at],
    )


def find_bucket(connection: Connection, name: str) -> Bucket:
    """Give a bucket; raises NoSuchBucket."""
    row = connection.execute("SELECT * FROM buckets WHERE name = ?", [name]).fetchone()
    if row is None:
        raise NoSuchBucket(name)
    return Bucket(*row)


def list_buckets(connection: Connection, account: str) -> list[Bucket]:
    """List an account's buckets by name."""
    rows = connection.execute("SELECT * FROM buckets WHERE account = ? ORDER BY name", [account])
    return [Bucket(*row) for row in rows]


def delete_bucket(connection: Connection, name: str) -> list[str]:
    """Remove an empty bucket and its uploads; gives the blobs that are no longer named."""
    find_bucket(connection, name)
    if connection.execute("SELECT 1 FROM objects WHERE bucket = ? LIMIT 1", [name]).fetchone():
        raise BucketNotEmpty(name)
    of_bucket = "upload IN (SELECT id FROM uploads WHERE bucket = ?)"
    blobs = connection.execute(f"SELECT blob FROM parts WHERE {of_bucket}", [name]).fetchall()  # noqa: S608
    connection.execute(f"DELETE FROM parts WHERE {of_bucket}", [name])  # noqa: S608
    connection.execute("DELETE FROM uploads WHERE bucket = ?", [name])
    connection.execute("DELETE FROM buckets WHERE name = ?", [name])
    return [blob for (blob,) in blobs]


def find_object(connection: Connection, bucket: str, key: str) -> tuple[ObjectInfo, str]:
    """Give an object and the name of its blob; raises NoSuchBucket, NoSuchKey."""
    row = connection.execute(
        f"SELECT {OBJECT} FROM objects WHERE bucket = ? AND key = ?",  # noqa: S608
        [bucket, key],
    ).fetchone()
    if row is None:
        find_bucket(connection, bucket)
        raise NoSuchKey(key)
    return unpack_object(bucket, row), row[1]


def find_plain(connection: Connection, info: ObjectInfo) -> str | None:
    """Give the name of the blob that is an object's very bytes; None: another one is there now, or it is encrypted."""
    row = connection.execute(
        "SELECT blob FROM objects WHERE bucket = ? AND key = ? AND etag = ? AND size = ? AND encryption IS NULL",
        [info.bucket, info.key, info.etag, info.size],
    ).fetchone()
    return None if row is None else str(row[0])


def put_object(connection: Connection, made: ObjectInfo, blob: str, condition: Condition) -> list[str]:
    """Record an object in place of what the key had; gives the blobs that are no longer named."""
    find_bucket(connection, made.bucket)
    replaced = _present(connection, made.bucket, made.key, condition)
    connection.execute(
        "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            made.bucket,
            made.key,
            blob,
            made.size,
            made.etag,
            made.modified_at,
            pack_description(made.description),
            pack_checksum(made.checksum),
            pack_encryption(made.encryption),
        ],
    )
    return replaced


def delete_object(connection: Connection, bucket: str, key: str, condition: Condition) -> list[str]:
    """Forget an object; gives the blobs that are no longer named."""
    find_bucket(connection, bucket)
    removed = _present(connection, bucket, key, condition)
    connection.execute("DELETE FROM objects WHERE bucket = ? AND key = ?", [bucket, key])
    return removed


def _present(connection: Connection, bucket: str, key: str, condition: Condition) -> list[str]:
    """Give the blob that is there; raises PreconditionFailed, and NoSuchKey for an ETag of nothing."""
    row = connection.execute("SELECT blob, etag FROM objects WHERE bucket = ? AND key = ?", [bucket, key]).fetchone()
    if row and condition.absent:
        raise PreconditionFailed("If-None-Match")
    if condition.etag is not None:
        if row is None:
            raise NoSuchKey(key)
        if condition.etag not in (row[1], "*"):
            raise PreconditionFailed("If-Match")
    return [row[0]] if row else []


def named_blobs(connection: Connection, blobs: Collection[str]) -> set[str]:
    """Tell which of some blobs a row names."""
    marks = ",".join("?" * len(blobs))
    rows = connection.execute(
        f"SELECT blob FROM objects WHERE blob IN ({marks}) "  # noqa: S608 - question marks
        f"UNION SELECT blob FROM parts WHERE blob IN ({marks})",
        [*blobs, *blobs],
    )
    return {blob for (blob,) in rows}
