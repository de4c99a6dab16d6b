"""What a store of objects promises, whoever keeps them.

An object is whole or not there: a reader never sees half of one, goes on reading the one it has opened while a
writer replaces it, and a write that fails or dies leaves what was there before. A write has reached the disk when
it returns.
"""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from moorage.objects.faults import UnusableUri

Digests = Mapping[str, bytes]
"""Digest values by algorithm: md5, sha256, sha1, crc32, crc32c, crc64nvme."""

BodyCheck = Callable[[Digests], None]
"""Looks at the digests of a whole body before it becomes visible; raises to refuse it."""


def accept(_digests: Digests) -> None:
    """Accept any body."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A name for objects, owned by an account."""

    name: str
    account: str
    region: str
    created_at: float


@dataclass(frozen=True, slots=True)
class Description:
    """What the writer of an object says about it."""

    content_type: str = "binary/octet-stream"
    headers: Mapping[str, str] = field(default_factory=dict)
    """Content-Encoding, Cache-Control and the like, by lower-case name."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """User metadata, by lower-case name without ``x-amz-meta-``."""


PLAIN = Description()


@dataclass(frozen=True, slots=True)
class Checksum:
    """A checksum that S3 tells to who asks."""

    algorithm: str
    """crc32, crc32c, crc64nvme, sha1 or sha256."""
    value: str
    """Base64; of a COMPOSITE one the checksum of the parts' checksums, ``-`` and their number."""
    kind: str = "FULL_OBJECT"


@dataclass(frozen=True, slots=True)
class Encryption:
    """How an object is encrypted where it is kept."""

    key: str
    """ARN of a key of the key ring, or of its alias; of an object that is there that of the key."""
    by_kms: bool = True
    """The caller has chosen to use KMS (``aws:kms``); otherwise the key is the store's own (``AES256``)."""
    context: Mapping[str, str] = field(default_factory=dict)
    """What the writer wants to have authenticated besides the object's name."""
    bucket_key: bool = False
    """S3 would ask KMS less often (S3 Bucket Keys). Kept because it is told to who reads."""
    sealed: bytes = field(default=b"", repr=False)
    """The object's data key, sealed with the key; empty: the object is not there yet."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object without its bytes."""

    bucket: str
    key: str
    size: int
    etag: str
    """Without quotes."""
    modified_at: float
    """Seconds since the epoch."""
    description: Description
    checksum: Checksum | None
    encryption: Encryption | None = None
    """None: it is kept as it came."""


SourceCheck = Callable[[ObjectInfo], None]
"""Looks at what is about to be copied; raises to refuse it."""


def accept_source(_source: ObjectInfo) -> None:
    """Copy whatever is there."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What must hold of the object that is there when a write or a deletion takes effect."""

    absent: bool = False
    etag: str | None = None


ALWAYS = Condition()


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list in the order of the keys' UTF-8 bytes: objects, and what is common to the keys below."""

    objects: Sequence[ObjectInfo]
    common_prefixes: Sequence[str]
    next_after: str | None
    """Where the next page starts; None when this is the last."""


class ObjectReader(Protocol):
    """An opened object. It stays readable, whatever happens to its key."""

    @property
    def info(self) -> ObjectInfo:
        """What is being read."""

    def chunks(self, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Give the bytes from ``start`` up to and without ``end``, a bounded piece at a time."""

    async def close(self) -> None:
        """Let it go."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A multipart upload that is not complete. It outlives restarts."""

    upload_id: str
    bucket: str
    key: str
    started_at: float
    description: Description
    algorithm: str | None
    """Checksum algorithm of its parts; None when the client named none."""
    kind: str
    """COMPOSITE or FULL_OBJECT."""
    encryption: Encryption | None = None
    """Of its parts and of the object that is made of them."""


@dataclass(frozen=True, slots=True)
class Part:
    """An uploaded part."""

    number: int
    size: int
    etag: str
    modified_at: float
    checksum: Checksum | None


@dataclass(frozen=True, slots=True)
class NamedPart:
    """A part as the request that completes the upload names it."""

    number: int
    etag: str
    checksum: str | None = None


class Uploads(Protocol):
    """Multipart uploads of a store."""

    async def start(  # noqa: PLR0913 - an object to be, and what is said of it
        self,
        bucket: str,
        key: str,
        description: Description,
        *,
        algorithm: str | None = None,
        kind: str = "COMPOSITE",
        encryption: Encryption | None = None,
    ) -> Upload:
        """Begin one; raises NoSuchBucket, KeyUnusable."""

    async def find(self, bucket: str, key: str, upload_id: str) -> Upload:
        """Give one; raises NoSuchUpload."""

    async def put_part(
        self,
        upload: Upload,
        number: int,
        body: AsyncIterator[bytes],
        *,
        digests: Collection[str] = (),
        check: BodyCheck = accept,
    ) -> Part:
        """Keep a part, in place of one of the same number; raises NoSuchUpload, KeyUnusable."""

    async def complete(
        self, upload: Upload, parts: Sequence[NamedPart], *, checksum: str | None = None, condition: Condition = ALWAYS
    ) -> ObjectInfo:
        """Make the object of the parts; ``checksum`` is what its checksum must be.

        Raises NoSuchUpload, InvalidPart, InvalidPartOrder, EntityTooSmall, BadDigest, PreconditionFailed, KeyUnusable.
        """

    async def abort(self, upload: Upload) -> None:
        """Forget it and its parts."""

    async def parts(self, upload: Upload, *, after: int = 0, limit: int = 1000) -> Sequence[Part]:
        """List its parts in order from the one after a number."""

    async def list(
        self, bucket: str, *, prefix: str = "", after: tuple[str, str] = ("", ""), limit: int = 1000
    ) -> Sequence[Upload]:
        """List a bucket's uploads by key and id, from the one after a pair of them."""


@dataclass(frozen=True, slots=True)
class FileSpan:
    """A part of a file as the bytes of an object: to be read by whoever keeps it, in whatever way is best."""

    descriptor: int
    """Open for reading, until the object is kept."""
    start: int
    end: int


class ObjectStore(Protocol):
    """Buckets and their objects."""

    @property
    def uploads(self) -> Uploads:
        """Multipart uploads."""

    async def create_bucket(self, name: str, *, account: str, region: str) -> Bucket:
        """Make a bucket; raises BucketExists."""

    async def bucket(self, name: str) -> Bucket:
        """Give a bucket; raises NoSuchBucket."""

    async def buckets(self, account: str) -> Sequence[Bucket]:
        """List an account's buckets by name."""

    async def delete_bucket(self, name: str) -> None:
        """Remove an empty bucket and its unfinished uploads; raises NoSuchBucket, BucketNotEmpty."""

    async def put(  # noqa: PLR0913 - an object, what is said of it, and what must hold
        self,
        bucket: str,
        key: str,
        body: AsyncIterator[bytes] | FileSpan,
        description: Description = PLAIN,
        *,
        digests: Collection[str] = (),
        check: BodyCheck = accept,
        checksum: str | None = None,
        condition: Condition = ALWAYS,
        etag: str | None = None,
        encryption: Encryption | None = None,
    ) -> ObjectInfo:
        """Keep an object, in place of what the key had.

        ``check`` is given the md5 and the further ``digests`` asked for. ``checksum`` names the digest that is kept
        with the object. An ``etag`` that is given stands for the md5, which then is not made. With an ``encryption`` it
        is written to the disk encrypted, and its ETag, when KMS was chosen, is no digest. Raises NoSuchBucket,
        PreconditionFailed, KeyUnusable, and what ``body`` and ``check`` raise; nothing has changed then.
        """

    async def head(self, bucket: str, key: str) -> ObjectInfo:
        """Give an object without its bytes; raises NoSuchBucket, NoSuchKey."""

    async def open(self, bucket: str, key: str) -> ObjectReader:
        """Open an object for reading; raises NoSuchBucket, NoSuchKey, KeyUnusable."""

    async def delete(self, bucket: str, key: str, *, condition: Condition = ALWAYS) -> None:
        """Remove an object; one that is not there is no fault. Raises NoSuchBucket, PreconditionFailed."""

    async def copy(  # noqa: PLR0913 - two places, and what must hold at each
        self,
        source: tuple[str, str],
        bucket: str,
        key: str,
        description: Description | None = None,
        *,
        check_source: SourceCheck = accept_source,
        condition: Condition = ALWAYS,
        encryption: Encryption | None = None,
    ) -> ObjectInfo:
        """Give the object at a bucket and key a second key, with its description unless another is given.

        The copy is encrypted as ``encryption`` says, whatever its source is. Raises NoSuchBucket, NoSuchKey,
        PreconditionFailed, KeyUnusable, and what ``check_source`` raises.
        """

    async def list(
        self, bucket: str, *, prefix: str = "", delimiter: str = "", after: str = "", limit: int = 1000
    ) -> Page:
        """List what comes after a key or a common prefix; raises NoSuchBucket."""


def parse_s3_uri(uri: str) -> tuple[str, str]:
    """Split ``s3://bucket/key``; the key may be empty. Raises UnusableUri."""
    scheme, separator, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not separator or not bucket:
        raise UnusableUri(f"{uri!r} is not of the form s3://bucket/key")
    return bucket, key
