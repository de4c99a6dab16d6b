"""Operations on buckets."""

import re

from moorage.aws.errors import ClientFault
from moorage.neighbours.s3 import xml
from moorage.neighbours.s3.call import Call
from moorage.neighbours.s3.faults import not_implemented
from moorage.neighbours.s3.payload import MOST_DOCUMENT_BYTES, Payload
from moorage.neighbours.s3.present import iso_time, xml_answer
from moorage.neighbours.web import Answer
from moorage.objects.faults import BucketExists

_NAME = re.compile(r"(?=.{3,63}\Z)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")
_ADDRESS = re.compile(r"[0-9]+(?:\.[0-9]+){3}")
_CLASSIC = "us-east-1"


async def list_buckets(call: Call) -> Answer:
    """ListBuckets: those of the caller's account."""
    for parameter in ("max-buckets", "continuation-token", "prefix", "bucket-region"):
        if parameter in call.request.query:
            raise not_implemented(f"the parameter {parameter} of ListBuckets")
    buckets = await call.store.buckets(call.caller.account)
    shown = [("Bucket", [("Name", bucket.name), ("CreationDate", iso_time(bucket.created_at))]) for bucket in buckets]
    owner = [("ID", call.caller.account), ("DisplayName", call.caller.credential.user_name)]
    return xml_answer("ListAllMyBucketsResult", [("Owner", owner), ("Buckets", shown)])


async def create_bucket(call: Call) -> Answer:
    """CreateBucket: where us-east-1 is asked, a bucket that one owns already is no fault, elsewhere it is."""
    name = call.request.bucket
    if not _NAME.fullmatch(name) or _ADDRESS.fullmatch(name):
        raise ClientFault("InvalidBucketName", "The specified bucket is not valid.", members={"BucketName": name})
    region = _region(await Payload(call, most_bytes=MOST_DOCUMENT_BYTES).document(), call.caller.region)
    try:
        await call.store.create_bucket(name, account=call.caller.account, region=region)
    except BucketExists as fault:
        if fault.code != "BucketAlreadyOwnedByYou" or call.caller.region != _CLASSIC:
            raise
    return Answer(headers=(("location", f"/{name}"),))


def _region(document: bytes, asked: str) -> str:
    wanted = None
    if document.strip():
        configuration = xml.read(document, "CreateBucketConfiguration")
        for child in configuration:
            if child.tag != "LocationConstraint":
                raise not_implemented(f"{child.tag} of CreateBucketConfiguration")
        wanted = xml.text_of(configuration, "LocationConstraint")
    region = {None: _CLASSIC, "": _CLASSIC, "EU": "eu-west-1"}.get(wanted, wanted or _CLASSIC)
    if wanted == _CLASSIC:
        raise ClientFault("InvalidLocationConstraint", "The specified location-constraint is not valid")
    if asked not in (_CLASSIC, region):
        raise ClientFault(
            "IllegalLocationConstraintException",
            f"The {wanted or 'unspecified'} location constraint is incompatible for the region specific endpoint "
            "this request was sent to.",
        )
    return region


async def head_bucket(call: Call) -> Answer:
    """HeadBucket."""
    bucket = await call.bucket()
    return Answer(headers=(("x-amz-bucket-region", bucket.region), ("x-amz-access-point-alias", "false")), length=0)


async def get_bucket_location(call: Call) -> Answer:
    """GetBucketLocation: empty for us-east-1, as ever."""
    bucket = await call.bucket()
    region = None if bucket.region == _CLASSIC else bucket.region
    return xml_answer("LocationConstraint", region)


async def delete_bucket(call: Call) -> Answer:
    """DeleteBucket."""
    await call.bucket()
    await call.store.delete_bucket(call.request.bucket)
    return Answer(204)
