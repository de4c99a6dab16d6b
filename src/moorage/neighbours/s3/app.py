"""The S3 API: the life of a request, in order, and the list of operations."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from moorage.aws.errors import ServiceError
from moorage.aws.sigv4 import UNSIGNED_PAYLOAD, HttpRequest, MalformedSignature, Signature, read_signature
from moorage.base.clock import Clock
from moorage.base.ids import Ids
from moorage.iam import authenticate
from moorage.iam.authenticate import AuthenticationFailed, Caller
from moorage.kms.faults import KeyUnusable
from moorage.kms.ring import KeyRing
from moorage.neighbours.keys import KeySource
from moorage.neighbours.s3 import access, buckets, encryption, faults, lists, objects, sigv2, uploads, xml
from moorage.neighbours.s3.call import Call
from moorage.neighbours.s3.request import refuse_unbuilt, take_apart
from moorage.neighbours.web import (
    Answer,
    Body,
    ClientGone,
    ClientTooSlow,
    Receive,
    Scope,
    Send,
    send_answer,
    wire_request,
)
from moorage.objects.store import ObjectStore

OPERATIONS: Mapping[str, Callable[[Call], Awaitable[Answer]]] = {
    "ListBuckets": buckets.list_buckets,
    "CreateBucket": buckets.create_bucket,
    "HeadBucket": buckets.head_bucket,
    "GetBucketLocation": buckets.get_bucket_location,
    "DeleteBucket": buckets.delete_bucket,
    "PutObject": objects.put_object,
    "GetObject": objects.get_object,
    "HeadObject": objects.head_object,
    "CopyObject": objects.copy_object,
    "DeleteObject": objects.delete_object,
    "DeleteObjects": objects.delete_objects,
    "ListObjects": lists.list_objects,
    "ListObjectsV2": lists.list_objects_v2,
    "CreateMultipartUpload": uploads.create_multipart_upload,
    "UploadPart": uploads.upload_part,
    "UploadPartCopy": uploads.upload_part_copy,
    "CompleteMultipartUpload": uploads.complete_multipart_upload,
    "AbortMultipartUpload": uploads.abort_multipart_upload,
    "ListParts": uploads.list_parts,
    "ListMultipartUploads": uploads.list_multipart_uploads,
}

_FORM_UPLOAD = "PostObject"
_SKEW_SECONDS = 15 * 60.0
_MOST_IN_FLIGHT = 1000

log = logging.getLogger(__name__)


class S3App:
    """An ASGI application that answers as S3 does."""

    def __init__(  # noqa: PLR0913 - what S3 consists of
        self, store: ObjectStore, ring: KeyRing, keys: KeySource, clock: Clock, ids: Ids, *, region: str
    ) -> None:
        self._store = store
        self._ring = ring
        self._keys = keys
        self._clock = clock
        self._ids = ids
        self._region = region
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        wire = wire_request(scope)
        body = Body(receive)
        request_id = self._ids.request_id()
        self._in_flight += 1
        try:
            answer = await self._answer(wire, body, request_id)
            closing = () if body.begun or not _expects_continue(wire) else (("connection", "close"),)
            headers = (*answer.headers, ("x-amz-request-id", request_id), ("server", "Moorage"), *closing)
            await send_answer(replace(answer, headers=headers), receive, send, with_body=wire.method != "HEAD")
        except (ClientGone, OSError) as fault:
            log.debug("request %s was given up: %s", request_id, fault)
        finally:
            self._in_flight -= 1

    async def _answer(self, wire: HttpRequest, body: Body, request_id: str) -> Answer:
        try:
            return await self._perform(wire, body)
        except ServiceError as fault:
            return error_answer(fault, wire, request_id)
        except KeyUnusable as fault:
            return error_answer(encryption.as_service_error(fault), wire, request_id)
        except ClientTooSlow:
            return error_answer(faults.request_timeout(), wire, request_id)
        except ClientGone:
            raise
        except Exception:
            log.exception("request %s failed", request_id)
            return error_answer(faults.internal_error(), wire, request_id)

    async def _perform(self, wire: HttpRequest, body: Body) -> Answer:
        if self._in_flight > _MOST_IN_FLIGHT:
            raise faults.slow_down()
        request = take_apart(wire)
        if request.operation == _FORM_UPLOAD:  # signed within its body only, so nobody would get as far as below
            raise faults.not_implemented(f"the operation {_FORM_UPLOAD}")
        signature, caller = self._authenticate(wire)
        operation = OPERATIONS.get(request.operation)
        if operation is None:
            raise faults.not_implemented(f"the operation {request.operation}")
        refuse_unbuilt(request)
        refuse = access.refuser(caller, request, now=self._clock.now())
        access.check(request, refuse)
        return await operation(Call(request, caller, signature, body, self._store, self._ring, refuse))

    def _authenticate(self, wire: HttpRequest) -> tuple[Signature | None, Caller]:
        now = self._clock.now()
        keys = self._keys.keys
        presigned = "authorization" not in {name for name, _ in wire.headers}
        try:
            if presigned and sigv2.is_presigned(wire):
                return None, sigv2.identify(wire, keys, now=now, region=self._region)
            signature = _read_signature(wire)
            payload_hash = (signature and signature.payload_hash) or UNSIGNED_PAYLOAD
            caller = authenticate.identify(wire, payload_hash, keys, now=now, skew_seconds=_SKEW_SECONDS)
        except AuthenticationFailed as failed:
            raise faults.authentication_fault(failed, presigned=presigned) from failed
        if signature is None or signature.payload_hash is None:
            raise faults.invalid_request("Missing required header for this request: x-amz-content-sha256")
        if caller.service != "s3":
            raise faults.wrong_service(caller.service)
        return signature, caller


def _read_signature(wire: HttpRequest) -> Signature | None:
    header = next((value for name, value in wire.headers if name == "authorization"), "")
    if header.startswith("AWS "):
        raise faults.invalid_request(
            "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
        )
    try:
        return read_signature(wire)
    except MalformedSignature as fault:
        raise AuthenticationFailed(authenticate.AuthFailure.MALFORMED, fault.message) from fault


def _expects_continue(wire: HttpRequest) -> bool:
    return any(name == "expect" for name, _ in wire.headers)


def error_answer(fault: ServiceError, wire: HttpRequest, request_id: str) -> Answer:
    """Make S3's error document."""
    members: list[xml.Element] = [(name, str(value)) for name, value in fault.members.items()]
    document = xml.write(
        "Error",
        [
            ("Code", fault.code),
            ("Message", fault.message),
            *members,
            ("Resource", wire.path),
            ("RequestId", request_id),
            ("HostId", "moorage"),
        ],
        namespace=None,
    )
    return Answer(fault.status, (("content-type", "application/xml"),), document)
