"""Model data in the buckets of the embedded store: every form of it, one copy of each, and what changes meanwhile."""

import asyncio
import contextlib
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.support.models import pack
from tests.support.objects import ring_in, store_in

from moorage.base.clock import SystemClock
from moorage.base.settings import Limits
from moorage.engine.artifacts import ArtifactFailure, Artifacts
from moorage.engine.contract import ModelSource
from moorage.kms.records import Home
from moorage.objects.folder import FolderStore
from moorage.objects.store import Bucket, Encryption, ObjectInfo, ObjectReader, Page

TREE = ModelSource("s3://b/m/", "S3Prefix", "None")
FILES = {"weights.bin": b"w" * 300_000, "code/inference.py": b"print()", "code/lib/deep/empty": b""}


@dataclass
class Room:
    """A store with a bucket, and what is made of it."""

    store: FolderStore
    artifacts: Artifacts
    folder: Path

    async def put(self, key: str, content: bytes, encryption: Encryption | None = None) -> ObjectInfo:
        async def body() -> AsyncIterator[bytes]:
            yield content

        return await self.store.put("b", key, body(), encryption=encryption)

    async def put_all(self, files: Mapping[str, bytes], prefix: str = "m/") -> None:
        for name, content in files.items():
            await self.put(prefix + name, content)

    async def fetch(self, source: ModelSource, holder: str = "", told: Callable[[str], None] = print) -> Path:
        return await self.artifacts.fetch(source, told, holder)

    async def fails(self, source: ModelSource) -> str:
        with pytest.raises(ArtifactFailure) as failure:
            await self.fetch(source)
        assert self.left() == []
        return str(failure.value)

    def left(self) -> list[str]:
        models = self.folder / "models"
        return [path.name for path in models.glob("*") if not path.name.endswith(".lock")] if models.exists() else []


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    with contextlib.closing(store_in(tmp_path)) as store:
        await store.create_bucket("b", account="1", region="r")
        yield Room(store, Artifacts(store, tmp_path / "models", Limits(), SystemClock()), tmp_path)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def test_prefix_is_the_folder_of_all_its_objects_and_read_only(room: Room) -> None:
    await room.put_all(FILES)
    await room.put("m", b"beside")
    await room.put("m2/other", b"beside")
    previous = os.umask(0o077)
    try:
        folder = await room.fetch(TREE)
    finally:
        os.umask(previous)
    assert contents(folder) == FILES
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()}
    assert modes == {0o444}
    assert {stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.rglob("*")] if path.is_dir()} == {0o555}


async def test_bucket_itself_is_a_prefix(room: Room) -> None:
    await room.put_all(FILES, "")
    assert contents(await room.fetch(replace(TREE, uri="s3://b/"))) == FILES


@pytest.mark.parametrize("uri", ["s3://b/m/weights.bin", "https://s3.eu-west-1.amazonaws.com/b/m/weights.bin"])
async def test_single_object_is_a_file_by_the_last_part_of_its_key(room: Room, uri: str) -> None:
    await room.put_all(FILES)
    folder = await room.fetch(ModelSource(uri, compression="None"))
    assert contents(folder) == {"weights.bin": FILES["weights.bin"]}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o555
    assert stat.S_IMODE((folder / "weights.bin").stat().st_mode) == 0o444


async def test_the_same_archive_is_another_folder_when_it_is_not_extracted(room: Room) -> None:
    packed = pack({"a": b"1"})
    await room.put("model.tar.gz", packed)
    source = ModelSource("s3://b/model.tar.gz")
    assert contents(await room.fetch(source)) == {"a": b"1"}
    assert contents(await room.fetch(replace(source, compression="None"))) == {"model.tar.gz": packed}


async def test_more_objects_than_a_page_lists_all_come(room: Room) -> None:
    files = {f"{number % 7}/{number}": str(number).encode() for number in range(1100)}
    await room.put_all(files)
    assert contents(await room.fetch(TREE)) == files


async def test_four_instances_share_one_copy_that_is_fetched_once(room: Room) -> None:
    await room.put_all(FILES)
    told: list[str] = []
    folders = await asyncio.gather(*(room.fetch(TREE, f"i-{number}", told.append) for number in range(4)))
    assert len(set(folders)) == 1
    assert len(room.left()) == 1
    assert len([line for line in told if line.startswith("downloading")]) == 1
    for number in range(3):
        room.artifacts.release(f"i-{number}")
    assert await room.artifacts.sweep(idle_seconds=0) == []
    room.artifacts.release("i-3")
    assert await room.artifacts.sweep(idle_seconds=0) == [folders[0].parent]


async def test_what_is_changed_added_or_removed_below_a_prefix_makes_it_another(room: Room) -> None:
    await room.put_all(FILES)
    folders = [await room.fetch(TREE)]
    await room.put("m/weights.bin", b"new")
    folders.append(await room.fetch(TREE))
    await room.put("m/more", b"more")
    folders.append(await room.fetch(TREE))
    await room.store.delete("b", "m/code/inference.py")
    folders.append(await room.fetch(TREE))
    assert len(set(folders)) == 4
    assert contents(folders[0]) == FILES
    assert contents(folders[3]) == {"weights.bin": b"new", "more": b"more", "code/lib/deep/empty": b""}
    await room.put("m/weights.bin", FILES["weights.bin"])
    await room.put("m/code/inference.py", FILES["code/inference.py"])
    await room.store.delete("b", "m/more")
    assert await room.fetch(TREE) == folders[0]


async def test_file_outlives_its_object_and_is_not_the_stores_own(room: Room) -> None:
    await room.put_all(FILES)
    folder = await room.fetch(TREE)
    for name in FILES:
        await room.store.delete("b", f"m/{name}")
    assert contents(folder) == FILES
    assert not list((room.folder / "objects" / "blobs").iterdir())
    assert {path.stat().st_nlink for path in folder.rglob("*") if path.is_file()} == {1}


async def test_encrypted_objects_are_decrypted_beside_plain_ones(room: Room) -> None:
    key = ring_in(room.folder).create_key(Home("000000000000", "eu-west-1"))
    await room.put_all(FILES)
    await room.put("m/secret", b"s" * 2_000_000, Encryption(key.arn))
    assert contents(await room.fetch(TREE)) == {**FILES, "secret": b"s" * 2_000_000}
    assert contents(await room.fetch(ModelSource("s3://b/m/secret", compression="None"))) == {
        "secret": b"s" * 2_000_000
    }


async def test_manifest_restricts_a_prefix_to_what_it_lists(room: Room) -> None:
    await room.put_all(FILES)
    await room.put("manifest.csv", b"s3://b/m/weights.bin\ncode/inference.py\n")
    source = replace(TREE, manifest="s3://b/manifest.csv")
    folder = await room.fetch(source)
    assert contents(folder) == {name: FILES[name] for name in ("weights.bin", "code/inference.py")}
    await room.put("m/not-listed", b"x")
    assert await room.fetch(source) == folder


async def test_manifest_that_lists_what_is_not_there_fails(room: Room) -> None:
    await room.put_all(FILES)
    await room.put("manifest.csv", b"weights.bin\ngone\n")
    said = await room.fails(replace(TREE, manifest="s3://b/manifest.csv"))
    assert said == "The manifest lists m/gone, which is not in the bucket b. (s3://b/m/)"
    said = await room.fails(replace(TREE, manifest="s3://b/none.csv"))
    assert said.startswith("There is no model data at s3://b/none.csv: ")


async def test_pins_let_only_that_version_through(room: Room) -> None:
    await room.put_all(FILES)
    info = await room.put("model.tar.gz", pack({"a": b"1"}))
    listed = await room.put("manifest.csv", b"weights.bin\n")
    pinned = ModelSource("s3://b/model.tar.gz", etag=f'"{info.etag}"')
    tree = replace(TREE, manifest="s3://b/manifest.csv", manifest_etag=listed.etag)
    assert contents(await room.fetch(pinned, "i-1")) == {"a": b"1"}
    assert contents(await room.fetch(tree, "i-1")) == {"weights.bin": FILES["weights.bin"]}
    room.artifacts.release("i-1")
    await room.artifacts.sweep(idle_seconds=0)
    changed = await room.put("model.tar.gz", pack({"a": b"2"}))
    await room.put("manifest.csv", b"code/inference.py\n")
    wants = f"the model wants the one with the ETag {info.etag}"
    assert f"The object at s3://b/model.tar.gz has the ETag {changed.etag}, and {wants}" in await room.fails(pinned)
    assert "The object at s3://b/manifest.csv has the ETag" in await room.fails(tree)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ([], "There are no objects below s3://b/m/."),
        (["m/", "m/a"], "would give one an empty name (the S3 console makes such an object"),
        (["m/a", "m/sub/"], "would give one an empty name (the S3 console makes such an object"),
        (["m/a//b"], "an empty name"),
        (["m/../../etc/passwd"], "the name '..'"),
        (["m/./a"], "the name '.'"),
        (["m/" + "x" * 256], "more than 255 bytes"),
        (["m/weights", "m/weights/part1"], "m/weights both as an object and as a folder, of m/weights/part1"),
    ],
)
async def test_objects_that_cannot_be_files_fail_and_leave_nothing(room: Room, keys: list[str], said: str) -> None:
    for key in keys:
        await room.put(key, b"x")
    before = sorted(room.folder.rglob("*"))
    text = await room.fails(TREE)
    assert said in text
    assert text.endswith("(s3://b/m/)")
    assert [path for path in sorted(room.folder.rglob("*")) if path not in before] == []


async def test_single_object_that_has_no_name_for_a_file_fails(room: Room) -> None:
    await room.put("m/", b"x")
    assert "an empty name" in await room.fails(ModelSource("s3://b/m/", compression="None"))
    assert "There is no model data at s3://b/gone: " in await room.fails(ModelSource("s3://b/gone", compression="None"))


async def test_bucket_that_is_not_there_is_told(room: Room) -> None:
    assert "There is no model data at s3://none/m/: " in await room.fails(replace(TREE, uri="s3://none/m/"))


@pytest.mark.parametrize(
    "source",
    [
        ModelSource("s3://b/model.tar.gz"),
        ModelSource("https://b.s3.amazonaws.com/model.tar.gz"),
        TREE,
        ModelSource("s3://mine/", "S3Prefix", "None", manifest="s3://b/m/weights.bin"),
    ],
)
async def test_data_of_another_accounts_bucket_is_not_given(room: Room, source: ModelSource) -> None:
    await room.put_all(FILES)
    await room.put("model.tar.gz", pack({"a": b"1"}))
    await room.store.create_bucket("mine", account="2", region="r")
    for _ in range(2):  # also not when it is there already, for its owner
        with pytest.raises(ArtifactFailure, match="The bucket b is another account's"):
            await room.artifacts.fetch(source, print, "i-2", "2")
        if "mine" not in source.uri:
            assert contents(await room.artifacts.fetch(source, print, "i-1", "1"))


async def test_limits_hold_for_what_is_not_packed(room: Room) -> None:
    await room.put_all({str(number): b"x" * 10 for number in range(11)})
    small = Artifacts(room.store, room.folder / "models", replace(Limits(), artifact_files=10), SystemClock())
    with pytest.raises(ArtifactFailure, match="more than 10 files"):
        await small.fetch(TREE, print)
    small = Artifacts(room.store, room.folder / "models", replace(Limits(), artifact_bytes=109), SystemClock())
    with pytest.raises(ArtifactFailure, match="larger than 109 bytes"):
        await small.fetch(TREE, print)
    small = Artifacts(room.store, room.folder / "models", replace(Limits(), artifact_bytes=9), SystemClock())
    with pytest.raises(ArtifactFailure, match="larger than 9 bytes"):
        await small.fetch(ModelSource("s3://b/m/1", compression="None"), print)
    assert room.left() == []


async def test_object_that_is_replaced_after_the_list_makes_it_look_again(room: Room) -> None:
    await room.put_all(FILES)
    reading = _Reads(room.store, lambda: room.put("m/weights.bin", b"new"))
    artifacts = Artifacts(reading, room.folder / "models", Limits(), SystemClock())
    folder = await artifacts.fetch(TREE, print)
    assert contents(folder) == {**FILES, "weights.bin": b"new"}
    assert reading.lists == 2


async def test_object_that_is_removed_after_the_list_makes_it_look_again(room: Room) -> None:
    await room.put_all(FILES)
    reading = _Reads(room.store, lambda: room.store.delete("b", "m/weights.bin"))
    artifacts = Artifacts(reading, room.folder / "models", Limits(), SystemClock())
    assert "weights.bin" not in contents(await artifacts.fetch(TREE, print))


async def test_objects_that_change_all_the_time_are_given_up(room: Room) -> None:
    await room.put_all(FILES)
    counted = iter(range(1000))
    reading = _Reads(room.store, lambda: room.put("m/weights.bin", str(next(counted)).encode()), times=1000)
    artifacts = Artifacts(reading, room.folder / "models", Limits(), SystemClock())
    with pytest.raises(ArtifactFailure, match="changed again and again"):
        await artifacts.fetch(TREE, print)
    assert room.left() == []


async def test_cancelled_fetch_of_a_tree_leaves_nothing(room: Room) -> None:
    await room.put_all({str(number): b"x" for number in range(300)})
    begun = asyncio.Event()
    fetching = asyncio.ensure_future(room.fetch(TREE, told=lambda _line: begun.set()))
    await asyncio.wait_for(begun.wait(), 10)
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    assert room.left() == []


async def test_channels_are_side_by_side_and_shared(room: Room) -> None:
    await room.put_all(FILES)
    await room.put("adapter.tar.gz", pack({"a": b"1", "deep/b": b"2"}))
    tree, adapter = await room.fetch(TREE), await room.fetch(ModelSource("s3://b/adapter.tar.gz"))
    folder = await room.artifacts.side_by_side({"base": tree, "adapter": adapter})
    assert contents(folder) == {
        **{f"base/{name}": content for name, content in FILES.items()},
        "adapter/a": b"1",
        "adapter/deep/b": b"2",
    }
    assert (folder / "base" / "weights.bin").samefile(tree / "weights.bin")
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "base", folder / "base/code")} == {0o555}
    assert await room.artifacts.side_by_side({"adapter": adapter, "base": tree}) == folder
    assert await room.artifacts.side_by_side({"base": adapter, "adapter": tree}) != folder


async def test_connection_to_a_store_that_breaks_off_is_continued_at_the_same_byte(room: Room) -> None:
    content = os.urandom(3_000_000)
    await room.put("weights", content)
    breaking = _Breaks(room.store, [100_000, 1_500_000])
    artifacts = Artifacts(breaking, room.folder / "models", Limits(), _Unhurried())
    folder = await artifacts.fetch(ModelSource("s3://b/weights", compression="None"), print)
    assert contents(folder) == {"weights": content}
    assert breaking.starts == [0, 100_000, 1_600_000]


class _Unhurried(SystemClock):
    """Waits for nothing."""

    async def sleep_until(self, _deadline: float) -> None:
        await asyncio.sleep(0)


class _Through:
    """A store that has to be read, as one on another machine."""

    def __init__(self, store: FolderStore) -> None:
        self._store = store
        self.lists = 0

    async def bucket(self, name: str) -> Bucket:
        return await self._store.bucket(name)

    async def open(self, bucket: str, key: str) -> ObjectReader:
        return await self._store.open(bucket, key)

    async def list(
        self, bucket: str, *, prefix: str = "", delimiter: str = "", after: str = "", limit: int = 1000
    ) -> Page:
        self.lists += 1
        return await self._store.list(bucket, prefix=prefix, delimiter=delimiter, after=after, limit=limit)


class _Reads(_Through):
    """Something happens after its next lists."""

    def __init__(self, store: FolderStore, happens: Callable[[], Awaitable[object]], times: int = 1) -> None:
        super().__init__(store)
        self._happens = happens
        self._times = times

    async def list(
        self, bucket: str, *, prefix: str = "", delimiter: str = "", after: str = "", limit: int = 1000
    ) -> Page:
        page = await super().list(bucket, prefix=prefix, delimiter=delimiter, after=after, limit=limit)
        if self._times:
            self._times -= 1
            await self._happens()
        return page


class _Breaks(_Through):
    """Its connections break off after so many bytes each."""

    def __init__(self, store: FolderStore, after: list[int]) -> None:
        super().__init__(store)
        self.after = after
        self.starts: list[int] = []

    async def open(self, bucket: str, key: str) -> ObjectReader:
        return _Breaking(await self._store.open(bucket, key), self)


class _Breaking:
    def __init__(self, reader: ObjectReader, store: _Breaks) -> None:
        self._reader = reader
        self._store = store

    @property
    def info(self) -> ObjectInfo:
        return self._reader.info

    async def chunks(self, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        self._store.starts.append(start)
        if not self._store.after:
            async for piece in self._reader.chunks(start, end):
                yield piece
            return
        async for piece in self._reader.chunks(start, start + self._store.after.pop(0)):
            yield piece
        raise ConnectionResetError("Connection reset by peer")

    async def close(self) -> None:
        await self._reader.close()
