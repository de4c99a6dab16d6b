"""Server-side encryption: what a request asks for, whether its caller may use the key, and what an answer says.

``aws:kms`` encrypts with a key of KMS, by default the account's ``alias/aws/s3``; ``AES256`` with the same key, of
which the caller hears nothing. Without the library for it (``pip install 'moorage[kms]'``) both are taken and nothing
is encrypted, because SDKs ask for them on their own, and the answer does not claim it; a key that is named is refused.
"""

import asyncio
import base64
import binascii
from collections.abc import Mapping

import orjson

from moorage.aws.errors import ClientFault, OurFault, ServiceError
from moorage.iam.context import resource_tags
from moorage.iam.patterns import Context
from moorage.kms import cipher, faults
from moorage.kms.records import Home, Key
from moorage.neighbours.s3.call import Call
from moorage.neighbours.s3.faults import access_denied, invalid_argument, not_implemented
from moorage.neighbours.s3.request import S3Request
from moorage.objects.sealing import context_of
from moorage.objects.store import Encryption, ObjectInfo

PREFIX = "x-amz-server-side-encryption"
KEY_ID = f"{PREFIX}-aws-kms-key-id"
CONTEXT = f"{PREFIX}-context"
BUCKET_KEY = f"{PREFIX}-bucket-key-enabled"

_KMS = "aws:kms"
_OWN = "AES256"
_DEFAULT_KEY = "alias/aws/s3"

_CODES: tuple[tuple[type[faults.KeyUnusable], str], ...] = (
    (faults.NoSuchKey, "KMS.NotFoundException"),
    (faults.NoSuchAlias, "KMS.NotFoundException"),
    (faults.KeyDisabled, "KMS.DisabledException"),
    (faults.KeyPendingDeletion, "KMS.KMSInvalidStateException"),
    (faults.InvalidCiphertext, "KMS.InvalidCiphertextException"),
)


async def wanted(call: Call) -> Encryption | None:
    """Give how the object that a request writes is to be encrypted; None: not at all.

    Raises InvalidArgument, AccessDenied, and S3's errors about keys.
    """
    request = call.request
    way, named = _read_headers(request)
    if way is None:
        return None
    if not cipher.available():
        if named is not None:
            raise not_implemented(f"the library to encrypt with (the header {KEY_ID}): pip install 'moorage[kms]'")
        return None
    home = Home(call.caller.account, call.caller.region)
    if way == _OWN:
        return Encryption(home.arn(_DEFAULT_KEY), by_kms=False)
    key = await asyncio.to_thread(_find, call, named or _DEFAULT_KEY, home)
    bucket_key = request.headers.get(BUCKET_KEY, "false").lower() == "true"
    encryption = Encryption(key.arn, context=_read_context(request.headers.get(CONTEXT)), bucket_key=bucket_key)
    _check_allowed(call, "GenerateDataKey", key, context_of(encryption, request.bucket, request.key))
    return encryption


async def wanted_of_copy(call: Call, source: Encryption | None) -> Encryption | None:
    """Give how a copy is to be encrypted: when nothing is said of it as AES256, if its source is encrypted."""
    asked = await wanted(call)
    if asked is None and source is not None:
        return Encryption(Home(call.caller.account, call.caller.region).arn(_DEFAULT_KEY), by_kms=False)
    return asked


async def check_reader(call: Call, info: ObjectInfo) -> None:
    """Refuse a caller who may not decrypt an object; raises AccessDenied, and S3's errors about keys."""
    encryption = info.encryption
    if encryption is not None and encryption.by_kms:
        key = await asyncio.to_thread(call.ring.find, encryption.key)
        _check_allowed(call, "Decrypt", key, context_of(encryption, info.bucket, info.key))


def refuse_headers(request: S3Request) -> None:
    """Refuse headers about encryption where nothing is written; raises InvalidArgument."""
    for name in (PREFIX, KEY_ID, CONTEXT, BUCKET_KEY):
        if name in request.headers:
            raise invalid_argument(f"{name} header is not supported for this operation.", name, request.headers[name])


def headers_of(encryption: Encryption | None) -> list[tuple[str, str]]:
    """Give the headers of an answer about an encrypted object."""
    if encryption is None:
        return []
    if not encryption.by_kms:
        return [(PREFIX, _OWN)]
    bucket_key = [(BUCKET_KEY, "true")] if encryption.bucket_key else []
    return [(PREFIX, _KMS), (KEY_ID, encryption.key), *bucket_key]


def as_service_error(fault: faults.KeyUnusable) -> ServiceError:
    """Make S3's error of a key that cannot be used."""
    for kind, code in _CODES:
        if isinstance(fault, kind):
            return ClientFault(code, str(fault))
    if isinstance(fault, faults.LibraryMissing):
        return not_implemented(f"what it takes to read or write encrypted objects. {fault}")
    return OurFault("KMS.KeyUnavailableException", str(fault))


def _read_headers(request: S3Request) -> tuple[str | None, str | None]:
    """Give the way of encryption and the name of the key that a request asks for."""
    headers = request.headers
    way = headers.get(PREFIX)
    if way not in {None, _KMS, _OWN}:
        if way == "aws:kms:dsse":
            raise not_implemented(f"the {PREFIX} {way}")
        raise invalid_argument("The encryption method specified is not supported", PREFIX, str(way))
    for name in (KEY_ID, CONTEXT):
        if name in headers and way != _KMS:
            raise invalid_argument(
                f"Server Side Encryption with AWS KMS managed key requires HTTP header {PREFIX} : {_KMS}",
                PREFIX,
                way or "null",
            )
    return way, headers.get(KEY_ID)


def _find(call: Call, name: str, home: Home) -> Key:
    key = call.ring.usable(name, home)
    if key.home.account != home.account:
        raise access_denied()
    return key


def _check_allowed(call: Call, action: str, key: Key, context: Mapping[str, str]) -> None:
    """Ask the caller's policies; everybody in the account may use the key that was made for S3, through S3."""
    if key.service is not None:
        return
    more: Context = {
        **resource_tags(key.tags),
        "kms:calleraccount": (call.caller.account,),
        "kms:viaservice": (f"s3.{call.caller.region}.amazonaws.com",),
        **{f"kms:encryptioncontext:{name.lower()}": (value,) for name, value in context.items()},
        "kms:encryptioncontextkeys": tuple(context),
    }
    if (refusal := call.refuse(f"kms:{action}", key.arn, more)) is not None:
        raise refusal


def _read_context(text: str | None) -> Mapping[str, str]:
    """Read the encryption context: Base64 of a JSON object of texts."""
    if text is None:
        return {}
    try:
        context = orjson.loads(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        context = None
    if not isinstance(context, dict) or not all(isinstance(value, str) for value in context.values()):
        raise invalid_argument("The header must be the Base64 of a JSON object of texts", CONTEXT, text)
    return context
