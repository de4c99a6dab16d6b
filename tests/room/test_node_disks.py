"""Disks and core dumps of instances, through a node agent's link: what is promised, what is left, what is said."""

import asyncio
import os
import shutil
import tarfile
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from tests.support.engines import OBEDIENT, OneKey, printed, until
from tests.support.machine import MACHINE
from tests.support.node import IMAGE, QUICK, ControlEnd, call, make_spec, node
from tests.support.objects import store_in

from moorage.base.clock import SystemClock
from moorage.base.ids import SystemIds
from moorage.base.settings import Limits
from moorage.engine import mounts
from moorage.engine.artifacts import Artifacts
from moorage.engine.contract import ContainerSpec, CoreDumps, Failure, InstanceSpec, InstanceState, ModelSource
from moorage.engine.machine import Machine, Need
from moorage.engine.promises import Refusals, refusals
from moorage.engine.volumes import GIB, Volumes
from moorage.kms.records import Home
from moorage.kms.ring import KeyRing
from moorage.node.disks import Disks
from moorage.node.dumps import Dumps
from moorage.node.upkeep import keep_room
from moorage.objects.folder import FolderStore
from moorage.objects.store import Bucket, Description, ObjectInfo, Page

NO_DISK = MACHINE.sandbox_fault or MACHINE.lacks.get(Need.VOLUME, "")
NO_SECRET = MACHINE.sandbox_fault or MACHINE.lacks.get(Need.ENCRYPTION, "")
NO_CORES = MACHINE.lacks.get(Need.CORE_FILES, "")
needs_disk = pytest.mark.skipif(bool(NO_DISK), reason=NO_DISK)
needs_encryption = pytest.mark.skipif(bool(NO_SECRET), reason=NO_SECRET)
needs_cores = pytest.mark.skipif(bool(NO_CORES), reason=NO_CORES)

READY, STOPPED, EXITED, FAILED = (
    InstanceState.READY,
    InstanceState.STOPPED,
    InstanceState.EXITED,
    InstanceState.FAILED,
)
PRIMARY = ContainerSpec("primary", IMAGE, {}, ModelSource("s3://models/model"))
NO_KEY = "arn:aws:kms:us-east-1:000000000000:alias/none"
DUMPS = CoreDumps("s3://dumps/of/mine")

CRASHES_WHILE_LOADING = "import ctypes\ndef model_fn(d):\n    ctypes.string_at(0)\n"
CHILDREN_CRASH = """
import subprocess, sys
from pathlib import Path
def model_fn(folder):
    for _ in range(3):
        subprocess.run([sys.executable, "-c", "import ctypes; ctypes.string_at(0)"])
        Path("core").rename(f"core.{_}")  # as a kernel that adds the process id would name it
"""


@dataclass
class Scene:
    """A node agent, a control plane, and the object store beside them."""

    control: ControlEnd
    store: FolderStore
    folder: Path

    async def launch(self, name: str, model: str = OBEDIENT, **promises: Any) -> InstanceSpec:
        self.control.model(name, model)
        container = replace(PRIMARY, model=ModelSource(f"s3://models/{name}"))
        spec = replace(make_spec(name), **{"containers": (container,), **promises})
        await self.control.ask_for(spec)
        return spec

    async def keys(self) -> list[str]:
        return [info.key for info in (await self.store.list("dumps")).objects]

    async def dumped(self, count: int = 1) -> list[str]:
        """Wait for so many core dumps; gives their keys."""
        async with asyncio.timeout(20):
            while len(found := await self.keys()) < count:
                await asyncio.sleep(0.01)
        return found

    def log(self, name: str) -> str:
        return printed(Path(self.control.reports[name][-1].log_path))

    @property
    def left(self) -> list[str]:
        """What is left of volumes."""
        return sorted(path.name for path in (self.folder / "volumes").iterdir())


@asynccontextmanager
async def scene(engine: str, folder: Path, limits: Limits = QUICK, machine: Machine = MACHINE) -> AsyncIterator[Scene]:
    store = store_in(folder)
    await store.create_bucket("dumps", account="000000000000", region="us-east-1")
    refused = Refusals(refusals(machine, engine))
    async with node(engine, folder, limits, refused) as socket, call(socket, folder / "models") as control:
        yield Scene(control, store, folder)
    store.close()


@pytest.fixture(
    params=[
        pytest.param("sandbox", marks=pytest.mark.skipif(bool(MACHINE.sandbox_fault), reason=MACHINE.sandbox_fault)),
        "process",
    ]
)
async def any_engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Scene]:
    async with scene(request.param, tmp_path) as made:
        yield made


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Scene]:
    if MACHINE.sandbox_fault:
        pytest.skip(MACHINE.sandbox_fault)
    async with scene("sandbox", tmp_path) as made:
        yield made


# --- VolumeSizeInGB


@needs_disk
async def test_promised_disk_is_there_and_goes_with_the_instance(sandbox: Scene) -> None:
    await sandbox.launch("i-1", OBEDIENT + "\nimport shutil; print(shutil.disk_usage('/tmp').total)\n", volume_gib=3)
    await sandbox.control.comes_to("i-1", READY)
    await until(lambda: "\n" in sandbox.log("i-1"), "it says how large its disk is")
    assert 0.98 * 3 * 2**30 < int(sandbox.log("i-1").splitlines()[0]) <= 3 * 2**30
    await sandbox.control.order("stop", "i-1")
    await sandbox.control.comes_to("i-1", STOPPED)
    await until(lambda: sandbox.left == [], "its volume is gone")
    assert [path for path in mounts.mounted_below(sandbox.folder) if path.name == "disk"] == []


@needs_disk
async def test_disk_of_an_instance_that_never_starts_goes_too(sandbox: Scene) -> None:
    await sandbox.launch("i-1", "raise ValueError('no')\n", volume_gib=1)
    await sandbox.launch("i-2", containers=(replace(PRIMARY, model=ModelSource("s3://models/missing")),), volume_gib=1)
    await sandbox.control.comes_to("i-1", FAILED)
    await sandbox.control.comes_to("i-2", FAILED)
    await until(lambda: sandbox.left == [], "their volumes are gone")


@needs_disk
async def test_name_can_be_used_anew_with_a_disk_of_its_own(sandbox: Scene) -> None:
    spec = await sandbox.launch("i-1", volume_gib=1)
    await sandbox.control.comes_to("i-1", READY)
    await sandbox.control.order("stop", "i-1")
    await sandbox.control.comes_to("i-1", STOPPED)
    await sandbox.control.order("forget", "i-1")
    await sandbox.control.ask_for(spec)
    await until(lambda: sandbox.control.reports["i-1"][-1].state is READY, "it runs again")
    assert sandbox.left == ["i-1"]


@pytest.mark.parametrize(
    ("promise", "member"), [({"volume_gib": 1}, "VolumeSizeInGB"), ({"kms_key": "alias/mine"}, "KmsKeyId")]
)
async def test_engine_without_confinement_refuses_a_disk_by_name(
    tmp_path: Path, promise: dict[str, Any], member: str
) -> None:
    async with scene("process", tmp_path) as made:
        await made.launch("i-1", **promise)
        report = await made.control.comes_to("i-1", FAILED)
        assert made.left == []
    assert report.failure is Failure.UNSUPPORTED
    assert report.message.startswith(f"{member}: the engine process does not keep here that")
    assert "what a model writes may lie anywhere on the machine" in report.message


@needs_disk
async def test_full_machine_fails_the_instance_with_its_reason_and_no_other(sandbox: Scene) -> None:
    await sandbox.launch("i-1")
    await sandbox.control.comes_to("i-1", READY)
    mounts.mount(Path("none"), sandbox.folder / "volumes", "tmpfs", 0, "size=64k")
    await sandbox.launch("i-2", volume_gib=7)
    report = await sandbox.control.comes_to("i-2", FAILED)
    assert report.failure is Failure.CAPACITY
    assert "The volume of 7 GiB of the instance could not be made on this machine" in report.message
    assert sandbox.control.reports["i-1"][-1].state is READY


# --- KmsKeyId


@needs_encryption
async def test_model_of_an_encrypted_instance_is_nowhere_in_plain(tmp_path: Path) -> None:
    mark = b"nobody-may-read-this-weight-" * 50
    store = store_in(tmp_path)
    await store.create_bucket("dumps", account="000000000000", region="us-east-1")
    await store.put("dumps", "model.tar.gz", _once(_archive(OBEDIENT.encode(), mark)))
    artifacts = Artifacts(store, tmp_path / "models", Limits(), SystemClock())
    async with node("sandbox", tmp_path, artifacts=artifacts) as socket, call(socket, tmp_path / "models") as control:
        container = replace(PRIMARY, model=ModelSource("s3://dumps/model.tar.gz"))
        await control.ask_for(replace(replace(make_spec("i-1"), containers=(container,)), kms_key="alias/mine"))
        ready = await control.comes_to("i-1", READY)
        assert ready.pid is not None
        inside = Path(f"/proc/{ready.pid}/root/opt/ml/model/weights")
        assert mark in inside.read_bytes()
        (Path(f"/proc/{ready.pid}/root/tmp") / "written").write_bytes(mark)
        os.sync()
        outside = [path for path in tmp_path.rglob("*") if path.is_file() and "disk" not in path.parts]
        assert any(path.name == "image" for path in outside)
        assert [path for path in outside if path.stat().st_size and mark in _content(path)] == []
        await control.order("stop", "i-1")
        await control.comes_to("i-1", STOPPED)
        await until(lambda: not list((tmp_path / "volumes").iterdir()), "its volume is gone")
    store.close()


@needs_encryption
async def test_download_that_is_broken_off_leaves_nothing_in_plain(tmp_path: Path) -> None:
    store = EndlessStore()
    artifacts = Artifacts(store, tmp_path / "models", Limits(), SystemClock())
    async with node("sandbox", tmp_path, artifacts=artifacts) as socket, call(socket, tmp_path / "models") as control:
        await control.ask_for(replace(make_spec("i-1"), kms_key="alias/mine"))
        await until(lambda: store.given > 0, "the download runs")
        await control.order("stop", "i-1")
        await control.comes_to("i-1", STOPPED)
        await until(lambda: store.closed == 1, "the download is ended")
        await until(lambda: not list((tmp_path / "volumes").iterdir()), "its volume is gone")


@needs_encryption
async def test_unknown_key_fails_the_instance_by_its_name(sandbox: Scene) -> None:
    await sandbox.launch("i-1", kms_key=NO_KEY)
    report = await sandbox.control.comes_to("i-1", FAILED)
    assert (report.failure, report.message) == (
        Failure.START,  # the key may be enabled again: another instance is to take its place, later
        f"The volume cannot be encrypted with the key {NO_KEY}: There is no key {NO_KEY}.",
    )
    assert sandbox.left == []


# --- CoreDumpConfig


@needs_cores
async def test_core_of_a_crash_comes_to_its_place_and_the_log_says_so(any_engine: Scene) -> None:
    await any_engine.launch("i-1", CRASHES_WHILE_LOADING, core_dumps=DUMPS)
    await any_engine.control.comes_to("i-1", FAILED)
    (key,) = await any_engine.dumped()
    assert key.startswith("of/mine/ep/v1/i-1/core.moorage-model.")
    reader = await any_engine.store.open("dumps", key)
    head = b"".join([chunk async for chunk in reader.chunks(0, 4)])
    await reader.close()
    assert head == b"\x7fELF"
    await until(lambda: any_engine.left == [], "its volume is gone")
    await until(lambda: f"(SIGSEGV): s3://dumps/{key}\n" in any_engine.log("i-1"), "the log says where")


@needs_cores
async def test_cores_of_other_processes_are_taken_while_the_instance_lives(any_engine: Scene) -> None:
    await any_engine.launch("i-1", CHILDREN_CRASH, core_dumps=DUMPS)
    await any_engine.control.comes_to("i-1", READY)
    assert len(await any_engine.dumped(3)) == 3
    assert any_engine.control.reports["i-1"][-1].state is READY


@needs_cores
async def test_crash_loop_leaves_no_more_dumps_than_are_allowed(tmp_path: Path) -> None:
    few = replace(QUICK, core_dumps_per_instance=2, core_dumps_per_hour=3)
    async with scene("process", tmp_path, few) as made:
        for name in ("i-1", "i-2", "i-3"):
            await made.launch(
                name,
                CHILDREN_CRASH + "    raise SystemExit(1)\n",
                core_dumps=DUMPS,
            )
            await made.control.comes_to(name, FAILED)
            await until(lambda: made.left == [], "its volume is gone")
        assert len(await made.keys()) == 3
        for name, said, times in (
            ("i-1", "this instance has left 2 (MOORAGE_CORE_DUMPS_PER_INSTANCE)", 1),
            ("i-3", "this variant has left 3 within an hour (MOORAGE_CORE_DUMPS_PER_HOUR)", 3),
        ):
            await until(lambda name=name, said=said, times=times: made.log(name).count(said) == times, said)  # type: ignore[misc]


@needs_cores
async def test_missing_bucket_is_said_and_harms_nothing(any_engine: Scene) -> None:
    await any_engine.launch("i-1", CRASHES_WHILE_LOADING, core_dumps=CoreDumps("s3://nowhere"))
    await any_engine.control.comes_to("i-1", FAILED)
    await until(lambda: any_engine.left == [], "its volume is gone")
    await until(lambda: "could not be put at s3://nowhere/ep/v1/i-1/core." in any_engine.log("i-1"), "it is said")


@needs_cores
async def test_no_core_is_written_without_the_wish(any_engine: Scene) -> None:
    await any_engine.launch("i-1", CRASHES_WHILE_LOADING)
    report = await any_engine.control.comes_to("i-1", FAILED)
    assert report.message.startswith("The container was killed by SIGSEGV")
    assert any_engine.left == []
    assert await any_engine.keys() == []


@needs_cores
async def test_core_is_no_larger_than_the_setting_says(tmp_path: Path) -> None:
    async with scene("process", tmp_path, replace(QUICK, core_dump_bytes=2**20)) as made:
        await made.launch("i-1", CRASHES_WHILE_LOADING, core_dumps=DUMPS)
        (key,) = await made.dumped()
        assert 0 < (await made.store.head("dumps", key)).size <= 2**20


def test_core_is_never_larger_than_memory_or_disk(tmp_path: Path) -> None:
    limits = replace(Limits(), core_dump_bytes=4 * GIB)
    dumps = Dumps(store_in(tmp_path), SystemClock(), limits)
    disks = Disks(Volumes(tmp_path, OneKey()), dumps, SystemClock(), limits, bounded=True)
    spec = replace(make_spec("i-1"), core_dumps=DUMPS)
    assert disks.core_bytes(spec, 8 * GIB) == 4 * GIB
    assert disks.core_bytes(spec, 2 * GIB) == 2 * GIB
    assert disks.core_bytes(replace(spec, volume_gib=1), 8 * GIB) == GIB
    assert disks.core_bytes(replace(spec, core_dumps=None), 8 * GIB) == 0


async def test_machine_that_sends_cores_elsewhere_refuses_with_advice(tmp_path: Path) -> None:
    elsewhere = {Need.CORE_FILES: "the kernel hands core files to a program (core_pattern |/usr/lib/x %P)"}
    async with scene("process", tmp_path, machine=replace(MACHINE, lacks=elsewhere)) as made:
        await made.launch("i-1", core_dumps=DUMPS)
        report = await made.control.comes_to("i-1", FAILED)
    assert report.failure is Failure.UNSUPPORTED
    assert "core_pattern |/usr/lib/x" in report.message
    assert "sysctl kernel.core_pattern=core" in report.message


@needs_cores
async def test_core_is_encrypted_with_the_key_that_the_configuration_names(tmp_path: Path) -> None:
    clock, ids = SystemClock(), SystemIds()
    ring = KeyRing(tmp_path / "kms", clock, ids)
    key = ring.create_key(Home("000000000000", "us-east-1"))
    async with scene("process", tmp_path) as made:
        await made.launch("i-1", CRASHES_WHILE_LOADING, core_dumps=CoreDumps("s3://dumps", key.arn))
        (name,) = await made.dumped()
        kept = (await made.store.head("dumps", name)).encryption
        await made.launch("i-2", CRASHES_WHILE_LOADING, core_dumps=CoreDumps("s3://dumps", NO_KEY))
        await made.control.comes_to("i-2", FAILED)
        await until(lambda: made.left == [], "its volume is gone")
        await until(lambda: "could not be put at s3://dumps/ep/v1/i-2/core" in made.log("i-2"), "it is said")
    assert kept is not None
    assert kept.key == key.arn


# --- ModelDataDownloadTimeoutInSeconds


class EndlessStore:
    """Has one object, which never ends."""

    def __init__(self) -> None:
        self.closed = 0
        self.given = 0

    async def open(self, bucket: str, key: str) -> "EndlessReader":
        return EndlessReader(ObjectInfo(bucket, key, 2**40, "e", 0.0, Description(), None), self)

    async def bucket(self, name: str) -> Bucket:
        return Bucket(name, "000000000000", "us-east-1", 0.0)

    async def list(
        self, bucket: str, *, prefix: str = "", delimiter: str = "", after: str = "", limit: int = 1000
    ) -> Page:
        raise NotImplementedError


@dataclass
class EndlessReader:
    info: ObjectInfo
    store: EndlessStore

    async def chunks(self, _start: int = 0, _end: int | None = None) -> AsyncIterator[bytes]:
        entry, packed = tarfile.TarInfo("weights"), zlib.compressobj(wbits=31)
        entry.size = 2**30
        content = entry.tobuf()
        while True:
            self.store.given += 1
            yield packed.compress(content) + packed.flush(zlib.Z_SYNC_FLUSH)
            content = b"x"
            await asyncio.sleep(0.01)

    async def close(self) -> None:
        self.store.closed += 1


async def test_slow_object_store_is_given_up_in_the_time_that_the_variant_says(tmp_path: Path) -> None:
    store = EndlessStore()
    artifacts = Artifacts(store, tmp_path / "models", Limits(), SystemClock())
    async with node("process", tmp_path, artifacts=artifacts) as socket, call(socket, tmp_path / "models") as control:
        await control.ask_for(replace(make_spec("i-1"), download_timeout_seconds=0.2))
        report = await control.comes_to("i-1", FAILED)
    assert report.failure is Failure.ARTIFACT
    assert report.message == "Getting the model data at s3://models/model took longer than 0.2 s."
    assert store.closed == 1
    assert not list((tmp_path / "models").glob(".*unfinished*"))


# --- what is left on the machine's disk


async def test_volume_that_cannot_be_made_harms_only_who_needs_it(tmp_path: Path) -> None:
    async with scene("process", tmp_path) as made:
        await made.launch("i-1")
        await made.control.comes_to("i-1", READY)
        (tmp_path / "volumes" / "i-2").touch()
        await made.launch("i-2", core_dumps=DUMPS)
        report = await made.control.comes_to("i-2", FAILED)
        assert report.failure is Failure.CAPACITY
        assert report.message == "The volume of the instance could not be made on this machine: File exists."
        await made.launch("i-3")
        await made.control.comes_to("i-3", READY)
        assert made.control.reports["i-1"][-1].state is READY


async def test_models_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    await store.create_bucket("dumps", account="000000000000", region="us-east-1")
    await store.put("dumps", "model.tar.gz", _once(_archive(b"", b"")))
    (tmp_path / "cache").touch()
    artifacts = Artifacts(store, tmp_path / "cache", Limits(), SystemClock())
    async with node("process", tmp_path, artifacts=artifacts) as socket, call(socket, tmp_path / "models") as control:
        container = replace(PRIMARY, model=ModelSource("s3://dumps/model.tar.gz"))
        await control.ask_for(replace(make_spec("i-1"), containers=(container,)))
        report = await control.comes_to("i-1", FAILED)
    assert report.failure is Failure.ARTIFACT
    assert report.message.startswith("The model data at s3://dumps/model.tar.gz could not be stored: ")
    store.close()


async def test_room_is_made_by_unused_models_when_the_disk_runs_short(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    await store.create_bucket("dumps", account="000000000000", region="us-east-1")
    await store.put("dumps", "model.tar.gz", _once(_archive(b"", b"")))
    artifacts = Artifacts(store, tmp_path / "models", Limits(), SystemClock())
    folder = await artifacts.fetch(ModelSource("s3://dumps/model.tar.gz"), print, "i-1")
    artifacts.release("i-1")
    await keep_room(artifacts, tmp_path, replace(Limits(), disk_reserve_bytes=0))
    assert folder.exists()
    short = replace(Limits(), disk_reserve_bytes=shutil.disk_usage(tmp_path).total * 2)
    held = await artifacts.fetch(ModelSource("s3://dumps/model.tar.gz"), print, "i-2")
    await keep_room(artifacts, tmp_path, short)
    assert held.exists()
    artifacts.release("i-2")
    await keep_room(artifacts, tmp_path, short)
    assert not folder.exists()
    store.close()


def _archive(code: bytes, weights: bytes) -> bytes:
    packed = BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in (("code/inference.py", code), ("weights", weights)):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, BytesIO(content))
    return packed.getvalue()


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


def _content(path: Path) -> bytes:
    """Read a file's first 256 MB, where a sparse image has what was written."""
    with path.open("rb") as file:
        return file.read(2**28)
