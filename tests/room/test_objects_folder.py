"""What is particular to the folder store: what crashes leave, what it costs, and many processes on one folder."""

import asyncio
import errno
import os
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.support.objects import store_in

from moorage.kms.faults import InvalidCiphertext
from moorage.objects.database import UnusableStore
from moorage.objects.folder import FolderStore
from moorage.objects.store import Encryption, FileSpan

MIB = 2**20

_OTHER_PROCESS = """
import asyncio, sys
from pathlib import Path
from moorage.base.clock import SystemClock
from moorage.base.ids import SystemIds
from moorage.kms.ring import KeyRing
from moorage.kms.faults import InvalidCiphertext
from moorage.objects.folder import FolderStore
from moorage.objects.store import Encryption, FileSpan

async def body(name):
    yield name.encode() * 20_000

async def main():
    clock, ids, folder = SystemClock(), SystemIds(), Path(sys.argv[1])
    store = FolderStore(folder, clock, ids, KeyRing(folder.parent / "kms", clock, ids))
    for count in range(40):
        await store.put("b", f"k{count % 5}", body(sys.argv[2]))
        await store.sweep()
        reader = await store.open("b", f"k{count % 5}")
        read = b"".join([piece async for piece in reader.chunks()])
        await reader.close()
        assert len(set(read)) == 1 and len(read) == 20_000, read[:50]
    store.close()

asyncio.run(main())
"""


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FolderStore]:
    store = store_in(tmp_path)
    await store.create_bucket("b", account="1", region="us-east-1")
    yield store
    store.close()


def files(store_folder: Path) -> set[str]:
    return {path.name for name in ("blobs", "unfinished") for path in (store_folder / name).iterdir()}


async def body(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def test_no_file_is_left_that_no_object_names(store: FolderStore, tmp_path: Path) -> None:
    folder = tmp_path / "objects"
    await store.put("b", "k", body(b"1"))
    await store.put("b", "k", body(b"2"))
    await store.copy(("b", "k"), "b", "c")
    assert len(files(folder)) == 2
    await store.delete("b", "k")
    await store.delete("b", "c")
    assert files(folder) == set()


async def test_a_sweep_removes_what_crashes_left_and_nothing_else(store: FolderStore, tmp_path: Path) -> None:
    folder = tmp_path / "objects"
    await store.put("b", "k", body(b"kept"))
    kept = files(folder)
    (folder / "blobs" / "0123").write_bytes(b"renamed, never committed")
    (folder / "unfinished" / "4567").write_bytes(b"half")
    assert await store.sweep() == 2
    assert files(folder) == kept


async def test_a_sweep_spares_what_is_being_written(store: FolderStore, tmp_path: Path) -> None:
    half = asyncio.Event()
    go_on = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"x" * 2 * MIB
        half.set()
        await go_on.wait()
        yield b"y"

    putting = asyncio.create_task(store.put("b", "k", slow()))
    await half.wait()
    other = store_in(tmp_path)
    assert await other.sweep() == 0
    other.close()
    go_on.set()
    assert (await putting).size == 2 * MIB + 1


async def test_processes_share_a_folder(store: FolderStore, tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", _OTHER_PROCESS, str(tmp_path / "objects")]
    others = [
        await asyncio.create_subprocess_exec(*arguments, letter, stderr=asyncio.subprocess.PIPE) for letter in "xyz"
    ]
    outcomes = [await asyncio.wait_for(other.communicate(), 60) for other in others]
    assert [(other.returncode, errors) for other, (_, errors) in zip(others, outcomes, strict=True)] == [(0, b"")] * 3
    assert len((await store.list("b")).objects) == 5
    assert len(files(tmp_path / "objects")) == 5


async def test_a_folder_of_a_newer_version_is_refused(store: FolderStore, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "objects" / "index.db") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    newer = store_in(tmp_path)
    with pytest.raises(UnusableStore, match="version 99"):
        await newer.head("b", "k")
    newer.close()


async def test_the_folder_of_an_older_version_goes_on(store: FolderStore, tmp_path: Path) -> None:
    await store.put("b", "k", body(b"kept"))
    store.close()
    with sqlite3.connect(tmp_path / "objects" / "index.db") as connection:
        for table in ("objects", "uploads"):
            connection.execute(f"ALTER TABLE {table} DROP COLUMN encryption")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    newer = store_in(tmp_path)
    encryption = Encryption("arn:aws:kms:us-east-1:000000000001:alias/aws/s3")
    await newer.put("b", "new", body(b"secret"), encryption=encryption)
    read = []
    for key in ("k", "new"):
        reader = await newer.open("b", key)
        read.append(b"".join([piece async for piece in reader.chunks()]))
        await reader.close()
    newer.close()
    assert read == [b"kept", b"secret"]


async def test_an_object_cannot_be_given_the_data_key_of_another(store: FolderStore, tmp_path: Path) -> None:
    encryption = Encryption("arn:aws:kms:us-east-1:000000000001:alias/aws/s3")
    for key in ("one", "two"):
        await store.put("b", key, body(b"secret"), encryption=encryption)
    with sqlite3.connect(tmp_path / "objects" / "index.db") as connection:
        connection.execute(
            "UPDATE objects SET (encryption, blob) = (SELECT encryption, blob FROM objects WHERE key = 'one') "
            "WHERE key = 'two'"
        )
    connection.close()
    with pytest.raises(InvalidCiphertext):
        await store.open("b", "two")


@pytest.fixture
def crowded(tmp_path: Path, store: FolderStore) -> FolderStore:
    """Fill the index alone: the files of a hundred thousand objects say nothing about lists."""
    row = "'blob', 1, 'etag', 0.0, '[\"a/b\",{},{}]', NULL, NULL"
    with sqlite3.connect(tmp_path / "objects" / "index.db") as connection:
        connection.execute(
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 99999) INSERT INTO objects "
            f"SELECT 'b', CASE WHEN i < 50000 THEN 'deep/' ELSE printf('d%03d/', i % 500) END || i, {row} FROM n"
        )
    connection.close()
    return store


async def test_a_hundred_thousand_keys_are_paged_quickly(crowded: FolderStore) -> None:
    started = time.process_time()
    after: str | None = ""
    count = 0
    while after is not None:
        page = await crowded.list("b", after=after)
        count += len(page.objects)
        after = page.next_after
    assert count == 100_000
    assert time.process_time() - started < 10, "a page must not cost more the farther it is"


async def test_a_common_prefix_does_not_cost_the_keys_below_it(crowded: FolderStore) -> None:
    started = time.process_time()
    page = await crowded.list("b", delimiter="/")
    assert len(page.common_prefixes) == 501
    assert time.process_time() - started < 0.5


async def test_a_big_object_passes_in_bounded_memory(store: FolderStore) -> None:
    piece = os.urandom(65_536)

    async def big() -> AsyncIterator[bytes]:
        for _ in range(300 * MIB // len(piece)):
            seen.append(resident_bytes())
            yield piece

    seen = [resident_bytes()]
    info = await store.put("b", "big", big(), checksum="crc64nvme", digests=["sha256"])
    reader = await store.open("b", "big")
    read = 0
    async for chunk in reader.chunks():
        read += len(chunk)
        seen.append(resident_bytes())
    await reader.close()
    assert (info.size, read) == (300 * MIB, 300 * MIB)
    assert max(seen) - seen[0] < 40 * MIB


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_stores_are_closed_by_who_opens_them(tmp_path: Path) -> None:
    def descriptors() -> Iterator[str]:
        return (str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.exists())

    async def use() -> None:
        store = store_in(tmp_path)
        await store.create_bucket("b", account="1", region="us-east-1")
        await store.put("b", "k", body(b"x"))
        store.close()

    asyncio.run(use())
    assert [name for name in descriptors() if str(tmp_path) in name] == []


@pytest.mark.parametrize("before", [0, MIB])
async def test_a_file_that_the_kernel_does_not_copy_to_its_end_is_read(
    store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    asked = []

    def refuse(source: int, target: int, count: int, offset: int) -> int:
        asked.append(count)
        if offset >= before:
            raise OSError(errno.EXDEV, "two file systems")
        return os.sendfile(target, source, offset, before - offset)

    monkeypatch.setattr(os, "copy_file_range", refuse)
    whole = b"0123456789abcdef" * (MIB // 8)
    (tmp_path / "file").write_bytes(whole)
    with (tmp_path / "file").open("rb") as file:
        await store.put("b", "k", FileSpan(file.fileno(), 0, len(whole)), etag="mine-1")
    reader = await store.open("b", "k")
    assert b"".join([piece async for piece in reader.chunks()]) == whole
    await reader.close()
    assert asked
