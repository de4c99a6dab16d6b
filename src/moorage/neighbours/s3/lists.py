"""ListObjectsV2 and its elder brother."""

import base64
import binascii

from moorage.neighbours.s3 import xml
from moorage.neighbours.s3.call import Call
from moorage.neighbours.s3.faults import invalid_argument
from moorage.neighbours.s3.present import encoded, object_element, read_count, read_encoding, xml_answer
from moorage.neighbours.web import Answer
from moorage.objects.store import Page


async def list_objects_v2(call: Call) -> Answer:
    """ListObjectsV2."""
    query = call.request.query
    encoding = read_encoding(query)
    limit = read_count(query, "max-keys")
    token = query.get("continuation-token")
    start_after = query.get("start-after", "")
    bucket = await call.bucket()
    page = await call.store.list(
        bucket.name,
        prefix=query.get("prefix", ""),
        delimiter=query.get("delimiter", ""),
        after=start_after if token is None else _read_token(token),
        limit=limit,
    )
    owner = bucket.account if query.get("fetch-owner") == "true" else None
    return xml_answer(
        "ListBucketResult",
        [
            ("Name", bucket.name),
            ("Prefix", encoded(query.get("prefix", ""), encoding)),
            ("StartAfter", encoded(start_after, encoding) if start_after else None),
            ("ContinuationToken", token),
            ("NextContinuationToken", None if page.next_after is None else _make_token(page.next_after)),
            ("KeyCount", len(page.objects) + len(page.common_prefixes)),
            ("MaxKeys", limit),
            ("Delimiter", encoded(query["delimiter"], encoding) if query.get("delimiter") else None),
            ("EncodingType", encoding),
            ("IsTruncated", page.next_after is not None),
            *_entries(page, encoding, owner),
        ],
    )


async def list_objects(call: Call) -> Answer:
    """ListObjects, version 1: pages by marker."""
    query = call.request.query
    encoding = read_encoding(query)
    limit = read_count(query, "max-keys")
    bucket = await call.bucket()
    delimiter = query.get("delimiter", "")
    page = await call.store.list(
        bucket.name,
        prefix=query.get("prefix", ""),
        delimiter=delimiter,
        after=query.get("marker", ""),
        limit=limit,
    )
    # Without a delimiter the next marker is the last key, and S3 leaves it to the client to see that.
    following = page.next_after if delimiter else None
    return xml_answer(
        "ListBucketResult",
        [
            ("Name", bucket.name),
            ("Prefix", encoded(query.get("prefix", ""), encoding)),
            ("Marker", encoded(query.get("marker", ""), encoding)),
            ("NextMarker", None if following is None else encoded(following, encoding)),
            ("MaxKeys", limit),
            ("Delimiter", encoded(delimiter, encoding) if delimiter else None),
            ("EncodingType", encoding),
            ("IsTruncated", page.next_after is not None),
            *_entries(page, encoding, bucket.account),
        ],
    )


def _entries(page: Page, encoding: str | None, owner: str | None) -> list[xml.Element]:
    objects = [object_element(info, encoding, owner) for info in page.objects]
    common: list[xml.Element] = [
        ("CommonPrefixes", [("Prefix", encoded(prefix, encoding))]) for prefix in page.common_prefixes
    ]
    return [*objects, *common]


def _make_token(after: str) -> str:
    return base64.urlsafe_b64encode(after.encode()).decode()


def _read_token(token: str) -> str:
    try:
        return base64.b64decode(token, b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as fault:
        raise invalid_argument("The continuation token provided is incorrect", "continuation-token", token) from fault
