"""Server-side encryption of S3 through an unmodified boto3: what is asked for, what lies on the disk, who may read."""

import base64
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.support import neighbours as support
from tests.support.neighbours import ALICE, BOB, DORA, Neighbours, neighbours_in
from tests.support.objects import kept_bytes

MIB = 2**20
SECRET = b"the quick brown fox, in plain text. "
SEALED_FRAME_BYTES = 65_536 + 16


@pytest.fixture(scope="module")
def neighbours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neighbours]:
    with neighbours_in(tmp_path_factory.mktemp("sse")) as running:
        running.s3().create_bucket(Bucket="vault")
        yield running


@pytest.fixture(scope="module")
def s3(neighbours: Neighbours) -> Any:
    return neighbours.s3()


@pytest.fixture(scope="module")
def kms(neighbours: Neighbours) -> Any:
    return neighbours.kms()


@pytest.fixture
def key(kms: Any) -> Any:
    return kms.create_key()["KeyMetadata"]


def error_of(call: Any, **members: Any) -> tuple[str, int, str]:
    with pytest.raises(ClientError) as caught:
        call(**members)
    answer = caught.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Message"]


def read(s3: Any, name: str, **more: Any) -> bytes:
    content: bytes = s3.get_object(Bucket="vault", Key=name, **more)["Body"].read()
    return content


def by(key: Any) -> dict[str, str]:
    """Give the members that ask for a key."""
    return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key["Arn"]}


def test_an_object_with_a_key_is_nowhere_on_the_disk_in_plain_text(
    s3: Any, kms: Any, key: Any, neighbours: Neighbours
) -> None:
    kms.create_alias(AliasName="alias/disk", TargetKeyId=key["KeyId"])
    content = SECRET * 40_000
    asked = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "alias/disk", "ChecksumAlgorithm": "SHA256"}
    put = s3.put_object(Bucket="vault", Key="disk", Body=content, **asked)
    assert SECRET not in kept_bytes(neighbours.data_dir)
    assert (put["ServerSideEncryption"], put["SSEKMSKeyId"]) == ("aws:kms", key["Arn"])
    assert put["ETag"] != f'"{hashlib.md5(content).hexdigest()}"'
    for answer in (s3.head_object(Bucket="vault", Key="disk"), s3.get_object(Bucket="vault", Key="disk")):
        assert (answer["ServerSideEncryption"], answer["SSEKMSKeyId"]) == ("aws:kms", key["Arn"])
        assert (answer["ETag"], answer["ContentLength"]) == (put["ETag"], len(content))
    assert read(s3, "disk") == content


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 131_072, 3 * MIB + 5])
def test_ranges_of_any_size(s3: Any, key: Any, size: int) -> None:
    content = os.urandom(size)
    s3.put_object(Bucket="vault", Key="r", Body=content, **by(key))
    assert read(s3, "r") == content
    ranges = [(0, 1), (65_535, 65_537), (size - 1, size), (100, MIB + 100), (size // 2, size)]
    for start, end in [(start, end) for start, end in ranges if 0 <= start < min(end, size)]:
        assert read(s3, "r", Range=f"bytes={start}-{end - 1}") == content[start:end]


def test_the_default_keys(s3: Any, kms: Any, neighbours: Neighbours) -> None:
    put = s3.put_object(Bucket="vault", Key="d1", Body=SECRET, ServerSideEncryption="aws:kms", BucketKeyEnabled=True)
    default = kms.describe_key(KeyId="alias/aws/s3")["KeyMetadata"]
    assert (put["SSEKMSKeyId"], put["BucketKeyEnabled"]) == (default["Arn"], True)
    own = s3.put_object(Bucket="vault", Key="d2", Body=SECRET, ServerSideEncryption="AES256")
    assert (own["ServerSideEncryption"], own["ETag"]) == ("AES256", f'"{hashlib.md5(SECRET).hexdigest()}"')
    assert "SSEKMSKeyId" not in own
    assert s3.head_object(Bucket="vault", Key="d2")["ServerSideEncryption"] == "AES256"
    assert SECRET not in kept_bytes(neighbours.data_dir)
    assert read(s3, "d1") == read(s3, "d2") == SECRET
    plain = s3.put_object(Bucket="vault", Key="d3", Body=b"kept as it came")
    assert "ServerSideEncryption" not in plain


def test_a_disabled_or_deleted_key_locks_its_objects(s3: Any, kms: Any, key: Any) -> None:
    s3.put_object(Bucket="vault", Key="l", Body=SECRET, **by(key))
    kms.disable_key(KeyId=key["KeyId"])
    refusal = ("KMS.DisabledException", 400, f"{key['Arn']} is disabled.")
    assert error_of(s3.get_object, Bucket="vault", Key="l") == refusal
    assert error_of(s3.copy_object, Bucket="vault", Key="l2", CopySource="vault/l") == refusal
    assert error_of(s3.put_object, Bucket="vault", Key="l3", Body=b"x", **by(key)) == refusal
    assert s3.head_object(Bucket="vault", Key="l")["ContentLength"] == len(SECRET)
    kms.enable_key(KeyId=key["KeyId"])
    assert read(s3, "l") == SECRET
    kms.schedule_key_deletion(KeyId=key["KeyId"], PendingWindowInDays=7)
    assert error_of(s3.get_object, Bucket="vault", Key="l")[:2] == ("KMS.KMSInvalidStateException", 400)
    kms.cancel_key_deletion(KeyId=key["KeyId"])
    kms.enable_key(KeyId=key["KeyId"])
    assert read(s3, "l") == SECRET


def test_a_multipart_upload_is_encrypted_part_by_part(s3: Any, key: Any, neighbours: Neighbours) -> None:
    first, second = SECRET * (5 * MIB // len(SECRET) + 1), SECRET * 10
    started = s3.create_multipart_upload(Bucket="vault", Key="m", **by(key))
    assert (started["ServerSideEncryption"], started["SSEKMSKeyId"]) == ("aws:kms", key["Arn"])
    upload = {"Bucket": "vault", "Key": "m", "UploadId": started["UploadId"]}
    parts = []
    for number, body in enumerate((first, second), start=1):
        part = s3.upload_part(PartNumber=number, Body=body, **upload)
        assert part["SSEKMSKeyId"] == key["Arn"]
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    assert SECRET not in kept_bytes(neighbours.data_dir)
    done = s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **upload)
    assert (done["SSEKMSKeyId"], done["ETag"].strip('"').endswith("-2")) == (key["Arn"], True)
    assert SECRET not in kept_bytes(neighbours.data_dir)
    assert read(s3, "m") == first + second
    seam = len(first)
    assert read(s3, "m", Range=f"bytes={seam - 7}-{seam + 9}") == first[-7:] + second[:10]


def test_copies_are_encrypted_as_the_copy_says(s3: Any, kms: Any, key: Any, neighbours: Neighbours) -> None:
    other = kms.create_key()["KeyMetadata"]
    s3.put_object(Bucket="vault", Key="c", Body=SECRET, **by(key))
    assert s3.copy_object(Bucket="vault", Key="c2", CopySource="vault/c", **by(other))["SSEKMSKeyId"] == other["Arn"]
    assert s3.copy_object(Bucket="vault", Key="c3", CopySource="vault/c")["ServerSideEncryption"] == "AES256"
    assert SECRET not in kept_bytes(neighbours.data_dir)
    kms.disable_key(KeyId=key["KeyId"])
    s3.delete_object(Bucket="vault", Key="c")
    assert read(s3, "c2") == read(s3, "c3") == SECRET
    assert s3.head_object(Bucket="vault", Key="c3")["ETag"] == f'"{hashlib.md5(SECRET).hexdigest()}"'


def test_a_plain_object_is_encrypted_by_a_copy_onto_itself(s3: Any, key: Any, neighbours: Neighbours) -> None:
    plain = b"plain for a while"
    s3.put_object(Bucket="vault", Key="p", Body=plain)
    assert plain in kept_bytes(neighbours.data_dir)
    s3.copy_object(Bucket="vault", Key="p", CopySource="vault/p", **by(key))
    assert plain not in kept_bytes(neighbours.data_dir)
    assert read(s3, "p") == plain


def test_a_part_can_be_copied_out_of_an_encrypted_object(s3: Any, key: Any) -> None:
    s3.put_object(Bucket="vault", Key="src", Body=SECRET, **by(key))
    started = s3.create_multipart_upload(Bucket="vault", Key="pc", ServerSideEncryption="AES256")
    upload = {"Bucket": "vault", "Key": "pc", "UploadId": started["UploadId"]}
    part = s3.upload_part_copy(PartNumber=1, CopySource="vault/src", CopySourceRange="bytes=4-8", **upload)
    parts = [{"PartNumber": 1, "ETag": part["CopyPartResult"]["ETag"]}]
    s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **upload)
    assert read(s3, "pc") == SECRET[4:9]


def test_who_may_not_use_the_key_may_not_use_the_object(s3: Any, kms: Any, key: Any, neighbours: Neighbours) -> None:
    """Dora may do everything in S3, but of KMS only ``Decrypt`` with tagged keys and one encryption context."""
    dora = neighbours.s3(DORA)
    s3.put_object(Bucket="vault", Key="w", Body=SECRET, **by(key))
    code, status, message = error_of(dora.get_object, Bucket="vault", Key="w")
    assert (code, status) == ("AccessDenied", 403)
    assert f'not authorized to perform: kms:Decrypt on resource: "{key["Arn"]}"' in message
    assert "kms:GenerateDataKey" in error_of(dora.put_object, Bucket="vault", Key="w2", Body=b"x", **by(key))[2]
    assert error_of(dora.copy_object, Bucket="vault", Key="w3", CopySource="vault/w")[0] == "AccessDenied"
    kms.tag_resource(KeyId=key["KeyId"], Tags=[{"TagKey": "team", "TagValue": "one"}])
    context = base64.b64encode(json.dumps({"team": "red"}).encode()).decode()
    s3.put_object(Bucket="vault", Key="w", Body=SECRET, SSEKMSEncryptionContext=context, **by(key))
    assert read(dora, "w") == SECRET
    default = dora.put_object(Bucket="vault", Key="w4", Body=SECRET, ServerSideEncryption="aws:kms")
    assert default["ServerSideEncryption"] == "aws:kms"
    assert read(dora, "w4") == SECRET


def test_keys_of_others_and_of_nobody(s3: Any, neighbours: Neighbours) -> None:
    of_bob = neighbours.kms(BOB).create_key()["KeyMetadata"]["Arn"]
    asked = {"Bucket": "vault", "Key": "o", "Body": b"x", "ServerSideEncryption": "aws:kms"}
    assert error_of(s3.put_object, SSEKMSKeyId=of_bob, **asked)[:2] == ("AccessDenied", 403)
    missing = f"arn:aws:kms:us-east-1:{ALICE.account_id}:key/00000000-0000-4000-8000-000000000000"
    assert error_of(s3.put_object, SSEKMSKeyId=missing, **asked)[:2] == ("KMS.NotFoundException", 400)
    assert error_of(s3.put_object, SSEKMSKeyId="alias/nobody", **asked)[:2] == ("KMS.NotFoundException", 400)


def test_headers_that_contradict_each_other(s3: Any, key: Any) -> None:
    where = {"Bucket": "vault", "Key": "h", "Body": b"x"}
    refused = [
        {"ServerSideEncryption": "AES256", "SSEKMSKeyId": key["Arn"]},
        {"SSEKMSKeyId": key["Arn"]},
        {"ServerSideEncryption": "rot13"},
        {"ServerSideEncryption": "aws:kms", "SSEKMSEncryptionContext": "nothing"},
    ]
    for members in refused:
        assert error_of(s3.put_object, **where, **members)[:2] == ("InvalidArgument", 400)
    assert error_of(s3.put_object, **where, ServerSideEncryption="aws:kms:dsse")[0] == "NotImplemented"


@pytest.mark.parametrize(
    "broken",
    [
        lambda whole: whole[:-1],
        lambda whole: whole[: 16 + 2 * SEALED_FRAME_BYTES],
        lambda whole: whole[:100] + bytes([whole[100] ^ 1]) + whole[101:],
        lambda whole: whole[:16] + whole[16 + SEALED_FRAME_BYTES :],
        lambda whole: bytes([whole[0] ^ 1]) + whole[1:],
    ],
    ids=["cut", "cut at a frame", "changed", "without a frame", "another salt"],
)
def test_a_file_that_was_tampered_with_is_not_given_out(tmp_path: Path, broken: Any) -> None:
    with neighbours_in(tmp_path) as running:
        s3 = running.s3()
        s3.create_bucket(Bucket="vault")
        s3.put_object(Bucket="vault", Key="t", Body=SECRET * 10_000, ServerSideEncryption="AES256")
        (file,) = (running.data_dir / "objects" / "blobs").iterdir()
        whole = file.read_bytes()
        file.write_bytes(broken(whole))
        with pytest.raises(Exception, match=r"IncompleteRead|Connection"):
            s3.get_object(Bucket="vault", Key="t")["Body"].read()
        file.write_bytes(whole)
        assert s3.get_object(Bucket="vault", Key="t")["Body"].read() == SECRET * 10_000


def test_who_uses_no_key_does_not_pay_for_the_library(tmp_path: Path) -> None:
    with neighbours_in(tmp_path) as running:
        s3, maps = running.s3(), Path(f"/proc/{running.process.pid}/maps")
        s3.create_bucket(Bucket="vault")
        s3.put_object(Bucket="vault", Key="k", Body=b"x")
        assert running.kms().list_keys()["Keys"] == []
        assert "cryptography" not in maps.read_text()
        s3.put_object(Bucket="vault", Key="k", Body=b"x", ServerSideEncryption="AES256")
        assert "cryptography" in maps.read_text()


_WITHOUT_LIBRARY = """
import importlib.abc, sys
class Nothing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] == "cryptography":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Nothing())
"""


def test_without_the_library_nothing_is_claimed_and_named_keys_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SDKs ask for ``aws:kms`` on their own, so a plain installation must not refuse that."""
    monkeypatch.setattr(support, "_CHILD", _WITHOUT_LIBRARY + support._CHILD)
    with neighbours_in(tmp_path) as running:
        s3 = running.s3()
        s3.create_bucket(Bucket="vault")
        where = {"Bucket": "vault", "Key": "k", "Body": b"x"}
        for wish in ("AES256", "aws:kms"):
            assert "ServerSideEncryption" not in s3.put_object(**where, ServerSideEncryption=wish)
        named = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "alias/mine"}
        code, status, message = error_of(s3.put_object, **where, **named)
        assert (code, status) == ("NotImplemented", 501)
        assert "pip install 'moorage[kms]'" in message
        code, _, message = error_of(running.kms().create_key)
        assert (code, "pip install 'moorage[kms]'" in message) == ("UnsupportedOperationException", True)
