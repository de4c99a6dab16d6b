"""Model artefacts: fetched once, extracted once, shared, and nothing hostile gets through."""

import asyncio
import errno
import gzip
import io
import os
import stat
import sys
import tarfile
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from moorage.base.clock import SystemClock
from moorage.base.settings import Limits
from moorage.engine.artifacts import ArtifactFailure, Artifacts
from moorage.engine.contract import ModelSource
from moorage.objects.faults import NoSuchBucket, NoSuchKey
from moorage.objects.store import Bucket, Description, ObjectInfo, Page

URL = ModelSource("s3://bucket/model.tar.gz")
Entry = tarfile.TarInfo


@dataclass
class Opened:
    """An object that is read in small pieces."""

    info: ObjectInfo
    content: bytes
    opened: "FakeStore"

    async def chunks(self, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        content = self.content[start:end]
        for position in range(0, len(content), 1000):
            self.opened.pieces += 1
            yield content[position : position + 1000]

    async def close(self) -> None:
        self.opened.closed += 1


@dataclass
class FakeStore:
    """One bucket in memory."""

    objects: dict[str, bytes] = field(default_factory=dict)
    missing_bytes: int = 0
    pieces: int = 0
    opens: int = 0
    closed: int = 0

    async def bucket(self, name: str) -> Bucket:
        return Bucket(name, "000000000000", "us-east-1", 0.0)

    async def list(
        self, bucket: str, *, prefix: str = "", delimiter: str = "", after: str = "", limit: int = 1000
    ) -> Page:
        raise NotImplementedError

    async def open(self, bucket: str, key: str) -> Opened:
        if bucket != "bucket":
            raise NoSuchBucket(bucket)
        if key not in self.objects:
            raise NoSuchKey(key)
        self.opens += 1
        content = self.objects[key]
        etag = f"{hash(content):x}"
        info = ObjectInfo(bucket, key, len(content) + self.missing_bytes, etag, 0.0, Description(), None)
        return Opened(info, content, self)


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def artifacts(store: FakeStore, tmp_path: Path) -> Artifacts:
    return Artifacts(store, tmp_path / "models", Limits(), SystemClock())


def file(name: str, content: bytes = b"x", mode: int = 0o644) -> tuple[Entry, bytes]:
    """Describe a regular file of an archive."""
    entry = Entry(name)
    entry.mode, entry.size = mode, len(content)
    return entry, content


def special(name: str, kind: bytes, target: str = "") -> tuple[Entry, bytes]:
    """Describe a link, a device, a folder or a pipe."""
    entry = Entry(name)
    entry.type, entry.linkname = kind, target
    return entry, b""


def archive(*entries: tuple[Entry, bytes]) -> bytes:
    """Pack a ``.tar.gz``."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as tar:
        for entry, content in entries:
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


async def test_an_artefact_is_extracted_read_only(store: FakeStore, artifacts: Artifacts) -> None:
    big = os.urandom(300_000)
    store.objects["model.tar.gz"] = archive(
        special("./code", tarfile.DIRTYPE),
        file("./code/inference.py", b"print()", 0o6755),
        file("deep/er/model.bin", big),
        special("hard", tarfile.LNKTYPE, "deep/er/model.bin"),
        special("soft", tarfile.SYMTYPE, "deep/../code/inference.py"),
    )
    folder = await artifacts.fetch(URL, print)
    assert folder.joinpath("deep/er/model.bin").read_bytes() == folder.joinpath("hard").read_bytes() == big
    assert folder.joinpath("soft").read_bytes() == b"print()"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.rglob("*")]}
    assert (modes["inference.py"], modes["model.bin"], modes["code"], modes[folder.name]) == (
        0o555,
        0o444,
        0o555,
        0o555,
    )


async def test_submitted_code_takes_the_place_of_the_artefacts_own(store: FakeStore, artifacts: Artifacts) -> None:
    store.objects["model.tar.gz"] = archive(
        file("code/inference.py", b"old"), file("code/old.py"), file("deep/model.bin", b"big"),
        special("soft", tarfile.SYMTYPE, "deep/model.bin"),
    )  # fmt: skip
    store.objects["sourcedir.tar.gz"] = archive(file("inference.py", b"new"), file("lib/more.py", b"more"))
    model, code = await asyncio.gather(
        artifacts.fetch(URL, print), artifacts.fetch(ModelSource("s3://bucket/sourcedir.tar.gz"), print)
    )

    whole, again, bare = [await artifacts.with_code(base, code) for base in (model, model, None)]

    files = {str(path.relative_to(whole)): path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    assert files == {
        "code/inference.py": b"new",
        "code/lib/more.py": b"more",
        "deep/model.bin": b"big",
        "soft": b"big",
    }
    assert whole == again
    assert [path.name for path in bare.iterdir()] == ["code"]
    assert model.joinpath("code/inference.py").read_bytes() == b"old"
    assert {stat.S_IMODE(path.stat().st_mode) for path in (whole, whole / "code", whole / "code" / "lib")} == {0o555}


async def test_the_same_object_is_fetched_once_and_a_changed_one_again(store: FakeStore, artifacts: Artifacts) -> None:
    store.objects["model.tar.gz"] = archive(file("a", b"1"))
    first = await artifacts.fetch(URL, print)
    pieces = store.pieces
    assert await artifacts.fetch(URL, print) == first
    assert store.pieces == pieces
    store.objects["model.tar.gz"] = archive(file("a", b"2"))
    second = await artifacts.fetch(URL, print)
    assert (first.joinpath("a").read_bytes(), second.joinpath("a").read_bytes()) == (b"1", b"2")
    assert store.closed == store.opens


async def test_concurrent_fetches_do_the_work_once(store: FakeStore, tmp_path: Path) -> None:
    store.objects["model.tar.gz"] = archive(file("a", os.urandom(20_000)))
    each = [Artifacts(store, tmp_path / "models", Limits(), SystemClock()) for _ in range(5)]
    folders = await asyncio.gather(*(one.fetch(URL, print) for one in each))
    assert (len(set(folders)), store.pieces) == (1, -(-len(store.objects["model.tar.gz"]) // 1000))


async def test_sweep_removes_what_nobody_needs(store: FakeStore, artifacts: Artifacts) -> None:
    store.objects |= {"a.tar.gz": archive(file("a")), "b.tar.gz": archive(file("d/b"))}
    kept = await artifacts.fetch(ModelSource("s3://bucket/a.tar.gz"), print, "i-1")
    doomed = await artifacts.fetch(ModelSource("s3://bucket/b.tar.gz"), print, "i-2")
    artifacts.release("i-2")
    assert await artifacts.sweep(idle_seconds=0) == [doomed.parent]
    assert (kept.is_dir(), doomed.exists()) == (True, False)
    assert (await artifacts.fetch(ModelSource("s3://bucket/b.tar.gz"), print)).joinpath("d/b").exists()


async def test_sweep_leaves_what_was_used_lately(store: FakeStore, artifacts: Artifacts) -> None:
    store.objects |= {"a.tar.gz": archive(file("a")), "b.tar.gz": archive(file("b"))}
    old, lately = [await artifacts.fetch(ModelSource(f"s3://bucket/{name}.tar.gz"), print, name) for name in ("a", "b")]
    os.utime(lately.parent, (0, 0))
    artifacts.release("b")
    artifacts.release("a")
    os.utime(old.parent, (0, 0))
    assert await artifacts.sweep(idle_seconds=3600) == [old.parent]
    assert lately.exists()


async def test_sweep_ends_when_there_is_room_enough_and_begins_with_the_oldest(
    store: FakeStore, artifacts: Artifacts
) -> None:
    store.objects |= {"a.tar.gz": archive(file("a")), "b.tar.gz": archive(file("b"))}
    newer, older = [
        await artifacts.fetch(ModelSource(f"s3://bucket/{name}.tar.gz"), print, name) for name in ("a", "b")
    ]
    for name, used, folder in (("a", 2, newer), ("b", 1, older)):
        artifacts.release(name)
        os.utime(folder.parent, (used, used))
    assert await artifacts.sweep(idle_seconds=0, enough=lambda: not older.exists()) == [older.parent]
    assert newer.exists()


async def test_full_disk_makes_room_by_what_nobody_uses(store: FakeStore, artifacts: Artifacts) -> None:
    store.objects |= {"a.tar.gz": archive(file("a")), "b.tar.gz": archive(file("b"))}
    unused = await artifacts.fetch(ModelSource("s3://bucket/a.tar.gz"), print, "i-1")
    artifacts.release("i-1")
    needed = await artifacts.fetch(ModelSource("s3://bucket/b.tar.gz"), _full_while(unused), "i-2")
    assert (needed.joinpath("b").exists(), unused.exists()) == (True, False)


async def test_full_disk_that_nothing_can_be_taken_from_is_named(store: FakeStore, artifacts: Artifacts) -> None:
    store.objects["model.tar.gz"] = archive(file("a"))
    with pytest.raises(ArtifactFailure, match="could not be stored: No space left on device"):
        await artifacts.fetch(URL, _full_while(Path("/")))


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([file("../evil")], "leads out of it: ../evil"),
        ([file("a/../../evil")], "leads out of it"),
        ([file("/tmp/evil")], "absolute name in it: /tmp/evil"),
        ([special("a", tarfile.SYMTYPE, "/etc/passwd")], "a link that leads out of it: a -> /etc/passwd"),
        ([special("a/b", tarfile.SYMTYPE, "../../evil")], "a link that leads out of it"),
        ([special("a", tarfile.SYMTYPE, "../evil"), file("a/b")], "a link that leads out of it"),
        ([special("d", tarfile.SYMTYPE, "."), special("e", tarfile.SYMTYPE, "d/d/../../../..")], "leads out of it"),
        (
            [special("d", tarfile.SYMTYPE, "."), special("e", tarfile.SYMTYPE, "d/d/d/../../..")],
            "a link that leads out of it: e",
        ),
        (
            [special("x", tarfile.DIRTYPE), special("a", tarfile.SYMTYPE, "x"), special("a/b", tarfile.SYMTYPE, "c")],
            "a link below a link",
        ),
        ([special("a", tarfile.SYMTYPE, "b"), file("b/c"), file("a/d")], "is there twice"),
        ([special("a", tarfile.LNKTYPE, "../evil")], "leads out of it"),
        ([special("a", tarfile.LNKTYPE, "/etc/passwd")], "absolute name"),
        ([special("a", tarfile.LNKTYPE, "b")], "links a to b, which is not in it"),
        ([special("a", tarfile.CHRTYPE)], "a device or a pipe in it: a"),
        ([special("a", tarfile.BLKTYPE)], "a device or a pipe in it"),
        ([special("a", tarfile.FIFOTYPE)], "a device or a pipe in it"),
        ([file("a"), file("a/b")], "both as a file and as a folder"),
        ([file("a/b"), file("a")], "both as a file and as a folder"),
        ([file("a" * 300)], "too long a name"),
        ([file("a" * 300 + "/b")], "too long a name"),
        ([special("a" * 300, tarfile.DIRTYPE)], "too long a name"),
        ([file("d/" * 101 + "a")], "more than 100 folders in each other"),
        ([special("d/" * 101 + "a", tarfile.SYMTYPE, "b")], "more than 100 folders in each other"),
        ([special(f"a{i}", tarfile.SYMTYPE, f"a{i + 1}") for i in range(2000)], "too many links that lead to links"),
    ],
)
async def test_hostile_archives_are_refused_and_nothing_is_left(
    store: FakeStore, artifacts: Artifacts, tmp_path: Path, entries: list[tuple[Entry, bytes]], said: str
) -> None:
    store.objects["model.tar.gz"] = archive(*entries)
    with pytest.raises(ArtifactFailure) as failure:
        await artifacts.fetch(URL, print)
    assert said in str(failure.value)
    assert "\n" not in str(failure.value)
    assert _names_below(tmp_path) == ["lock", "models"]


GOOD = archive(file("a", os.urandom(50_000)))
SMALL = archive(file("a"))
PLAIN = gzip.decompress(GOOD)
HEADER_BOMB = tarfile.TarInfo("a")
HEADER_BOMB.pax_headers = {"comment": "0" * (20 * 2**20)}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"PK\x03\x04 a zip", "not a gzip archive", id="zip"),
        pytest.param(b"", "not a gzip archive", id="empty"),
        pytest.param(gzip.compress(b"not a tar" * 1000), "not a tar archive", id="not tar"),
        pytest.param(gzip.compress(b""), "not a tar archive", id="empty gzip"),
        pytest.param(GOOD[:-10_000], "damaged", id="truncated"),
        pytest.param(GOOD[:-6], "damaged", id="truncated trailer"),
        pytest.param(GOOD[:-8] + b"\0\0\0\0" + GOOD[-4:], "damaged", id="wrong checksum"),
        pytest.param(GOOD[:20_000] + b"\xff" * 1000 + GOOD[21_000:], "damaged", id="damaged middle"),
        pytest.param(GOOD[:3], "damaged", id="gzip magic only"),
        pytest.param(SMALL[:-8] + bytes(4) + SMALL[-4:], "damaged", id="wrong checksum of a small one"),
        pytest.param(SMALL[:-1], "damaged", id="truncated small one"),
        pytest.param(GOOD + b"garbage", "damaged", id="garbage behind it"),
        pytest.param(
            gzip.compress(PLAIN[:50_688] + b"x" * 512 + bytes(1024)), "damaged", id="no entry behind an entry"
        ),
        pytest.param(gzip.compress(PLAIN[:1024]), "ends in the middle of a file", id="tar ends early"),
        pytest.param(archive((HEADER_BOMB, b"")), "more header data", id="header bomb"),
        pytest.param(
            gzip.compress(gzip.decompress(GOOD) + bytes(40 * 2**20)), "more header data", id="endless padding"
        ),
    ],
)
async def test_what_is_not_a_whole_tar_gz_is_refused(
    store: FakeStore, artifacts: Artifacts, content: bytes, said: str
) -> None:
    store.objects["model.tar.gz"] = content
    with pytest.raises(ArtifactFailure, match=said):
        await artifacts.fetch(URL, print)


async def test_gzip_in_several_members_with_padding_is_one(store: FakeStore, artifacts: Artifacts) -> None:
    parts = [gzip.compress(PLAIN[start : start + 10_000]) for start in range(0, len(PLAIN), 10_000)]
    store.objects["model.tar.gz"] = b"".join(parts) + bytes(5000)
    assert (await artifacts.fetch(URL, print)).joinpath("a").stat().st_size == 50_000


async def test_sparse_files_are_written_whole(store: FakeStore, artifacts: Artifacts, tmp_path: Path) -> None:
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as hole:
        hole.seek(300_000)
        hole.write(b"middle")
        hole.truncate(700_000)
    packed = await asyncio.create_subprocess_exec(
        "tar", "-C", tmp_path, "--sparse", "-czf", tmp_path / "model.tar.gz", "sparse"
    )
    assert await packed.wait() == 0
    store.objects["model.tar.gz"] = (tmp_path / "model.tar.gz").read_bytes()
    assert (await artifacts.fetch(URL, print)).joinpath("sparse").read_bytes() == sparse.read_bytes()


async def test_bomb_of_zeros_holds_nothing_in_memory_and_little_on_the_disk(store: FakeStore, tmp_path: Path) -> None:
    packed = zlib.compressobj(9, wbits=31)
    bomb = Entry("zeros")
    bomb.size = 8 * 2**30
    pieces = [packed.compress(bomb.tobuf())]
    pieces.extend(packed.compress(bytes(2**20)) for _ in range(64))
    store.objects["model.tar.gz"] = b"".join(pieces) + packed.flush()
    limits = replace(Limits(), artifact_bytes=2**30)
    tracemalloc.start()
    try:
        with pytest.raises(ArtifactFailure, match="larger than 1073741824 bytes"):
            await Artifacts(store, tmp_path / "models", limits, SystemClock()).fetch(URL, print)
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()
    assert _names_below(tmp_path) == ["lock", "models"]


async def test_a_bomb_of_zeros_ends_at_the_limit(store: FakeStore, tmp_path: Path) -> None:
    store.objects["model.tar.gz"] = archive(file("a", bytes(5_000_000)), file("b", bytes(5_000_001)))
    limits = replace(Limits(), artifact_bytes=10_000_000)
    with pytest.raises(ArtifactFailure, match="larger than 10000000 bytes"):
        await Artifacts(store, tmp_path / "models", limits, SystemClock()).fetch(URL, print)


async def test_too_many_files_are_refused(store: FakeStore, tmp_path: Path) -> None:
    store.objects["model.tar.gz"] = archive(*(file(f"{number}", b"") for number in range(11)))
    limits = replace(Limits(), artifact_files=10)
    with pytest.raises(ArtifactFailure, match="more than 10 files"):
        await Artifacts(store, tmp_path / "models", limits, SystemClock()).fetch(URL, print)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://bucket/none.tar.gz", "There is no model data at s3://bucket/none.tar.gz: The specified key"),
        ("s3://none/model.tar.gz", "There is no model data at s3://none/model.tar.gz: The specified bucket"),
        ("http://example.com/model.tar.gz", "not of the form s3://bucket/key"),
    ],
)
async def test_an_object_that_is_not_there_is_said(artifacts: Artifacts, url: str, said: str) -> None:
    with pytest.raises(ArtifactFailure) as failure:
        await artifacts.fetch(ModelSource(url), print)
    assert said in str(failure.value)


async def test_a_download_that_ends_early_is_a_failure(store: FakeStore, artifacts: Artifacts) -> None:
    store.objects["model.tar.gz"], store.missing_bytes = GOOD, 5
    with pytest.raises(ArtifactFailure, match="ended after"):
        await artifacts.fetch(URL, print)


async def test_a_cancelled_extraction_ends_and_leaves_nothing(
    store: FakeStore, artifacts: Artifacts, tmp_path: Path
) -> None:
    store.objects["model.tar.gz"] = archive(*(file(f"{number}", bytes(1000)) for number in range(5000)))
    begun = asyncio.Event()
    fetching = asyncio.ensure_future(artifacts.fetch(URL, _when("extracting", begun.set)))
    await asyncio.wait_for(begun.wait(), 10)
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    assert _names_below(tmp_path) == ["lock", "models"]


async def test_a_killed_fetch_leaves_nothing_half_used(store: FakeStore, artifacts: Artifacts, tmp_path: Path) -> None:
    store.objects["model.tar.gz"] = archive(file("a"))
    folder = (await artifacts.fetch(URL, print)).parent
    artifacts.release("")
    await artifacts.sweep(idle_seconds=0)
    code = (
        "import asyncio, os, sys\nfrom pathlib import Path\nfrom moorage.base.clock import SystemClock\n"
        "from moorage.engine.built_folder import build_once\n"
        "async def build(folder):\n    (folder / 'content').mkdir(); os.kill(os.getpid(), 9)\n"
        "asyncio.run(build_once(Path(sys.argv[1]), build, clock=SystemClock(), waits=print))\n"
    )
    killed = await asyncio.create_subprocess_exec(sys.executable, "-c", code, str(folder))
    assert await killed.wait() == -9
    assert list(folder.parent.glob(".*unfinished*"))
    assert (await artifacts.fetch(URL, print)).joinpath("a").exists()
    assert not list(tmp_path.joinpath("models").glob(".*unfinished*"))


async def test_what_a_killed_fetch_has_left_goes_and_what_another_is_at_stays(
    store: FakeStore, artifacts: Artifacts, tmp_path: Path
) -> None:
    left = tmp_path / "models" / ".0123.unfinished-abcd"
    (left / "content").mkdir(parents=True)
    store.objects["model.tar.gz"] = archive(file("a"))
    begun, cleared = asyncio.Event(), asyncio.Event()

    class Slow(Opened):
        async def chunks(self, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
            begun.set()
            await cleared.wait()
            yield self.content[start:end]

    class Waiting(FakeStore):
        async def open(self, bucket: str, key: str) -> Opened:
            opened = await store.open(bucket, key)
            return Slow(opened.info, opened.content, store)

    slow = Artifacts(Waiting(), tmp_path / "models", Limits(), SystemClock())
    fetching = asyncio.ensure_future(slow.fetch(URL, print))
    await asyncio.wait_for(begun.wait(), 10)
    await artifacts.clear_unfinished()
    cleared.set()
    assert (await fetching).joinpath("a").exists()
    assert not left.exists()


def _names_below(folder: Path) -> list[str]:
    """Name what is there, a lock by its suffix."""
    return sorted(path.name.rpartition(".")[2] for path in folder.rglob("*"))


def _full_while(folder: Path) -> Callable[[str], None]:
    """Be the progress of a fetch whose disk is full for as long as a folder is there."""

    def fail(_line: str) -> None:
        if folder.exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return fail


def _when(text: str, act: Callable[[], None]) -> Callable[[str], None]:
    return lambda line: act() if text in line else None
