"""Multipart uploads."""

from xml.etree.ElementTree import Element

from moorage.neighbours.s3 import encryption, xml
from moorage.neighbours.s3.call import Call
from moorage.neighbours.s3.conditions import read_range, write_condition
from moorage.neighbours.s3.faults import (
    invalid_argument,
    invalid_request,
    malformed_xml,
    not_implemented,
    too_large,
)
from moorage.neighbours.s3.objects import check_copy_conditions, check_key, describe, find_source
from moorage.neighbours.s3.payload import MOST_BYTES, MOST_DOCUMENT_BYTES, Payload, read_algorithm
from moorage.neighbours.s3.present import (
    checksum_elements,
    checksum_headers,
    encoded,
    iso_time,
    read_count,
    read_encoding,
    xml_answer,
)
from moorage.neighbours.web import Answer
from moorage.objects.digests import ALGORITHMS
from moorage.objects.store import NamedPart, ObjectReader, Part, Upload

_MOST_PARTS = 10_000
_KINDS = {"COMPOSITE", "FULL_OBJECT"}
_NEVER_COMPOSITE = {"crc64nvme"}
_NEVER_FULL = {"sha1", "sha256"}


async def create_multipart_upload(call: Call) -> Answer:
    """CreateMultipartUpload."""
    request = call.request
    check_key(request.key)
    await call.bucket()
    algorithm = read_algorithm(request.headers.get("x-amz-checksum-algorithm"))
    kind = _kind(algorithm, request.headers.get("x-amz-checksum-type"))
    upload = await call.store.uploads.start(
        request.bucket,
        request.key,
        describe(request),
        algorithm=algorithm,
        kind=kind,
        encryption=await encryption.wanted(call),
    )
    headers = encryption.headers_of(upload.encryption)
    if algorithm:
        headers += [("x-amz-checksum-algorithm", algorithm.upper()), ("x-amz-checksum-type", kind)]
    return xml_answer(
        "InitiateMultipartUploadResult",
        [("Bucket", request.bucket), ("Key", request.key), ("UploadId", upload.upload_id)],
        headers,
    )


def _kind(algorithm: str | None, asked: str | None) -> str:
    kind = asked or ("FULL_OBJECT" if algorithm in _NEVER_COMPOSITE else "COMPOSITE")
    if kind not in _KINDS or (asked and algorithm is None):
        raise invalid_request("Value for x-amz-checksum-type header is invalid.")
    if algorithm in (_NEVER_FULL if kind == "FULL_OBJECT" else _NEVER_COMPOSITE):
        raise invalid_request(
            f"The {kind} checksum type cannot be used with the {str(algorithm).upper()} checksum algorithm."
        )
    return kind


async def upload_part(call: Call) -> Answer:
    """UploadPart."""
    encryption.refuse_headers(call.request)
    number = _part_number(call)
    await call.bucket()
    upload = await _find(call)
    payload = Payload(call)
    if payload.algorithm not in (None, upload.algorithm) and upload.algorithm:
        raise invalid_request(
            f"Checksum Type mismatch occurred, expected checksum Type: {upload.algorithm}, "
            f"actual checksum Type: {payload.algorithm}"
        )
    part = await call.store.uploads.put_part(
        upload, number, payload.pieces(), digests=payload.digests, check=payload.check
    )
    headers = [header for header in checksum_headers(part.checksum) if header[0] != "x-amz-checksum-type"]
    return Answer(headers=(("etag", f'"{part.etag}"'), *headers, *encryption.headers_of(upload.encryption)))


async def upload_part_copy(call: Call) -> Answer:
    """UploadPartCopy: a part out of an object that is there."""
    number = _part_number(call)
    source = await find_source(call)
    await call.bucket()
    upload = await _find(call)
    reader = await call.store.open(*source)
    try:
        await encryption.check_reader(call, reader.info)
        check_copy_conditions(call.request.headers, reader.info)
        start, end = _copied_range(call, reader)
        part = await call.store.uploads.put_part(upload, number, reader.chunks(start, end))
    finally:
        await reader.close()
    return xml_answer(
        "CopyPartResult",
        [("LastModified", iso_time(part.modified_at)), ("ETag", f'"{part.etag}"'), *_part_checksum(part)],
        encryption.headers_of(upload.encryption),
    )


def _copied_range(call: Call, reader: ObjectReader) -> tuple[int, int]:
    size = reader.info.size
    header = call.request.headers.get("x-amz-copy-source-range")
    start, end = read_range(header, size) or (0, size)
    if header is not None and header != f"bytes={start}-{end - 1}":
        raise invalid_argument(
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the "
            "zero-based offsets of the first and last bytes to copy",
            "x-amz-copy-source-range",
            header,
        )
    if end - start > MOST_BYTES:
        raise too_large(end - start, MOST_BYTES)
    return start, end


async def complete_multipart_upload(call: Call) -> Answer:
    """CompleteMultipartUpload."""
    request = call.request
    document = await _document(call)
    await call.bucket()
    upload = await _find(call)
    parts = [_named_part(element, upload) for element in xml.read(document, "CompleteMultipartUpload")]
    if not 0 < len(parts) <= _MOST_PARTS:
        raise malformed_xml()
    if (size := request.headers.get("x-amz-mp-object-size")) is not None:
        await _check_size(call, upload, parts, size)
    info = await call.store.uploads.complete(
        upload, parts, checksum=_checksum_to_be(call, upload), condition=write_condition(request.headers)
    )
    return xml_answer(
        "CompleteMultipartUploadResult",
        [
            ("Location", f"/{request.bucket}/{request.key}"),
            ("Bucket", request.bucket),
            ("Key", request.key),
            ("ETag", f'"{info.etag}"'),
            *checksum_elements(info.checksum),
        ],
        encryption.headers_of(info.encryption),
    )


def _checksum_to_be(call: Call, upload: Upload) -> str | None:
    headers = call.request.headers
    if headers.get("x-amz-checksum-type", upload.kind) != upload.kind:
        raise invalid_request(f"The upload was created with the {upload.kind} checksum type.")
    given = {name: headers[f"x-amz-checksum-{name}"] for name in ALGORITHMS if f"x-amz-checksum-{name}" in headers}
    if given and set(given) != {upload.algorithm}:
        raise invalid_request(f"The upload was created with the checksum algorithm {upload.algorithm or 'none'}.")
    return given.get(upload.algorithm) if upload.algorithm else None


async def _document(call: Call) -> bytes:
    # The checksum headers of this request are those of the object to be, not of the document.
    return await Payload(call, most_bytes=MOST_DOCUMENT_BYTES, checksum_of_body=False).document()


def _named_part(element: Element, upload: Upload) -> NamedPart:
    number = xml.text_of(element, "PartNumber") or ""
    etag = xml.text_of(element, "ETag")
    if element.tag != "Part" or not number.isdecimal() or not etag or int(number) > _MOST_PARTS:
        raise malformed_xml()
    checksum = xml.text_of(element, f"Checksum{upload.algorithm.upper()}") if upload.algorithm else None
    return NamedPart(int(number), etag.strip().strip('"'), checksum)


async def _check_size(call: Call, upload: Upload, parts: list[NamedPart], size: str) -> None:
    there = {part.number: part.size for part in await call.store.uploads.parts(upload, limit=_MOST_PARTS)}
    total = sum(there.get(part.number, 0) for part in parts)
    if size != str(total):
        raise invalid_request(
            f"The provided 'x-amz-mp-object-size' header value {size} does not match what was computed: {total}"
        )


async def abort_multipart_upload(call: Call) -> Answer:
    """AbortMultipartUpload."""
    await call.bucket()
    await call.store.uploads.abort(await _find(call))
    return Answer(204)


async def list_parts(call: Call) -> Answer:
    """ListParts."""
    query = call.request.query
    limit = read_count(query, "max-parts")
    marker = read_count(query, "part-number-marker", 2**31 - 1) if query.get("part-number-marker") else 0
    await call.bucket()
    upload = await _find(call)
    parts = await call.store.uploads.parts(upload, after=marker, limit=limit + 1)
    shown = parts[:limit]
    return xml_answer(
        "ListPartsResult",
        [
            ("Bucket", upload.bucket),
            ("Key", upload.key),
            ("UploadId", upload.upload_id),
            ("PartNumberMarker", marker),
            ("NextPartNumberMarker", shown[-1].number if shown else None),
            ("MaxParts", limit),
            ("IsTruncated", len(parts) > limit > 0),
            ("StorageClass", "STANDARD"),
            ("ChecksumAlgorithm", upload.algorithm and upload.algorithm.upper()),
            ("ChecksumType", upload.kind if upload.algorithm else None),
            *[_part_element(part) for part in shown],
        ],
    )


async def list_multipart_uploads(call: Call) -> Answer:
    """ListMultipartUploads."""
    query = call.request.query
    if query.get("delimiter"):
        raise not_implemented("the parameter delimiter of ListMultipartUploads")
    encoding = read_encoding(query)
    limit = read_count(query, "max-uploads")
    marker = query.get("key-marker", "")
    # Without an upload's id the list goes on behind all uploads of the key.
    after = (marker, query.get("upload-id-marker") or ("\U0010ffff" if marker else ""))
    await call.bucket()
    uploads = await call.store.uploads.list(
        call.request.bucket, prefix=query.get("prefix", ""), after=after, limit=limit + 1
    )
    shown = uploads[:limit]
    more = len(uploads) > limit > 0
    return xml_answer(
        "ListMultipartUploadsResult",
        [
            ("Bucket", call.request.bucket),
            ("KeyMarker", encoded(marker, encoding)),
            ("UploadIdMarker", query.get("upload-id-marker", "")),
            ("NextKeyMarker", encoded(shown[-1].key, encoding) if more else None),
            ("NextUploadIdMarker", shown[-1].upload_id if more else None),
            ("Prefix", encoded(query.get("prefix", ""), encoding)),
            ("EncodingType", encoding),
            ("MaxUploads", limit),
            ("IsTruncated", more),
            *[_upload_element(upload, encoding) for upload in shown],
        ],
    )


async def _find(call: Call) -> Upload:
    request = call.request
    return await call.store.uploads.find(request.bucket, request.key, request.query["uploadId"])


def _part_number(call: Call) -> int:
    text = call.request.query.get("partNumber", "")
    if not text.isascii() or not text.isdecimal() or len(text) > 5 or not 1 <= int(text) <= _MOST_PARTS:
        raise invalid_argument("Part number must be an integer between 1 and 10000, inclusive", "partNumber", text)
    return int(text)


def _part_checksum(part: Part) -> list[xml.Element]:
    return [element for element in checksum_elements(part.checksum) if element[0] != "ChecksumType"]


def _part_element(part: Part) -> xml.Element:
    return (
        "Part",
        [
            ("PartNumber", part.number),
            ("LastModified", iso_time(part.modified_at)),
            ("ETag", f'"{part.etag}"'),
            ("Size", part.size),
            *_part_checksum(part),
        ],
    )


def _upload_element(upload: Upload, encoding: str | None) -> xml.Element:
    return (
        "Upload",
        [
            ("UploadId", upload.upload_id),
            ("Key", encoded(upload.key, encoding)),
            ("Initiated", iso_time(upload.started_at)),
            ("StorageClass", "STANDARD"),
            ("ChecksumAlgorithm", upload.algorithm and upload.algorithm.upper()),
            ("ChecksumType", upload.kind if upload.algorithm else None),
        ],
    )
