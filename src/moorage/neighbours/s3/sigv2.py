"""Presigned URLs of Signature Version 2, which boto3 still makes for S3 unless it is told otherwise.

    GET /bucket/key?AWSAccessKeyId=...&Expires=1767225600&Signature=...

Only URLs: no current client signs headers like this. boto3 puts Content-Type, Content-MD5 and ``x-amz-*`` that belong
to the signature into the query too, and S3 takes them from there when the request has no such header.
"""

import base64
import hashlib
import hmac
from urllib.parse import unquote_plus

from moorage.aws.sigv4 import HttpRequest
from moorage.iam.authenticate import AuthenticationFailed, AuthFailure, Caller, Keys

_SUBRESOURCES = frozenset(
    [
        "accelerate",
        "acl",
        "analytics",
        "cors",
        "defaultObjectAcl",
        "delete",
        "encryption",
        "inventory",
        "lifecycle",
        "location",
        "logging",
        "metrics",
        "notification",
        "object-lock",
        "partNumber",
        "policy",
        "policyStatus",
        "publicAccessBlock",
        "replication",
        "requestPayment",
        "restore",
        "response-cache-control",
        "response-content-disposition",
        "response-content-encoding",
        "response-content-language",
        "response-content-type",
        "response-expires",
        "retention",
        "legal-hold",
        "select",
        "select-type",
        "tagging",
        "torrent",
        "uploadId",
        "uploads",
        "versionId",
        "versioning",
        "versions",
        "website",
    ]
)
_OF_VERSION_4 = frozenset(
    ["x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-expires", "x-amz-signature", "x-amz-signedheaders"]
)
_CARRIED = ("content-type", "content-md5")


def is_presigned(request: HttpRequest) -> bool:
    """Say whether a request carries such a signature."""
    query = query_values(request.query)
    return "AWSAccessKeyId" in query and "Signature" in query


def query_values(query: str) -> dict[str, str]:
    """Give the decoded parameters; the last one of a name counts."""
    pairs = (pair.partition("=") for pair in query.split("&") if pair)
    return {unquote_plus(name): unquote_plus(value) for name, _, value in pairs}


def carried_headers(request: HttpRequest) -> list[tuple[str, str]]:
    """Give the headers that the query of a presigned URL carries and the request does not have.

    Clients of Signature Version 4 move ``x-amz-*`` there as well (the JavaScript SDK does).
    """
    there = {name for name, _ in request.headers} | _OF_VERSION_4
    return [
        (name.lower(), value)
        for name, value in query_values(request.query).items()
        if (name.lower() in _CARRIED or name.lower().startswith("x-amz-")) and name.lower() not in there
    ]


def identify(request: HttpRequest, keys: Keys, *, now: float, region: str) -> Caller:
    """Find who made a presigned URL; raises AuthenticationFailed. The URL names no region: it is given."""
    query = query_values(request.query)
    credential = keys.find(query["AWSAccessKeyId"], query.get("x-amz-security-token"), now)
    expires = query.get("Expires", "")
    if not expires.isdecimal() or len(expires) > 12:
        raise AuthenticationFailed(AuthFailure.MALFORMED, "Query-string authentication requires the Expires parameter")
    if int(expires) < now:
        raise AuthenticationFailed(AuthFailure.EXPIRED, "Request has expired")
    expected = hmac.new(credential.secret_access_key.encode(), _string_to_sign(request, expires), hashlib.sha1)
    given = query["Signature"].encode("utf-8", "replace")
    if not hmac.compare_digest(base64.b64encode(expected.digest()), given):
        raise AuthenticationFailed(AuthFailure.BAD_SIGNATURE, "The signature does not match.")
    return Caller(credential, region, "s3")


def _string_to_sign(request: HttpRequest, expires: str) -> bytes:
    values: dict[str, list[str]] = {}
    for name, value in [*request.headers, *carried_headers(request)]:
        values.setdefault(name, []).append(value.strip())
    md5, kind = (",".join(values.get(name, [""])) for name in ("content-md5", "content-type"))
    amz = [f"{name}:{','.join(values[name])}\n" for name in sorted(values) if name.startswith("x-amz-")]
    chosen = []
    for pair in request.query.split("&"):
        name, equals, value = pair.partition("=")
        if name in _SUBRESOURCES:
            chosen.append(f"{name}={unquote_plus(value)}" if equals and value else name)
    resource = request.path + ("?" + "&".join(sorted(chosen)) if chosen else "")
    return f"{request.method}\n{md5}\n{kind}\n{expires}\n{''.join(amz)}{resource}".encode()
