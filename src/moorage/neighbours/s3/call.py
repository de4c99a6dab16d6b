"""What an operation is given: the request, who calls, and where things are."""

from dataclasses import dataclass

from moorage.aws.sigv4 import Signature
from moorage.iam.authenticate import Caller
from moorage.kms.ring import KeyRing
from moorage.neighbours.s3.access import Refuse
from moorage.neighbours.s3.faults import access_denied
from moorage.neighbours.s3.request import S3Request
from moorage.neighbours.web import Body
from moorage.objects.store import Bucket, ObjectStore


@dataclass(frozen=True, slots=True)
class Call:
    """One authenticated request."""

    request: S3Request
    caller: Caller
    signature: Signature | None
    """None for a URL that was presigned with Signature Version 2."""
    body: Body
    store: ObjectStore
    ring: KeyRing
    """The keys that objects may be encrypted with."""
    refuse: Refuse
    """Asks the caller's policies about what the request's head does not tell: the keys of DeleteObjects."""

    async def bucket(self, name: str | None = None) -> Bucket:
        """Give the request's bucket, or another; raises NoSuchBucket, and AccessDenied when it is somebody else's."""
        bucket = await self.store.bucket(self.request.bucket if name is None else name)
        header = "x-amz-expected-bucket-owner" if name is None else "x-amz-source-expected-bucket-owner"
        if bucket.account != self.caller.account or self.request.headers.get(header, bucket.account) != bucket.account:
            raise access_denied()
        return bucket
