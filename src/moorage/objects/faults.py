"""What a store refuses, in S3's codes, statuses and words."""

from moorage.aws.errors import ClientFault

_OWN = "Your previous request to create the named bucket succeeded and you already own it."
_TAKEN = (
    "The requested bucket name is not available. The bucket namespace is shared by all users of the system. "
    "Please select a different name and try again."
)


class ObjectFault(ClientFault):
    """A store's refusal; ``members`` are the further elements of S3's error document."""


class NoSuchBucket(ObjectFault):
    """The bucket does not exist."""

    def __init__(self, bucket: str) -> None:
        super().__init__(
            "NoSuchBucket", "The specified bucket does not exist", status=404, members={"BucketName": bucket}
        )


class NoSuchKey(ObjectFault):
    """The bucket has no such object."""

    def __init__(self, key: str) -> None:
        super().__init__("NoSuchKey", "The specified key does not exist.", status=404, members={"Key": key})


class NoSuchUpload(ObjectFault):
    """The multipart upload never was, or has ended."""

    def __init__(self, upload_id: str) -> None:
        super().__init__(
            "NoSuchUpload",
            "The specified upload does not exist. The upload ID may be invalid, or the upload may have been "
            "aborted or completed.",
            status=404,
            members={"UploadId": upload_id},
        )


class BucketExists(ObjectFault):
    """The name is taken; the code says whether by the caller."""

    def __init__(self, bucket: str, *, own: bool) -> None:
        code, message = "BucketAlreadyExists", _TAKEN
        if own:
            code, message = "BucketAlreadyOwnedByYou", _OWN
        super().__init__(code, message, status=409, members={"BucketName": bucket})


class BucketNotEmpty(ObjectFault):
    """A bucket with objects cannot be deleted."""

    def __init__(self, bucket: str) -> None:
        super().__init__(
            "BucketNotEmpty",
            "The bucket you tried to delete is not empty",
            status=409,
            members={"BucketName": bucket},
        )


class PreconditionFailed(ObjectFault):
    """A condition of the request does not hold."""

    def __init__(self, condition: str) -> None:
        super().__init__(
            "PreconditionFailed",
            "At least one of the pre-conditions you specified did not hold",
            status=412,
            members={"Condition": condition},
        )


class InvalidPart(ObjectFault):
    """A completed upload names a part that was not uploaded like that."""

    def __init__(self, upload_id: str, number: int, etag: str) -> None:
        super().__init__(
            "InvalidPart",
            "One or more of the specified parts could not be found.  The part may not have been uploaded, or "
            "the specified entity tag may not match the part's entity tag.",
            members={"UploadId": upload_id, "PartNumber": number, "ETag": etag},
        )


class InvalidPartOrder(ObjectFault):
    """A completed upload names its parts in another order than theirs."""

    def __init__(self, upload_id: str) -> None:
        super().__init__(
            "InvalidPartOrder",
            "The list of parts was not in ascending order. Parts must be ordered by part number.",
            members={"UploadId": upload_id},
        )


class EntityTooSmall(ObjectFault):
    """A part that is not the last has less than the least size."""

    def __init__(self, number: int, etag: str, size_bytes: int, least_bytes: int) -> None:
        super().__init__(
            "EntityTooSmall",
            "Your proposed upload is smaller than the minimum allowed size",
            members={
                "ProposedSize": size_bytes,
                "MinSizeAllowed": least_bytes,
                "PartNumber": number,
                "ETag": etag,
            },
        )


class BadDigest(ObjectFault):
    """A body is not what its checksum says."""

    def __init__(self, algorithm: str) -> None:
        super().__init__("BadDigest", f"The {algorithm.upper()} you specified did not match the calculated checksum.")


class UnusableUri(ValueError):
    """A text that is not ``s3://bucket/key``; its message is for people."""
