"""What an HTTP request asks of S3: bucket, key, operation. Pure.

The operation is named in S3's own words, also where Moorage does not have it, so that the refusal can name it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from moorage.aws.errors import ClientFault
from moorage.aws.sigv4 import HttpRequest
from moorage.neighbours.s3 import sigv2
from moorage.neighbours.s3.faults import method_not_allowed, not_implemented

META = "x-amz-meta-"

_BUCKET_PARTS = {
    "accelerate": "BucketAccelerateConfiguration",
    "acl": "BucketAcl",
    "analytics": "BucketAnalyticsConfiguration",
    "cors": "BucketCors",
    "encryption": "BucketEncryption",
    "intelligent-tiering": "BucketIntelligentTieringConfiguration",
    "inventory": "BucketInventoryConfiguration",
    "lifecycle": "BucketLifecycleConfiguration",
    "logging": "BucketLogging",
    "metadataConfiguration": "BucketMetadataConfiguration",
    "metadataTable": "BucketMetadataTableConfiguration",
    "metrics": "BucketMetricsConfiguration",
    "notification": "BucketNotificationConfiguration",
    "object-lock": "ObjectLockConfiguration",
    "ownershipControls": "BucketOwnershipControls",
    "policy": "BucketPolicy",
    "policyStatus": "BucketPolicyStatus",
    "publicAccessBlock": "PublicAccessBlock",
    "replication": "BucketReplication",
    "requestPayment": "BucketRequestPayment",
    "session": "Session",
    "tagging": "BucketTagging",
    "versioning": "BucketVersioning",
    "versions": "ObjectVersions",
    "website": "BucketWebsite",
}
_OBJECT_PARTS = {
    "acl": "ObjectAcl",
    "attributes": "ObjectAttributes",
    "legal-hold": "ObjectLegalHold",
    "renameObject": "ObjectRename",
    "restore": "ObjectRestore",
    "retention": "ObjectRetention",
    "select": "ObjectSelect",
    "tagging": "ObjectTagging",
    "torrent": "ObjectTorrent",
}
_VERBS = {"GET": "Get", "HEAD": "Head", "PUT": "Put", "POST": "Post", "DELETE": "Delete"}

_KNOWN_HEADERS = frozenset(
    [
        "x-amz-checksum-algorithm",
        "x-amz-checksum-mode",
        "x-amz-checksum-type",
        "x-amz-content-sha256",
        "x-amz-copy-source",
        "x-amz-copy-source-if-match",
        "x-amz-copy-source-if-modified-since",
        "x-amz-copy-source-if-none-match",
        "x-amz-copy-source-if-unmodified-since",
        "x-amz-copy-source-range",
        "x-amz-date",
        "x-amz-decoded-content-length",
        "x-amz-expected-bucket-owner",
        "x-amz-metadata-directive",
        "x-amz-mp-object-size",
        "x-amz-request-payer",
        "x-amz-sdk-checksum-algorithm",
        "x-amz-server-side-encryption",
        "x-amz-server-side-encryption-aws-kms-key-id",
        "x-amz-server-side-encryption-bucket-key-enabled",
        "x-amz-server-side-encryption-context",
        "x-amz-security-token",
        "x-amz-source-expected-bucket-owner",
        "x-amz-te",
        "x-amz-trailer",
        "x-amz-user-agent",
        "x-amz-checksum-crc32",
        "x-amz-checksum-crc32c",
        "x-amz-checksum-crc64nvme",
        "x-amz-checksum-sha1",
        "x-amz-checksum-sha256",
    ]
)
# Values that say what is so anyway.
_HARMLESS = {
    "x-amz-acl": {"private", "bucket-owner-full-control"},
    "x-amz-storage-class": {"STANDARD"},
    "x-amz-object-ownership": {"BucketOwnerEnforced"},
    "x-amz-tagging-directive": {"COPY"},
    "x-amz-bucket-object-lock-enabled": {"false", "False"},
}


@dataclass(frozen=True, slots=True)
class S3Request:
    """A request, taken apart."""

    wire: HttpRequest
    bucket: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """By lower-case name; several of a name are joined with a comma."""
    operation: str

    @property
    def metadata(self) -> dict[str, str]:
        """The user metadata that it brings."""
        return {name.removeprefix(META): value for name, value in self.headers.items() if name.startswith(META)}


def take_apart(wire: HttpRequest) -> S3Request:
    """Find out what is asked; raises InvalidURI, MethodNotAllowed."""
    bucket, _, key = wire.path.removeprefix("/").partition("/")
    try:
        bucket, key = unquote(bucket, errors="strict"), unquote(key, errors="strict")
    except UnicodeDecodeError as fault:
        raise ClientFault("InvalidURI", "Couldn't parse the specified URI.", members={"URI": wire.path}) from fault
    headers: dict[str, str] = {}
    for name, value in [*wire.headers, *sigv2.carried_headers(wire)]:
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    query = sigv2.query_values(wire.query)
    operation = name_operation(wire.method, bucket, key, query, copies="x-amz-copy-source" in headers)
    return S3Request(wire, bucket, key, query, headers, operation)


def name_operation(method: str, bucket: str, key: str, query: Collection[str], *, copies: bool) -> str:
    """Give S3's name of what is asked; raises MethodNotAllowed."""
    if method not in _VERBS:
        raise method_not_allowed(method)
    if not bucket:
        name = "ListBuckets" if method == "GET" else None
    elif not key:
        name = _bucket_operation(method, query)
    else:
        name = _object_operation(method, query, copies=copies)
    if name is None:
        raise method_not_allowed(method)
    return name


def _bucket_operation(method: str, query: Collection[str]) -> str | None:
    for part, name in _BUCKET_PARTS.items():
        if part in query:
            return _VERBS[method] + name
    match method:
        case "GET" if "location" in query:
            return "GetBucketLocation"
        case "GET" if "uploads" in query:
            return "ListMultipartUploads"
        case "GET" if "list-type" in query:
            return "ListObjectsV2"
        case "POST":
            return "DeleteObjects" if "delete" in query else "PostObject"
    return {"GET": "ListObjects", "PUT": "CreateBucket", "HEAD": "HeadBucket", "DELETE": "DeleteBucket"}.get(method)


def _object_operation(method: str, query: Collection[str], *, copies: bool) -> str | None:
    for part, name in _OBJECT_PARTS.items():
        if part in query:
            return _VERBS[method] + name
    if "uploads" in query:
        return "CreateMultipartUpload" if method == "POST" else None
    if "uploadId" in query:
        put = "UploadPartCopy" if copies else "UploadPart"
        of_upload = {"PUT": put, "POST": "CompleteMultipartUpload", "DELETE": "AbortMultipartUpload"}
        return {**of_upload, "GET": "ListParts"}.get(method)
    put = "CopyObject" if copies else "PutObject"
    return {"PUT": put, "GET": "GetObject", "HEAD": "HeadObject", "DELETE": "DeleteObject"}.get(method)


def refuse_unbuilt(request: S3Request) -> None:
    """Refuse members that Moorage does not have, by name; raises NotImplemented."""
    for name, value in request.headers.items():
        if not name.startswith("x-amz-") or name.startswith(META) or name in _KNOWN_HEADERS:
            continue
        if value not in _HARMLESS.get(name, ()):
            raise not_implemented(f"the header {name} (of {request.operation})")
    if request.query.get("versionId", "null") not in {"null", ""}:
        raise not_implemented(f"versions, so no versionId (of {request.operation})")
    if "partNumber" in request.query and request.operation in {"GetObject", "HeadObject"}:
        raise not_implemented(f"partNumber of {request.operation}")
