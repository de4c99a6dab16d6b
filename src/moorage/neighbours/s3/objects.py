"""Operations on objects."""

from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import unquote

from moorage.aws.errors import ClientFault
from moorage.neighbours.s3 import encryption, xml
from moorage.neighbours.s3.access import object_arn
from moorage.neighbours.s3.call import Call
from moorage.neighbours.s3.conditions import names_etag, read_range, unchanged, write_condition
from moorage.neighbours.s3.faults import (
    invalid_argument,
    invalid_request,
    malformed_xml,
    not_implemented,
    operation_aborted,
)
from moorage.neighbours.s3.payload import MOST_DOCUMENT_BYTES, Payload, read_algorithm
from moorage.neighbours.s3.present import checksum_elements, checksum_headers, iso_time, object_headers, xml_answer
from moorage.neighbours.s3.request import S3Request
from moorage.neighbours.web import Answer
from moorage.objects.faults import PreconditionFailed
from moorage.objects.store import ALWAYS, Condition, Description, ObjectInfo

_KEPT_HEADERS = ("cache-control", "content-disposition", "content-encoding", "content-language", "expires")
_OVERRIDABLE = ("content-type", *_KEPT_HEADERS)
_MOST_KEY_BYTES = 1024
_MOST_METADATA_BYTES = 2048
_MOST_DELETED = 1000


def check_key(key: str) -> None:
    """Refuse a key that is too long."""
    if len(key.encode()) > _MOST_KEY_BYTES:
        raise ClientFault(
            "KeyTooLongError",
            "Your key is too long",
            members={"Size": len(key.encode()), "MaxSizeAllowed": _MOST_KEY_BYTES},
        )


def describe(request: S3Request) -> Description:
    """Give what a request says of the object that it writes; raises MetadataTooLarge."""
    metadata = request.metadata
    size = sum(len(name) + len(value) for name, value in metadata.items())
    if size > _MOST_METADATA_BYTES:
        raise ClientFault(
            "MetadataTooLarge",
            "Your metadata headers exceed the maximum allowed metadata size",
            members={"Size": size, "MaxSizeAllowed": _MOST_METADATA_BYTES},
        )
    headers = {name: request.headers[name] for name in _KEPT_HEADERS if request.headers.get(name)}
    if "content-encoding" in headers:
        # aws-chunked is how the request is framed, not what the object is.
        codings = [coding.strip() for coding in headers["content-encoding"].split(",")]
        headers["content-encoding"] = ",".join(coding for coding in codings if coding != "aws-chunked")
    return Description(
        content_type=request.headers.get("content-type") or Description().content_type,
        headers={name: value for name, value in headers.items() if value},
        metadata=metadata,
    )


async def put_object(call: Call) -> Answer:
    """PutObject."""
    check_key(call.request.key)
    await call.bucket()
    payload = Payload(call)
    info = await call.store.put(
        call.request.bucket,
        call.request.key,
        payload.pieces(),
        describe(call.request),
        digests=payload.digests,
        check=payload.check,
        checksum=payload.algorithm,
        condition=write_condition(call.request.headers),
        encryption=await encryption.wanted(call),
    )
    sealed = encryption.headers_of(info.encryption)
    return Answer(headers=(("etag", f'"{info.etag}"'), *checksum_headers(info.checksum), *sealed))


async def get_object(call: Call) -> Answer:
    """GetObject: the whole, or a range of it."""
    encryption.refuse_headers(call.request)
    await call.bucket()
    reader = await call.store.open(call.request.bucket, call.request.key)
    try:
        await encryption.check_reader(call, reader.info)
        answer, start, end = _read_answer(call.request, reader.info)
    except BaseException:
        await reader.close()
        raise
    if answer.status == 304:
        await reader.close()
        return answer
    return replace(answer, body=reader.chunks(start, end), close=reader.close)


async def head_object(call: Call) -> Answer:
    """HeadObject: as GetObject, without the bytes."""
    encryption.refuse_headers(call.request)
    await call.bucket()
    answer, _, _ = _read_answer(call.request, await call.store.head(call.request.bucket, call.request.key))
    return answer


def _read_answer(request: S3Request, info: ObjectInfo) -> tuple[Answer, int, int]:
    headers = {**object_headers(info), **dict(encryption.headers_of(info.encryption))}
    if unchanged(request.headers, info):
        kept = [(name, headers[name]) for name in ("etag", "last-modified", "cache-control") if name in headers]
        return Answer(304, tuple(kept)), 0, 0
    wanted = request.headers.get("range")
    if "if-range" in request.headers and not names_etag(request.headers["if-range"], info.etag):
        wanted = None
    part = read_range(wanted, info.size)
    start, end = part or (0, info.size)
    if part:
        headers["content-range"] = f"bytes {start}-{end - 1}/{info.size}"
    elif request.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED":
        headers.update(checksum_headers(info.checksum))
    for name in _OVERRIDABLE:
        if value := request.query.get("response-" + name):
            headers[name] = value
    return Answer(206 if part else 200, tuple(headers.items()), length=end - start), start, end


async def delete_object(call: Call) -> Answer:
    """DeleteObject."""
    await call.bucket()
    etag = call.request.headers.get("if-match")
    condition = ALWAYS if etag is None else Condition(etag=etag.strip().strip('"'))
    await call.store.delete(call.request.bucket, call.request.key, condition=condition)
    return Answer(204)


async def delete_objects(call: Call) -> Answer:
    """DeleteObjects: up to a thousand keys, each with its own outcome."""
    document = await Payload(call, most_bytes=MOST_DOCUMENT_BYTES).document()
    await call.bucket()
    tree = xml.read(document, "Delete")
    keys = []
    for entry in tree.iterfind("Object"):
        key = xml.text_of(entry, "Key")
        if not key:
            raise malformed_xml()
        if further := [child.tag for child in entry if child.tag != "Key"]:
            raise not_implemented(f"{further[0]} of DeleteObjects")
        keys.append(key)
    if not 0 < len(keys) <= _MOST_DELETED:
        raise malformed_xml()
    quiet = xml.text_of(tree, "Quiet") == "true"
    results: list[xml.Element] = []
    for key in keys:
        refusal = call.refuse("s3:DeleteObject", object_arn(call.request.bucket, key))
        if refusal is not None:
            results.append(("Error", [("Key", key), ("Code", refusal.code), ("Message", refusal.message)]))
            continue
        await call.store.delete(call.request.bucket, key)
        if not quiet:
            results.append(("Deleted", [("Key", key)]))
    return xml_answer("DeleteResult", results)


async def copy_object(call: Call) -> Answer:
    """CopyObject."""
    request = call.request
    check_key(request.key)
    source = await find_source(call)
    directive = request.headers.get("x-amz-metadata-directive", "COPY")
    if directive not in {"COPY", "REPLACE"}:
        raise invalid_argument("Unknown metadata directive.", "x-amz-metadata-directive", directive)
    same = source == (request.bucket, request.key) and encryption.PREFIX not in request.headers
    if same and directive == "COPY":
        raise invalid_request(
            "This copy request is illegal because it is trying to copy an object to itself without changing the "
            "object's metadata, storage class, website redirect location or encryption attributes."
        )
    await call.bucket()
    algorithm = read_algorithm(request.headers.get("x-amz-checksum-algorithm"))
    seen = await call.store.head(*source)
    await encryption.check_reader(call, seen)
    to_be = await encryption.wanted_of_copy(call, seen.encryption)

    def check_source(info: ObjectInfo) -> None:
        if info.encryption != seen.encryption:  # it was replaced since, and nobody has been asked for this key
            raise operation_aborted()
        check_copy_conditions(request.headers, info)
        if algorithm not in (None, info.checksum and info.checksum.algorithm):
            raise not_implemented("another checksum algorithm for a copy than its source has")

    info = await call.store.copy(
        source,
        request.bucket,
        request.key,
        describe(request) if directive == "REPLACE" else None,
        check_source=check_source,
        condition=write_condition(request.headers),
        encryption=to_be,
    )
    return xml_answer(
        "CopyObjectResult",
        [
            ("LastModified", iso_time(info.modified_at)),
            ("ETag", f'"{info.etag}"'),
            *checksum_elements(info.checksum),
        ],
        encryption.headers_of(info.encryption),
    )


async def find_source(call: Call) -> tuple[str, str]:
    """Give the bucket and key of ``x-amz-copy-source``; raises AccessDenied when the bucket is somebody else's."""
    text = call.request.headers["x-amz-copy-source"]
    path, _, query = text.partition("?")
    if query not in {"", "versionId=null"}:
        raise not_implemented("versions, so no versionId in x-amz-copy-source")
    bucket, _, key = unquote(path).removeprefix("/").partition("/")
    if not bucket or not key:
        raise invalid_argument(
            "Copy Source must mention the source bucket and key: sourcebucket/sourcekey", "x-amz-copy-source", text
        )
    await call.bucket(bucket)
    return bucket, key


def check_copy_conditions(headers: Mapping[str, str], info: ObjectInfo) -> None:
    """Check ``x-amz-copy-source-if-*``; raises PreconditionFailed."""
    if unchanged(headers, info, "x-amz-copy-source-"):
        raise PreconditionFailed("x-amz-copy-source-If-None-Match")
