"""What every object store must do. Each maker gives two stores on the same objects: one may be another process's."""

import asyncio
import base64
import hashlib
import random
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from tests.support.objects import store_in

from moorage.objects.download import read_to_file
from moorage.objects.faults import (
    BucketExists,
    BucketNotEmpty,
    EntityTooSmall,
    InvalidPart,
    InvalidPartOrder,
    NoSuchBucket,
    NoSuchKey,
    NoSuchUpload,
    PreconditionFailed,
    UnusableUri,
)
from moorage.objects.store import Condition, Description, Encryption, FileSpan, NamedPart, ObjectStore, Upload

MIB = 2**20


@dataclass
class Stores:
    """The store and the same objects seen by somebody else."""

    here: ObjectStore
    there: ObjectStore


def folder_stores(folder: Path) -> Iterator[Stores]:
    stores = [store_in(folder) for _ in range(2)]
    yield Stores(*stores)
    for store in stores:
        store.close()


def encrypting_stores(folder: Path) -> Iterator[Stores]:
    """Encrypt everything with a key of the store's own, which nobody should notice."""
    encryption = Encryption("arn:aws:kms:us-east-1:000000000001:alias/aws/s3", by_kms=False)
    stores = [store_in(folder) for _ in range(2)]
    for store in stores:
        for owner, name in ((store, "put"), (store, "copy"), (store.uploads, "start")):
            setattr(owner, name, partial(getattr(owner, name), encryption=encryption))
    yield Stores(*stores)
    for store in stores:
        store.close()


@pytest.fixture(params=[folder_stores, encrypting_stores], ids=["folder", "encrypted"])
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stores]:
    make: Callable[[Path], Iterator[Stores]] = request.param
    made = make(tmp_path)
    both = next(made)
    await both.here.create_bucket("b", account="1", region="us-east-1")
    yield both
    assert next(made, None) is None


async def body(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def content(store: ObjectStore, key: str, start: int = 0, end: int | None = None) -> bytes:
    reader = await store.open("b", key)
    try:
        return b"".join([piece async for piece in reader.chunks(start, end)])
    finally:
        await reader.close()


async def keys(store: ObjectStore, prefix: str = "", delimiter: str = "", limit: int = 1000) -> list[list[str]]:
    """All pages of a list, objects and common prefixes together in order."""
    pages = []
    after: str | None = ""
    while after is not None:
        page = await store.list("b", prefix=prefix, delimiter=delimiter, after=after, limit=limit)
        pages.append(sorted([*(info.key for info in page.objects), *page.common_prefixes]))
        after = page.next_after
    return pages


async def test_what_was_put_is_read_by_everybody(stores: Stores) -> None:
    description = Description("text/csv", {"cache-control": "no-store"}, {"row": "7"})
    info = await stores.here.put("b", "k/é", body(b"ab", b"", b"cd"), description, checksum="crc32")
    assert (info.etag, info.size) == (hashlib.md5(b"abcd").hexdigest(), 4)
    assert info.checksum is not None
    assert info.checksum.value == base64.b64encode(zlib.crc32(b"abcd").to_bytes(4, "big")).decode()
    assert await stores.there.head("b", "k/é") == info
    assert await content(stores.there, "k/é") == b"abcd"
    assert await content(stores.there, "k/é", 1, 3) == b"bc"


@pytest.mark.parametrize(("etag", "kept"), [(None, hashlib.md5(b"b" * 5 * MIB).hexdigest()), ("mine-1", "mine-1")])
async def test_a_part_of_a_file_is_an_object(stores: Stores, tmp_path: Path, etag: str | None, kept: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a" * 100 + b"b" * 5 * MIB + b"c" * 100)
    with path.open("rb") as file:
        info = await stores.here.put("b", "k", FileSpan(file.fileno(), 100, 100 + 5 * MIB), etag=etag)
    assert (info.size, info.etag) == (5 * MIB, kept)
    assert await content(stores.there, "k") == b"b" * 5 * MIB


async def test_a_file_that_has_become_shorter_leaves_the_old_object(stores: Stores, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"short")
    await stores.here.put("b", "k", body(b"old"))
    with path.open("rb") as file, pytest.raises(OSError, match="shorter"):
        await stores.here.put("b", "k", FileSpan(file.fileno(), 0, 6), etag="mine-1")
    assert await content(stores.there, "k") == b"old"


async def test_an_empty_object_is_an_object(stores: Stores) -> None:
    await stores.here.put("b", "empty", body())
    assert await content(stores.there, "empty") == b""


async def test_what_is_not_there_is_said_with_its_name(stores: Stores) -> None:
    with pytest.raises(NoSuchKey):
        await stores.here.head("b", "none")
    with pytest.raises(NoSuchBucket):
        await stores.here.open("none", "k")
    with pytest.raises(NoSuchBucket):
        await stores.here.put("none", "k", body(b"x"))
    with pytest.raises(NoSuchBucket):
        await stores.here.list("none")


async def test_a_body_that_breaks_off_leaves_the_old_object(stores: Stores) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"n" * 3 * MIB
        raise ConnectionError

    await stores.here.put("b", "k", body(b"old"))
    with pytest.raises(ConnectionError):
        await stores.here.put("b", "k", broken())
    assert await content(stores.there, "k") == b"old"


async def test_a_refused_body_leaves_no_object(stores: Stores) -> None:
    def refuse(values: object) -> None:
        raise ValueError(values)

    with pytest.raises(ValueError, match="sha256"):
        await stores.here.put("b", "k", body(b"x"), digests=["sha256"], check=refuse)
    with pytest.raises(NoSuchKey):
        await stores.there.head("b", "k")


async def test_a_cancelled_put_leaves_the_old_object(stores: Stores) -> None:
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"n" * MIB
            begun.set()

    await stores.here.put("b", "k", body(b"old"))
    putting = asyncio.create_task(stores.here.put("b", "k", endless()))
    await begun.wait()
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert await content(stores.there, "k") == b"old"


async def test_a_reader_goes_on_while_the_object_is_replaced_and_deleted(stores: Stores) -> None:
    await stores.here.put("b", "k", body(b"o" * 3 * MIB))
    reader = await stores.there.open("b", "k")
    await stores.here.put("b", "k", body(b"new"))
    await stores.here.delete("b", "k")
    assert b"".join([piece async for piece in reader.chunks()]) == b"o" * 3 * MIB
    await reader.close()


async def test_concurrent_writers_and_readers_never_mix_two_bodies(stores: Stores) -> None:
    bodies = [bytes([65 + number]) * (2 * MIB + number) for number in range(6)]
    await stores.here.put("b", "k", body(bodies[0]))

    async def write(which: int) -> None:
        store = (stores.here, stores.there)[which % 2]
        await store.put("b", "k", body(*(bodies[which][at : at + 65_536] for at in range(0, 3 * MIB, 65_536))))

    async def read() -> bytes:
        return await content(stores.there, "k")

    _, *read_bodies = await asyncio.gather(
        asyncio.gather(*(write(which) for which in range(6))), *(read() for _ in range(12))
    )
    assert set(read_bodies) <= set(bodies)


async def test_deleting_what_is_not_there_is_no_fault(stores: Stores) -> None:
    await stores.here.delete("b", "none")


async def test_of_many_writers_that_want_nothing_there_one_wins(stores: Stores) -> None:
    absent = Condition(absent=True)
    outcomes = await asyncio.gather(
        *(stores.here.put("b", "k", body(bytes([number])), condition=absent) for number in range(5)),
        *(stores.there.put("b", "k", body(bytes([number])), condition=absent) for number in range(5, 10)),
        return_exceptions=True,
    )
    assert sum(not isinstance(outcome, BaseException) for outcome in outcomes) == 1
    assert {type(outcome) for outcome in outcomes if isinstance(outcome, BaseException)} == {PreconditionFailed}


async def test_a_write_to_an_etag_that_has_gone_is_refused(stores: Stores) -> None:
    info = await stores.here.put("b", "k", body(b"1"))
    await stores.there.put("b", "k", body(b"2"), condition=Condition(etag=info.etag))
    with pytest.raises(PreconditionFailed):
        await stores.there.put("b", "k", body(b"3"), condition=Condition(etag=info.etag))
    with pytest.raises(PreconditionFailed):
        await stores.there.delete("b", "k", condition=Condition(etag=info.etag))
    with pytest.raises(NoSuchKey):
        await stores.there.put("b", "none", body(b"3"), condition=Condition(etag=info.etag))


async def test_a_copy_outlives_its_source(stores: Stores) -> None:
    await stores.here.put("b", "source", body(b"x" * 2 * MIB), Description("a/b", metadata={"m": "1"}))
    copy = await stores.there.copy(("b", "source"), "b", "target")
    other = await stores.there.copy(("b", "source"), "b", "other", Description("c/d"))
    await stores.here.delete("b", "source")
    assert await content(stores.there, "target") == b"x" * 2 * MIB
    assert (copy.description.metadata, other.description.content_type) == ({"m": "1"}, "c/d")
    with pytest.raises(NoSuchKey):
        await stores.here.copy(("b", "source"), "b", "again")


async def test_an_object_can_be_copied_to_itself(stores: Stores) -> None:
    await stores.here.put("b", "k", body(b"x"))
    await stores.here.copy(("b", "k"), "b", "k", Description("c/d"))
    assert await content(stores.there, "k") == b"x"


async def test_lists_are_in_the_order_of_utf8_bytes(stores: Stores) -> None:
    names = ["a", "a/", "b", "Z", "é", "￿", "\U00010000", "a\x01b", "~"]
    for name in names:
        await stores.here.put("b", name, body(b""))
    page = await stores.there.list("b")
    assert [info.key for info in page.objects] == sorted(names, key=str.encode)


@pytest.mark.parametrize("delimiter", ["", "/", "//", "b"])
@pytest.mark.parametrize("prefix", ["", "a", "a/", "a/b", "￿"])
@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
async def test_pages_equal_a_plain_filter(stores: Stores, prefix: str, delimiter: str, limit: int) -> None:
    dice = random.Random(f"{prefix}{delimiter}{limit}")
    names = {"".join(dice.choices("ab/￿\U0010ffff", k=dice.randint(1, 5))) for _ in range(40)}
    for name in names:
        await stores.here.put("b", name, body(b""))
    wanted = set()
    for name in names:
        if name.startswith(prefix):
            end = name.find(delimiter, len(prefix)) if delimiter else -1
            wanted.add(name if end < 0 else name[: end + len(delimiter)])
    pages = await keys(stores.there, prefix, delimiter, limit)
    assert [key for page in pages for key in page] == sorted(wanted)
    assert all(len(page) <= limit for page in pages)


async def test_a_list_of_none_is_whole(stores: Stores) -> None:
    await stores.here.put("b", "k", body(b""))
    page = await stores.here.list("b", limit=0)
    assert (page.objects, page.common_prefixes, page.next_after) == ([], [], None)


async def test_buckets_belong_to_accounts(stores: Stores) -> None:
    await stores.there.create_bucket("c", account="2", region="eu-west-1")
    assert [bucket.name for bucket in await stores.here.buckets("2")] == ["c"]
    assert (await stores.here.bucket("c")).region == "eu-west-1"
    with pytest.raises(BucketExists) as own:
        await stores.here.create_bucket("c", account="2", region="eu-west-1")
    with pytest.raises(BucketExists) as others:
        await stores.here.create_bucket("c", account="1", region="eu-west-1")
    assert (own.value.code, others.value.code) == ("BucketAlreadyOwnedByYou", "BucketAlreadyExists")


async def test_only_an_empty_bucket_is_deleted(stores: Stores) -> None:
    await stores.here.put("b", "k", body(b"x"))
    with pytest.raises(BucketNotEmpty):
        await stores.there.delete_bucket("b")
    await stores.here.delete("b", "k")
    await stores.there.delete_bucket("b")
    with pytest.raises(NoSuchBucket):
        await stores.here.bucket("b")


async def started(stores: Stores, *parts: bytes, algorithm: str | None = None, kind: str = "COMPOSITE") -> Upload:
    upload = await stores.here.uploads.start("b", "k", Description("a/b"), algorithm=algorithm, kind=kind)
    for number, part in enumerate(parts, 1):
        await stores.there.uploads.put_part(upload, number, body(part))
    return upload


def named(*parts: bytes) -> list[NamedPart]:
    return [NamedPart(number, hashlib.md5(part).hexdigest()) for number, part in enumerate(parts, 1)]


async def test_an_upload_becomes_one_object(stores: Stores) -> None:
    parts = (b"1" * 5 * MIB, b"2" * 6 * MIB, b"3")
    upload = await started(stores, b"replaced", *parts[1:], algorithm="crc32")
    await stores.here.uploads.put_part(upload, 1, body(parts[0]))
    info = await stores.there.uploads.complete(upload, named(*parts))
    assert await content(stores.here, "k") == b"".join(parts)
    joined = b"".join(hashlib.md5(part).digest() for part in parts)
    assert info.etag == f"{hashlib.md5(joined).hexdigest()}-3"
    crcs = b"".join(zlib.crc32(part).to_bytes(4, "big") for part in parts)
    assert info.checksum is not None
    assert info.checksum.value == base64.b64encode(zlib.crc32(crcs).to_bytes(4, "big")).decode() + "-3"
    with pytest.raises(NoSuchUpload):
        await stores.here.uploads.complete(upload, named(*parts))


async def test_an_upload_may_have_the_checksum_of_the_whole(stores: Stores) -> None:
    parts = (b"1" * 5 * MIB, b"2")
    upload = await started(stores, *parts, algorithm="crc32", kind="FULL_OBJECT")
    info = await stores.here.uploads.complete(upload, named(*parts))
    assert info.checksum is not None
    assert info.checksum.value == base64.b64encode(zlib.crc32(b"".join(parts)).to_bytes(4, "big")).decode()


async def test_parts_must_be_named_as_they_are(stores: Stores) -> None:
    upload = await started(stores, b"small", b"x")
    first, second = named(b"small", b"x")
    with pytest.raises(InvalidPartOrder):
        await stores.here.uploads.complete(upload, [second, first])
    with pytest.raises(InvalidPart):
        await stores.here.uploads.complete(upload, [first, NamedPart(2, first.etag)])
    with pytest.raises(InvalidPart):
        await stores.here.uploads.complete(upload, [first, NamedPart(3, second.etag)])
    with pytest.raises(EntityTooSmall):
        await stores.here.uploads.complete(upload, [first, second])
    with pytest.raises(NoSuchKey):
        await stores.here.head("b", "k")


async def test_an_aborted_upload_is_gone(stores: Stores) -> None:
    upload = await started(stores, b"x")
    assert [part.number for part in await stores.there.uploads.parts(upload)] == [1]
    assert await stores.there.uploads.list("b") == [upload]
    await stores.there.uploads.abort(upload)
    assert await stores.here.uploads.list("b") == []
    with pytest.raises(NoSuchUpload):
        await stores.here.uploads.put_part(upload, 2, body(b"y"))


async def test_an_object_is_downloaded_into_a_file(stores: Stores, tmp_path: Path) -> None:
    await stores.here.put("b", "k/x", body(b"z" * 3 * MIB))
    info = await read_to_file(stores.there, "s3://b/k/x", tmp_path / "file")
    assert (info.size, (tmp_path / "file").read_bytes()) == (3 * MIB, b"z" * 3 * MIB)
    with pytest.raises(NoSuchKey):
        await read_to_file(stores.there, "s3://b/none", tmp_path / "none")
    with pytest.raises(UnusableUri):
        await read_to_file(stores.there, "https://b/none", tmp_path / "none")
    assert not (tmp_path / "none").exists()
