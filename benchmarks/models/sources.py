"""A model of 1 GB in 10,000 files: from the folder store into a folder that four instances share.

What is measured runs in a process of its own, whose memory is then known: all that a node agent does from the list of
objects to the folder, for four instances at once. The files are weights (float32, normally distributed), which hardly
compress: the slowest kind of archive for its size.
"""

import argparse
import array
import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from benchmarks.measures import Measure, not_measured
from moorage.base.clock import SystemClock
from moorage.base.ids import SystemIds
from moorage.base.settings import Limits
from moorage.engine.artifacts import ArtifactFailure, Artifacts
from moorage.engine.contract import ModelSource
from moorage.kms.ring import KeyRing
from moorage.objects.folder import FolderStore

FILES, FILE_BYTES, INSTANCES = 10_000, 100_000, 4
BYTES = FILES * FILE_BYTES
_KINDS = 50
"""So many different contents."""

ARCHIVE = ModelSource("s3://models/model.tar.gz")
TREE = ModelSource("s3://models/tree/", "S3Prefix", "None")

_REACHED = "200 MB/s"
_ROOM_BYTES = 5 * BYTES


def measure() -> Iterator[Measure]:
    """Measure both forms, each in a store of its own."""
    with tempfile.TemporaryDirectory(prefix="moorage-bench-") as folder:
        for what, source in (("as a .tar.gz", ARCHIVE), ("as 10,000 objects", TREE)):
            title = f"model of 1 GB in 10,000 files, {what}, for 4 instances"
            if shutil.disk_usage(folder).free < _ROOM_BYTES:
                yield not_measured(title, _REACHED, f"{folder} has no room for {_ROOM_BYTES // 10**9} GB")
                continue
            place = Path(folder, "archive" if source is ARCHIVE else "tree")
            try:
                asyncio.run(_prepare(place, source))
                os.sync()
                found = _in_a_process(place, source)
            except (OSError, subprocess.CalledProcessError) as fault:
                yield not_measured(title, _REACHED, fault)
            else:
                yield from _lines(title, found)
            shutil.rmtree(place, ignore_errors=True)


def _lines(title: str, found: dict[str, float]) -> Iterator[Measure]:
    rate = BYTES / found["seconds"] / 1e6
    yield Measure(title, _REACHED, f"{rate:.0f} MB/s", f"{found['cpu_seconds']:.1f} s of CPU")
    yield Measure("  copies of it on the disk, of models", "1", f"{found['copies']:g}")
    yield Measure("  memory that it took", "flat", f"+{found['memory_mb']:.0f} MB")


def _in_a_process(place: Path, source: ModelSource) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.models.sources", "--fetch", source.uri, str(place)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, float] = json.loads(printed)
    return found


async def _prepare(place: Path, source: ModelSource) -> None:
    store = _open(place)
    try:
        await store.create_bucket("models", account="000000000000", region="us-east-1")
        contents = list(_weights())
        if source is ARCHIVE:
            await store.put("models", "model.tar.gz", _each(_packed(contents)))
            return
        for number in range(FILES):
            key = f"tree/{_name(number)}"
            await store.put("models", key, _each([contents[number % _KINDS]]), etag=f"{number:032x}")
    finally:
        store.close()


async def _fetch(place: Path, source: ModelSource) -> dict[str, float]:
    store = _open(place)
    artifacts = Artifacts(store, place / "models", Limits(), SystemClock())
    try:
        await store.bucket("models")
        memory, cpu, begun = _peak_bytes(), time.process_time(), time.perf_counter()
        fetching = (artifacts.fetch(source, _say_nothing, f"i-{number}") for number in range(INSTANCES))
        folders = set(await asyncio.gather(*fetching))
        seconds = time.perf_counter() - begun
        return {
            "seconds": seconds,
            "cpu_seconds": time.process_time() - cpu,
            "memory_mb": (_peak_bytes() - memory) / 1e6,
            "copies": sum(map(_size, (place / "models").iterdir())) / BYTES if len(folders) == 1 else INSTANCES,
        }
    finally:
        store.close()


def _open(place: Path) -> FolderStore:
    clock, ids = SystemClock(), SystemIds()
    return FolderStore(place / "objects", clock, ids, KeyRing(place / "kms", clock, ids))


def _weights() -> Iterator[bytes]:
    chance = random.Random(1)
    for _ in range(_KINDS):
        yield array.array("f", (chance.gauss(0, 0.05) for _ in range(FILE_BYTES // 4))).tobytes()


def _name(number: int) -> str:
    return f"part-{number // 1000}/weights-{number:05}"


def _packed(contents: list[bytes]) -> Iterator[bytes]:
    """Give a ``.tar.gz`` in one gzip member, each of the contents deflated only once."""
    padding = bytes(-FILE_BYTES % tarfile.BLOCKSIZE)
    deflated = [_deflate(content + padding) for content in contents]
    checksum, size = 0, 0
    yield b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    for number in range(FILES):
        entry = tarfile.TarInfo(_name(number))
        entry.size = FILE_BYTES
        header, content = entry.tobuf(), contents[number % _KINDS]
        for plain in (header, content, padding):
            checksum, size = zlib.crc32(plain, checksum), size + len(plain)
        yield _deflate(header) + deflated[number % _KINDS]
    end = bytes(2 * tarfile.BLOCKSIZE)
    checksum, size = zlib.crc32(end, checksum), size + len(end)
    yield _deflate(end) + b"\x03\0" + checksum.to_bytes(4, "little") + (size % 2**32).to_bytes(4, "little")


def _deflate(content: bytes) -> bytes:
    made = zlib.compressobj(6, wbits=-15)
    return made.compress(content) + made.flush(zlib.Z_FULL_FLUSH)


async def _each(pieces: Iterator[bytes] | list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def _peak_bytes() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _say_nothing(_line: str) -> None:
    """Be the progress of who is not interested."""


def main(arguments: list[str]) -> None:
    """Measure, or with ``--fetch`` be the process that is measured."""
    parser = argparse.ArgumentParser(prog="benchmarks.models.sources")
    parser.add_argument("--fetch", nargs=2, metavar=("URI", "FOLDER"))
    given = parser.parse_args(arguments)
    if given.fetch is None:
        for found in measure():
            print(f"{found.what:<70} {found.reach:>10} {found.measured:>12}  {found.note}")
        return
    uri, folder = given.fetch
    try:
        print(json.dumps(asyncio.run(_fetch(Path(folder), ARCHIVE if uri == ARCHIVE.uri else TREE))))
    except ArtifactFailure as fault:
        sys.exit(str(fault))


if __name__ == "__main__":
    main(sys.argv[1:])
