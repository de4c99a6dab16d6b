"""How an object is encrypted: with a data key of its own, which lies beside it, sealed by a key of the key ring.

The data key is bound to the object's name by the encryption context that S3 uses (``aws:s3:arn``), so that a row of the
index cannot be given to another object. Blocks; is called in threads.
"""

import secrets
from collections.abc import Mapping
from dataclasses import replace

from moorage.kms.ring import KeyRing
from moorage.objects.store import Encryption

ARN_OF_OBJECT = "aws:s3:arn"


class Sealing:
    """What a store needs of the key ring. Everything raises KeyUnusable."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    def begin(self, encryption: Encryption, bucket: str, key: str) -> tuple[Encryption, bytes]:
        """Make a data key for an object; gives what is to be kept of the encryption, and the key."""
        made = self._ring.data_key(encryption.key, context_of(encryption, bucket, key))
        return replace(encryption, key=made.key.arn, sealed=made.sealed), made.plaintext

    def data_key(self, encryption: Encryption, bucket: str, key: str) -> bytes:
        """Open the data key of an object that is there."""
        return self._ring.open(encryption.sealed, context_of(encryption, bucket, key))

    def again(self, data_key: bytes, encryption: Encryption, bucket: str, key: str) -> Encryption:
        """Seal the data key of an object for a second one, under whatever key that one is to have."""
        found = self._ring.usable(encryption.key)
        sealed = self._ring.seal(found.key_id, data_key, context_of(encryption, bucket, key))
        return replace(encryption, key=found.arn, sealed=sealed)


def context_of(encryption: Encryption, bucket: str, key: str) -> Mapping[str, str]:
    """Give the encryption context of an object's data key."""
    return {**encryption.context, ARN_OF_OBJECT: f"arn:aws:s3:::{bucket}/{key}"}


def way_of(encryption: Encryption | None) -> bool | None:
    """Say in which way an object is encrypted: by a key of KMS, by the store's own, or (None) not at all."""
    return None if encryption is None else encryption.by_kms


def etag_of(md5: bytes, encryption: Encryption | None) -> str:
    """Give the ETag of a content. With a key of KMS it is no digest, which would tell something of the content."""
    return secrets.token_hex(len(md5)) if way_of(encryption) else md5.hex()
