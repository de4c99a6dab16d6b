"""S3 through an unmodified boto3, over a socket, against the neighbours process."""

import base64
import hashlib
import io
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import urllib3
from botocore.exceptions import ClientError
from botocore.handlers import validate_bucket_name
from tests.support.neighbours import ALICE, BOB, Neighbours, neighbours_in

MIB = 2**20


@pytest.fixture(scope="module")
def neighbours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neighbours]:
    """One process for the module; each test has a bucket of its own."""
    with neighbours_in(tmp_path_factory.mktemp("n")) as running:
        yield running


@pytest.fixture(scope="module")
def s3(neighbours: Neighbours) -> Any:
    return neighbours.s3()


@pytest.fixture
def bucket(s3: Any, request: pytest.FixtureRequest) -> str:
    name = "t-" + hashlib.sha1(request.node.name.encode()).hexdigest()[:20]
    s3.create_bucket(Bucket=name)
    return name


def code(raised: pytest.ExceptionInfo[ClientError]) -> tuple[str, int]:
    response: Any = raised.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def read(s3: Any, bucket: str, key: str, **members: Any) -> bytes:
    body: bytes = s3.get_object(Bucket=bucket, Key=key, **members)["Body"].read()
    return body


# Objects


def test_what_is_said_of_an_object_is_kept(s3: Any, bucket: str) -> None:
    said = {
        "ContentType": "text/csv",
        "CacheControl": "no-store",
        "ContentDisposition": "inline",
        "ContentEncoding": "br",
        "ContentLanguage": "de",
        "Metadata": {"row": "7", "note": "a b"},
    }
    put = s3.put_object(Bucket=bucket, Key="k", Body=b"x", **said)
    for answer in (s3.get_object(Bucket=bucket, Key="k"), s3.head_object(Bucket=bucket, Key="k")):
        assert {name: answer[name] for name in said} == said
        assert (answer["ContentLength"], answer["ETag"]) == (1, put["ETag"])
        assert abs(answer["LastModified"] - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    "key", ["a b/c+d é.csv", "..", "a/../b", "a//b", "a%2Fb", "?x=1#y", "~'()*!&=;,:@$", "ﷺ/\U0001f600", "x" * 1024]
)
def test_any_key_is_found_again(s3: Any, bucket: str, key: str) -> None:
    s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert read(s3, bucket, key) == key.encode()
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [key]
    s3.delete_object(Bucket=bucket, Key=key)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_a_key_that_is_too_long_is_refused(s3: Any, bucket: str) -> None:
    with pytest.raises(ClientError) as raised:
        s3.put_object(Bucket=bucket, Key="x" * 1025, Body=b"")
    assert code(raised) == ("KeyTooLongError", 400)


@pytest.mark.parametrize(
    ("wanted", "part", "told"),
    [
        ("bytes=0-0", b"0", "bytes 0-0/10"),
        ("bytes=2-5", b"2345", "bytes 2-5/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=-99", b"0123456789", "bytes 0-9/10"),
        ("bytes=8-99", b"89", "bytes 8-9/10"),
    ],
)
def test_a_range_is_that_part(s3: Any, bucket: str, wanted: str, part: bytes, told: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    answer = s3.get_object(Bucket=bucket, Key="k", Range=wanted)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert (answer["Body"].read(), answer["ContentRange"]) == (part, told)


@pytest.mark.parametrize("wanted", ["bytes=10-", "bytes=99-100", "bytes=-0"])
def test_a_range_outside_the_object_is_refused(s3: Any, bucket: str, wanted: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    with pytest.raises(ClientError) as raised:
        s3.get_object(Bucket=bucket, Key="k", Range=wanted)
    assert code(raised) == ("InvalidRange", 416)


@pytest.mark.parametrize("wanted", ["bytes=5-2", "rows=1-2", "bytes=0-1,4-5", "bytes=-"])
def test_what_is_no_range_is_the_whole(s3: Any, bucket: str, wanted: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    assert read(s3, bucket, "k", Range=wanted) == b"0123456789"


def test_conditions_of_reads(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    modified = s3.head_object(Bucket=bucket, Key="k")["LastModified"]
    assert read(s3, bucket, "k", IfMatch=etag) == b"x"
    assert read(s3, bucket, "k", IfNoneMatch='"other"') == b"x"
    assert read(s3, bucket, "k", IfModifiedSince=modified - timedelta(hours=1)) == b"x"
    refused: list[tuple[dict[str, Any], tuple[str, int]]] = [
        ({"IfNoneMatch": etag}, ("304", 304)),
        ({"IfModifiedSince": modified}, ("304", 304)),
        ({"IfMatch": '"other"'}, ("PreconditionFailed", 412)),
        ({"IfUnmodifiedSince": modified - timedelta(hours=1)}, ("PreconditionFailed", 412)),
    ]
    for members, expected in refused:
        with pytest.raises(ClientError) as raised:
            s3.get_object(Bucket=bucket, Key="k", **members)
        assert code(raised) == expected


def test_an_object_is_put_only_if_there_is_none(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"first", IfNoneMatch="*")
    with pytest.raises(ClientError) as raised:
        s3.put_object(Bucket=bucket, Key="k", Body=b"second", IfNoneMatch="*")
    assert code(raised) == ("PreconditionFailed", 412)
    assert read(s3, bucket, "k") == b"first"


def test_what_is_not_there(s3: Any, bucket: str) -> None:
    with pytest.raises(s3.exceptions.NoSuchKey) as raised:
        s3.get_object(Bucket=bucket, Key="none")
    assert code(raised) == ("NoSuchKey", 404)
    with pytest.raises(ClientError) as raised:
        s3.head_object(Bucket=bucket, Key="none")
    assert code(raised) == ("404", 404)
    with pytest.raises(s3.exceptions.NoSuchBucket):
        s3.put_object(Bucket="no-such-bucket", Key="k", Body=b"x" * MIB)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0, "the connection must be usable after the refusal"


def test_deletions(s3: Any, bucket: str) -> None:
    for number in range(5):
        s3.put_object(Bucket=bucket, Key=f"k&{number}", Body=b"")
    assert s3.delete_object(Bucket=bucket, Key="none")["ResponseMetadata"]["HTTPStatusCode"] == 204
    several = [{"Key": "k&0"}, {"Key": "k&1"}, {"Key": "none"}]
    assert s3.delete_objects(Bucket=bucket, Delete={"Objects": several})["Deleted"] == several
    quiet = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k&2"}], "Quiet": True})
    assert "Deleted" not in quiet
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["k&3", "k&4"]


def test_copies(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a b+c", Body=b"x", ContentType="text/csv", Metadata={"m": "1"})
    source = {"Bucket": bucket, "Key": "a b+c"}
    s3.copy_object(Bucket=bucket, Key="same", CopySource=source)
    s3.copy_object(Bucket=bucket, Key="other", CopySource=source, MetadataDirective="REPLACE", Metadata={"m": "2"})
    heads = [s3.head_object(Bucket=bucket, Key=key) for key in ("same", "other")]
    assert [(head["ContentType"], head["Metadata"]) for head in heads] == [
        ("text/csv", {"m": "1"}),
        ("binary/octet-stream", {"m": "2"}),
    ]
    with pytest.raises(ClientError) as raised:
        s3.copy_object(Bucket=bucket, Key="a b+c", CopySource=source)
    assert code(raised) == ("InvalidRequest", 400)
    with pytest.raises(ClientError) as raised:
        s3.copy_object(Bucket=bucket, Key="x", CopySource=source, CopySourceIfMatch="other")
    assert code(raised) == ("PreconditionFailed", 412)
    with pytest.raises(ClientError) as raised:
        s3.copy_object(Bucket=bucket, Key="x", CopySource={"Bucket": bucket, "Key": "none"})
    assert code(raised) == ("NoSuchKey", 404)


# Lists


def test_lists_page_by_prefix_and_delimiter(s3: Any, bucket: str) -> None:
    for key in ("a/1", "a/2 +é", "a/b/3", "b/4", "c", "a&<"):
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    for operation in ("list_objects_v2", "list_objects"):
        pages = list(
            s3.get_paginator(operation).paginate(Bucket=bucket, Delimiter="/", PaginationConfig={"PageSize": 2})
        )
        objects = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        common = [entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", [])]
        assert (objects, common, len(pages)) == (["a&<", "c"], ["a/", "b/"], 2)
        below = list(s3.get_paginator(operation).paginate(Bucket=bucket, Prefix="a/", Delimiter="/"))
        assert [entry["Key"] for entry in below[0]["Contents"]] == ["a/1", "a/2 +é"]
        everything = s3.get_paginator(operation).paginate(Bucket=bucket, PaginationConfig={"PageSize": 1})
        assert len([entry for page in everything for entry in page["Contents"]]) == 6
    after = s3.list_objects_v2(Bucket=bucket, StartAfter="a/b/3", FetchOwner=True)
    assert [(entry["Key"], entry["Owner"]["ID"]) for entry in after["Contents"]] == [
        ("b/4", ALICE.account_id),
        ("c", ALICE.account_id),
    ]


def test_a_list_refuses_a_token_that_is_none(s3: Any, bucket: str) -> None:
    with pytest.raises(ClientError) as raised:
        s3.list_objects_v2(Bucket=bucket, ContinuationToken="!!")
    assert code(raised) == ("InvalidArgument", 400)


# Buckets


def test_buckets(neighbours: Neighbours, s3: Any, bucket: str) -> None:
    assert bucket in [entry["Name"] for entry in s3.list_buckets()["Buckets"]]
    assert s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] is None
    assert s3.head_bucket(Bucket=bucket)["BucketRegion"] == "us-east-1"
    s3.create_bucket(Bucket=bucket)  # once more is no fault in us-east-1
    europe = neighbours.s3(region="eu-west-1")
    location = {"LocationConstraint": "eu-west-1"}
    europe.create_bucket(Bucket=bucket + "-eu", CreateBucketConfiguration=location)
    assert s3.get_bucket_location(Bucket=bucket + "-eu")["LocationConstraint"] == "eu-west-1"
    with pytest.raises(ClientError) as raised:
        europe.create_bucket(Bucket=bucket + "-eu", CreateBucketConfiguration=location)
    assert code(raised) == ("BucketAlreadyOwnedByYou", 409)
    with pytest.raises(ClientError) as raised:
        europe.create_bucket(Bucket=bucket + "-2")
    assert code(raised) == ("IllegalLocationConstraintException", 400)


def test_only_an_empty_bucket_is_deleted(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    with pytest.raises(ClientError) as raised:
        s3.delete_bucket(Bucket=bucket)
    assert code(raised) == ("BucketNotEmpty", 409)
    s3.delete_object(Bucket=bucket, Key="k")
    s3.delete_bucket(Bucket=bucket)
    with pytest.raises(ClientError) as raised:
        s3.head_bucket(Bucket=bucket)
    assert code(raised) == ("404", 404)


@pytest.mark.parametrize("name", ["AB", "under_score", "192.168.0.1", "two..dots", "-dash"])
def test_a_name_that_is_none_is_refused(neighbours: Neighbours, name: str) -> None:
    s3 = neighbours.s3()
    for handlers in ("before-parameter-build.s3", "before-parameter-build.s3.CreateBucket"):
        s3.meta.events.unregister(handlers, validate_bucket_name)
    with pytest.raises(ClientError) as raised:
        s3.create_bucket(Bucket=name)
    assert code(raised) == ("InvalidBucketName", 400)


def test_another_accounts_bucket_is_closed(neighbours: Neighbours, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"secret")
    bob = neighbours.s3(BOB)
    bob.create_bucket(Bucket=bucket + "-bob")
    attempts: list[Callable[[], Any]] = [
        lambda: bob.get_object(Bucket=bucket, Key="k"),
        lambda: bob.put_object(Bucket=bucket, Key="k", Body=b""),
        lambda: bob.delete_object(Bucket=bucket, Key="k"),
        lambda: bob.list_objects_v2(Bucket=bucket),
        lambda: bob.copy_object(Bucket=bucket + "-bob", Key="k", CopySource={"Bucket": bucket, "Key": "k"}),
        lambda: bob.create_multipart_upload(Bucket=bucket, Key="k"),
        lambda: bob.delete_bucket(Bucket=bucket),
        lambda: s3.get_object(Bucket=bucket, Key="k", ExpectedBucketOwner=BOB.account_id),
    ]
    for attempt in attempts:
        with pytest.raises(ClientError) as raised:
            attempt()
        assert code(raised) == ("AccessDenied", 403)
    with pytest.raises(ClientError) as raised:
        bob.create_bucket(Bucket=bucket)
    assert code(raised) == ("BucketAlreadyExists", 409)
    assert [entry["Name"] for entry in bob.list_buckets()["Buckets"]] == [bucket + "-bob"]


# Checksums


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA1", "SHA256"])
def test_a_checksum_is_verified_kept_and_told(s3: Any, bucket: str, algorithm: str) -> None:
    put = s3.put_object(Bucket=bucket, Key="k", Body=b"123456789", ChecksumAlgorithm=algorithm)
    got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert put[f"Checksum{algorithm}"] == got[f"Checksum{algorithm}"]
    assert got["Body"].read() == b"123456789"


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("ChecksumCRC32", 0xCBF43926.to_bytes(4, "big")),
        ("ChecksumCRC32C", 0xE3069283.to_bytes(4, "big")),
        ("ChecksumCRC64NVME", 0xAE8B14860A799888.to_bytes(8, "big")),
        ("ChecksumSHA1", hashlib.sha1(b"123456789").digest()),
        ("ChecksumSHA256", hashlib.sha256(b"123456789").digest()),
        ("ContentMD5", hashlib.md5(b"123456789").digest()),
    ],
)
def test_a_wrong_checksum_leaves_no_object(s3: Any, bucket: str, member: str, value: bytes) -> None:
    right = base64.b64encode(value).decode()
    s3.put_object(Bucket=bucket, Key="right", Body=b"123456789", **{member: right})
    with pytest.raises(ClientError) as raised:
        s3.put_object(Bucket=bucket, Key="k", Body=b"123456780", **{member: right})
    assert code(raised) == ("BadDigest", 400)
    with pytest.raises(ClientError) as raised:
        s3.put_object(Bucket=bucket, Key="k", Body=b"123456789", **{member: "AAAA"})
    assert code(raised) in {("InvalidRequest", 400), ("InvalidDigest", 400)}
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["right"]


def test_a_body_changed_on_its_way_leaves_no_object(neighbours: Neighbours, bucket: str) -> None:
    s3 = neighbours.s3(request_checksum_calculation="when_required")

    def tamper(request: Any, **_: Any) -> None:
        request.body = b"tampered"

    s3.meta.events.register("before-send.s3.PutObject", tamper)
    with pytest.raises(ClientError) as raised:
        s3.put_object(Bucket=bucket, Key="k", Body=b"original")
    assert code(raised) == ("XAmzContentSHA256Mismatch", 400)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


# Big bodies


def test_64_mib_in_parts(s3: Any, bucket: str) -> None:
    content = random.Random(1).randbytes(64 * MIB + 5)
    s3.upload_fileobj(io.BytesIO(content), bucket, "big", ExtraArgs={"ContentType": "a/b", "Metadata": {"m": "1"}})
    head = s3.head_object(Bucket=bucket, Key="big")
    assert (head["ContentLength"], head["ContentType"], head["Metadata"]) == (len(content), "a/b", {"m": "1"})
    assert head["ETag"].endswith('-9"')
    target = io.BytesIO()
    s3.download_fileobj(bucket, "big", target)
    assert target.getvalue() == content


def test_an_upload_step_by_step(s3: Any, bucket: str) -> None:
    parts = [b"1" * 5 * MIB, b"2" * 5 * MIB, b"3"]
    where = {"Bucket": bucket, "Key": "k"}
    upload = {**where, "UploadId": s3.create_multipart_upload(**where)["UploadId"]}
    assert [entry["UploadId"] for entry in s3.list_multipart_uploads(Bucket=bucket)["Uploads"]] == [upload["UploadId"]]
    done = [
        {"PartNumber": number, "ETag": s3.upload_part(**upload, PartNumber=number, Body=part)["ETag"]}
        for number, part in enumerate(parts, 1)
    ]
    pages = list(s3.get_paginator("list_parts").paginate(**upload, PaginationConfig={"PageSize": 2}))
    listed = [(part["PartNumber"], part["Size"]) for page in pages for part in page["Parts"]]
    assert (listed, len(pages)) == ([(1, 5 * MIB), (2, 5 * MIB), (3, 1)], 2)
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": done})
    assert read(s3, bucket, "k") == b"".join(parts)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def test_a_part_may_be_copied(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="source", Body=b"0123456789")
    where = {"Bucket": bucket, "Key": "k"}
    upload = {**where, "UploadId": s3.create_multipart_upload(**where)["UploadId"]}
    source = {"Bucket": bucket, "Key": "source"}
    copied = s3.upload_part_copy(**upload, PartNumber=1, CopySource=source, CopySourceRange="bytes=2-5")
    parts = [{"PartNumber": 1, "ETag": copied["CopyPartResult"]["ETag"]}]
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    assert read(s3, bucket, "k") == b"2345"


@pytest.mark.parametrize("kind", ["COMPOSITE", "FULL_OBJECT"])
def test_an_upload_with_checksums(s3: Any, bucket: str, kind: str) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    started = s3.create_multipart_upload(**where, ChecksumAlgorithm="CRC32", ChecksumType=kind)
    upload = {**where, "UploadId": started["UploadId"]}
    part = s3.upload_part(**upload, PartNumber=1, Body=b"123456789", ChecksumAlgorithm="CRC32")
    named = {"PartNumber": 1, "ETag": part["ETag"], "ChecksumCRC32": part["ChecksumCRC32"]}
    wrong = {**named, "ChecksumCRC32": "AAAAAA=="}
    with pytest.raises(ClientError) as raised:
        s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": [wrong]})
    assert code(raised) == ("InvalidPart", 400)
    with pytest.raises(ClientError) as raised:
        s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": [named]}, ChecksumCRC32="AAAAAA==")
    assert code(raised) == ("BadDigest", 400)
    made = s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": [named]})
    assert made["ChecksumType"] == kind
    assert made["ChecksumCRC32"].endswith("-1") == (kind == "COMPOSITE")
    assert read(s3, bucket, "k") == b"123456789"


def test_faults_of_uploads(s3: Any, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    upload = {**where, "UploadId": s3.create_multipart_upload(**where)["UploadId"]}
    done = [
        {"PartNumber": number, "ETag": s3.upload_part(**upload, PartNumber=number, Body=b"x")["ETag"]}
        for number in (1, 2)
    ]
    refused: list[tuple[list[dict[str, Any]], str]] = [
        (done[::-1], "InvalidPartOrder"),
        (done, "EntityTooSmall"),
        ([{"PartNumber": 3, "ETag": "x"}], "InvalidPart"),
        ([], "MalformedXML"),
    ]
    for parts, expected in refused:
        with pytest.raises(ClientError) as raised:
            s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        assert code(raised) == (expected, 400)
    with pytest.raises(ClientError) as raised:
        s3.upload_part(**upload, PartNumber=10_001, Body=b"")
    assert code(raised) == ("InvalidArgument", 400)
    s3.abort_multipart_upload(**upload)
    with pytest.raises(ClientError) as raised:
        s3.upload_part(**upload, PartNumber=1, Body=b"")
    assert code(raised) == ("NoSuchUpload", 404)


def test_overwrites_at_once_never_mix(s3: Any, bucket: str) -> None:
    bodies = [bytes([65 + number]) * (MIB + number) for number in range(4)]
    s3.put_object(Bucket=bucket, Key="k", Body=bodies[0])
    stop = threading.Event()
    seen: set[bytes] = set()

    def look() -> None:
        while not stop.is_set():
            seen.add(read(s3, bucket, "k"))

    def write(number: int) -> None:
        for _ in range(5):
            s3.put_object(Bucket=bucket, Key="k", Body=bodies[number])

    with ThreadPoolExecutor(6) as threads:
        readers = [threads.submit(look) for _ in range(2)]
        for writer in [threads.submit(write, number) for number in range(4)]:
            writer.result()
        stop.set()
        for reader in readers:
            reader.result()
    assert seen <= set(bodies)


# Who calls


def test_keys_that_do_not_fit_are_refused(neighbours: Neighbours, bucket: str) -> None:
    unknown = type(ALICE)("AKIANOBODY", "x", "1", "x")
    wrong = type(ALICE)(ALICE.access_key_id, "not-the-secret", "1", "x")
    refused = [(unknown, "InvalidAccessKeyId"), (wrong, "SignatureDoesNotMatch")]
    for key, expected in refused:
        with pytest.raises(ClientError) as raised:
            neighbours.s3(key).list_objects_v2(Bucket=bucket)
        assert code(raised) == (expected, 403)


def test_an_unsigned_request_is_refused(neighbours: Neighbours, bucket: str) -> None:
    answer = urllib3.request("GET", f"{neighbours.url}/{bucket}/k")
    assert (answer.status, b"<Code>AccessDenied</Code>" in answer.data) == (403, True)


@pytest.mark.parametrize("version", ["s3", "s3v4"])
def test_presigned_urls(neighbours: Neighbours, bucket: str, version: str) -> None:
    s3 = neighbours.s3(signature_version=version)
    where = {"Bucket": bucket, "Key": "a b/é+c"}
    put = s3.generate_presigned_url("put_object", {**where, "ContentType": "text/csv"})
    assert urllib3.request("PUT", put, body=b"presigned", headers={"Content-Type": "text/csv"}).status == 200
    get = s3.generate_presigned_url("get_object", {**where, "ResponseContentType": "a/b"})
    answer = urllib3.request("GET", get)
    assert (answer.data, answer.headers["Content-Type"]) == (b"presigned", "a/b")
    assert urllib3.request("GET", get.replace("%20b", "%20c")).status == 403


def test_a_presigned_url_ends(neighbours: Neighbours, bucket: str) -> None:
    s3 = neighbours.s3(signature_version="s3")
    url = s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "k"}, ExpiresIn=-1)
    answer = urllib3.request("GET", url)
    assert (answer.status, b"Request has expired" in answer.data) == (403, True)


def test_the_presigned_urls_of_a_plain_client_work(neighbours: Neighbours, s3: Any, bucket: str) -> None:
    url = s3.generate_presigned_url("put_object", {"Bucket": bucket, "Key": "k", "Metadata": {"m": "1"}})
    assert urllib3.request("PUT", url, body=b"x").status == 200
    assert s3.head_object(Bucket=bucket, Key="k")["Metadata"] == {"m": "1"}


# What is not there


def test_what_moorage_does_not_have_is_refused_by_name(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    where = {"Bucket": bucket, "Key": "k"}
    attempts: dict[str, Callable[[], Any]] = {
        "GetBucketAcl": lambda: s3.get_bucket_acl(Bucket=bucket),
        "PutBucketVersioning": lambda: s3.put_bucket_versioning(
            Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
        ),
        "PutBucketPolicy": lambda: s3.put_bucket_policy(Bucket=bucket, Policy="{}"),
        "GetObjectTagging": lambda: s3.get_object_tagging(**where),
        "x-amz-tagging": lambda: s3.put_object(**where, Tagging="a=b"),
        "x-amz-acl": lambda: s3.put_object(**where, ACL="public-read"),
        "x-amz-server-side-encryption-customer": lambda: s3.put_object(
            **where, SSECustomerAlgorithm="AES256", SSECustomerKey="k" * 32
        ),
        "versionId": lambda: s3.get_object(**where, VersionId="1"),
        "partNumber": lambda: s3.get_object(**where, PartNumber=1),
    }
    for name, attempt in attempts.items():
        with pytest.raises(ClientError, match=name) as raised:
            attempt()
        assert code(raised) == ("NotImplemented", 501)


def test_an_upload_by_a_form_is_refused_by_name(s3: Any, bucket: str) -> None:
    form = s3.generate_presigned_post(bucket, "k")
    answer = urllib3.request("POST", form["url"], fields={**form["fields"], "file": ("k", b"x")})
    assert (answer.status, b"NotImplemented" in answer.data, b"PostObject" in answer.data) == (501, True, True)
