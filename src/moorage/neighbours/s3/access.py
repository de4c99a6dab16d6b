"""What a caller must be allowed for an operation of S3 (AWS's service authorization reference)."""

from collections.abc import Mapping
from typing import Protocol
from urllib.parse import unquote

from moorage.aws.errors import ClientFault
from moorage.iam.authenticate import Caller
from moorage.iam.context import SECURE_HEADER, SOURCE_IP_HEADER, make_context
from moorage.iam.evaluate import Access, Permissions, permissions_of
from moorage.iam.patterns import Context
from moorage.neighbours.s3.request import S3Request

_ON_BUCKET = {
    "CreateBucket": "CreateBucket",
    "HeadBucket": "ListBucket",
    "GetBucketLocation": "GetBucketLocation",
    "DeleteBucket": "DeleteBucket",
    "ListObjects": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "ListMultipartUploads": "ListBucketMultipartUploads",
}
_ON_OBJECT = {
    "PutObject": "PutObject",
    "GetObject": "GetObject",
    "HeadObject": "GetObject",
    "CopyObject": "PutObject",
    "DeleteObject": "DeleteObject",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "UploadPartCopy": "PutObject",
    "CompleteMultipartUpload": "PutObject",
    "AbortMultipartUpload": "AbortMultipartUpload",
    "ListParts": "ListMultipartUploadParts",
}


class Refuse(Protocol):
    """Asks the policies of a caller."""

    def __call__(self, action: str, resource: str, more: Context | None = None) -> ClientFault | None:
        """Give the refusal of an action on a resource; None: it is allowed. ``more`` is added to the context."""


def refuser(caller: Caller, request: S3Request, *, now: float) -> Refuse:
    """Make the function that asks the caller's policies."""
    permissions = permissions_of(caller.credential)
    if permissions.unlimited:
        return _allow
    context = make_context(
        caller,
        now=now,
        source_ip=request.headers.get(SOURCE_IP_HEADER),
        secure=request.headers.get(SECURE_HEADER) == "true",
        more=_context_of(request.query),
    )

    def refuse(action: str, resource: str, more: Context | None = None) -> ClientFault | None:
        return _refuse(caller, permissions, Access(action, resource, {**context, **(more or {})}))

    return refuse


def _allow(action: str, resource: str, more: Context | None = None) -> None:  # noqa: ARG001 - whatever it is
    return None


def _refuse(caller: Caller, permissions: Permissions, access: Access) -> ClientFault | None:
    denial = permissions.refuse(access)
    if denial is None:
        return None
    message = denial.text_about(caller.credential.user_arn, access.action, f'"{access.resource}"')
    return ClientFault("AccessDenied", message, status=403)


def check(request: S3Request, refuse: Refuse) -> None:
    """Refuse a request that the caller's policies do not allow. DeleteObjects is asked about key by key, by itself."""
    for action, resource in needs(request):
        if (refusal := refuse(action, resource)) is not None:
            raise refusal


def needs(request: S3Request) -> list[tuple[str, str]]:
    """Give what must be allowed: actions and resources."""
    operation = request.operation
    if operation == "ListBuckets":
        return [("s3:ListAllMyBuckets", "arn:aws:s3:::*")]
    if operation in _ON_BUCKET:
        return [(f"s3:{_ON_BUCKET[operation]}", bucket_arn(request.bucket))]
    found = []
    if operation in {"CopyObject", "UploadPartCopy"}:
        source = unquote(request.headers["x-amz-copy-source"].partition("?")[0]).removeprefix("/")
        found.append(("s3:GetObject", f"arn:aws:s3:::{source}"))
    if operation in _ON_OBJECT:
        found.append((f"s3:{_ON_OBJECT[operation]}", object_arn(request.bucket, request.key)))
    return found


def bucket_arn(bucket: str) -> str:
    """Name a bucket."""
    return f"arn:aws:s3:::{bucket}"


def object_arn(bucket: str, key: str) -> str:
    """Name an object."""
    return f"arn:aws:s3:::{bucket}/{key}"


def _context_of(query: Mapping[str, str]) -> Context:
    return {f"s3:{name}": (query[name],) for name in ("prefix", "delimiter", "max-keys") if name in query}
