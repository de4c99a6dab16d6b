"""What an instance may write lies on its own disk, and a crash leaves a core file there: tried from inside a model."""

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.support.engines import OBEDIENT, Bench, Instance

from moorage.engine import cores
from moorage.engine.volumes import Wanted

SMALL = Wanted(64 * 2**20)
FOLDER = Wanted(None)

FILL = """[
    [f.write(bytes(2**20)) and f.flush() for _ in range(100)]
    for f in [open({path!r}, 'wb')]
]"""


async def obedient(bench: Bench, volume: Wanted, name: str = "model", core_bytes: int = 0) -> Instance:
    instance = await bench.start(bench.model(OBEDIENT, name), volume=volume, core_bytes=core_bytes)
    return await instance.is_ready()


@pytest.mark.promise("volume-size")
@pytest.mark.parametrize("path", ["/tmp/x", "x", "/var/tmp/x"])
async def test_model_that_writes_more_than_its_disk_holds_gets_enospc(sandbox: Bench, path: str) -> None:
    neighbour = await obedient(sandbox, SMALL, "neighbour")
    instance = await obedient(sandbox, SMALL)
    assert "[Errno 28] No space left on device" in await instance.ask(FILL.format(path=path))
    assert await neighbour.ask("Path('/tmp/y').write_bytes(bytes(2**20))") == str(2**20)
    assert await instance.ask("6 * 7") == "42"


@pytest.mark.promise("volume-size")
async def test_disk_shows_its_size_to_whoever_asks(sandbox: Bench) -> None:
    instance = await obedient(sandbox, SMALL)
    total = int(await instance.ask("__import__('shutil').disk_usage('/tmp').total"))
    assert 0.9 * 64 * 2**20 < total <= 64 * 2**20


@pytest.mark.promise("volume-size")
async def test_instance_without_model_data_finds_its_empty_model_folder_on_the_disk(sandbox: Bench) -> None:
    instance = await sandbox.start(None, volume=SMALL)
    await instance.end()
    assert "Please provide a model_fn implementation" in instance.log
    volume = sandbox.volumes.open(instance.launch.instance_id)
    assert instance.launch.volume == volume.folder
    assert sorted(path.name for path in volume.writable()) == ["model", "tmp"]
    assert (volume.model.stat().st_mode & 0o1777, volume.temporary.stat().st_mode & 0o1777) == (0o1777, 0o1777)


@pytest.mark.promise("volume-size")
async def test_memory_files_are_not_on_the_disk(sandbox: Bench) -> None:
    instance = await obedient(sandbox, SMALL)
    assert await instance.ask("os.stat('/tmp').st_dev == os.stat('/dev/shm').st_dev") == "False"


async def test_no_instance_sees_the_disk_of_another(sandbox: Bench) -> None:
    neighbour = await obedient(sandbox, FOLDER, "neighbour")
    await neighbour.ask("Path('/tmp/secret-of-a-neighbour').touch()")
    instance = await obedient(sandbox, FOLDER)
    assert await instance.ask("os.listdir('/tmp')") == "[]"
    tried = await instance.ask("os.listdir('/opt/moorage/volumes')")
    assert "PermissionError" in tried or "FileNotFoundError" in tried
    seen = await instance.ask("Path('/proc/self/mountinfo').read_text()")
    assert neighbour.launch.instance_id not in seen
    found = await instance.ask(
        "subprocess.getoutput('find / -path /usr -prune -o -name secret-of-a-neighbour -print 2>/dev/null')"
    )
    assert "secret-of-a-neighbour" not in found


@pytest.mark.promise("volume-size")
async def test_disk_knows_no_devices_and_no_other_users_programs(sandbox: Bench) -> None:
    instance = await obedient(sandbox, SMALL)
    mounts = eval(await instance.ask("Path('/proc/self/mountinfo').read_text()")).splitlines()
    options = next(line.split()[5] for line in mounts if line.split()[4] == "/tmp")
    assert {"nosuid", "nodev"} <= set(options.split(","))


@pytest.mark.promise("volume-size")
async def test_instance_that_lives_pins_no_other_ones_disk(sandbox: Bench, tmp_path: Path) -> None:
    first = await obedient(sandbox, SMALL, "first")
    second = await obedient(sandbox, SMALL, "second")
    await first.running.kill()
    await first.end()
    sandbox.volumes.remove(first.launch.instance_id)
    files = [path.read_text(encoding="utf-8").strip() for path in Path("/sys/block").glob("loop*/loop/backing_file")]
    assert [Path(file).parent.name for file in files if Path(file).is_relative_to(tmp_path)] == [
        second.launch.instance_id
    ]


@pytest.mark.promise("volume-key")
async def test_model_on_an_encrypted_disk_is_read_only_and_unreadable_from_outside(
    sandbox: Bench, tmp_path: Path
) -> None:
    name = "i-0000000000000000e"
    volume = sandbox.volumes.make(name, Wanted(64 * 2**20, "alias/mine"))
    code = volume.artifacts / "m" / "content" / "code"
    code.mkdir(parents=True)
    mark = "a-secret-of-this-model"
    (code / "inference.py").write_text(OBEDIENT + f"\n# {mark}\n" * 500, encoding="utf-8")
    additional = volume.artifacts / "a" / "content"
    (additional / "channel").mkdir(parents=True)
    (additional / "channel" / "file").write_text("more", encoding="utf-8")
    volume.artifacts.chmod(0o755)
    instance = await sandbox.start(code.parent, made=(name, volume.folder), additional=additional)
    await instance.is_ready()
    assert mark in await instance.ask("Path('/opt/ml/model/code/inference.py').read_text()")
    assert "Errno 30" in await instance.ask("open('/opt/ml/model/x', 'w')")
    assert "Errno 30" in await instance.ask("open('/opt/ml/model/code/inference.py', 'w')")
    channel = "/opt/ml/additional-model-data-sources/channel"
    assert await instance.ask(f"Path('{channel}/file').read_text()") == "'more'"
    assert "Errno 30" in await instance.ask(f"open('{channel}/x', 'w')")
    await instance.ask(f"Path('/tmp/{mark}').write_text({mark!r} * 1000)")
    os.sync()
    image = (tmp_path / "volumes" / name / "image").read_bytes()
    assert mark.encode() not in image


# --- core files

CRASHES = """
import ctypes, os
def model_fn(folder):
    os.environ["IN_THE_CORE"] = "x"
    print("about to crash")
    ctypes.string_at(0)
"""


@pytest.mark.promise("core-dumps")
async def test_crash_leaves_a_core_file_that_gdb_opens(engine: Bench) -> None:
    if shutil.which("gdb") is None:
        pytest.skip("gdb is not installed")
    instance = await engine.start(engine.model(CRASHES), volume=FOLDER, core_bytes=2**30)
    assert str(await instance.end()) == "killed by SIGSEGV"
    core = take(engine, instance)
    assert (core.signal, core.program) == ("SIGSEGV", "moorage-model")
    said = await asyncio.to_thread(
        subprocess.run,
        ["gdb", "-nx", "-batch", "-ex", "bt", str(instance.launch.environment.python), str(core.path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Program terminated with signal SIGSEGV" in said.stdout
    assert "#0 " in said.stdout
    assert "_PyEval" in said.stdout or "libffi" in said.stdout or "PyBytes_FromString" in said.stdout, said.stdout


@pytest.mark.promise("core-dumps")
async def test_core_file_is_cut_off_at_its_bound(engine: Bench) -> None:
    instance = await engine.start(engine.model(CRASHES), volume=FOLDER, core_bytes=2**20)
    await instance.end()
    assert 0 < take(engine, instance).path.stat().st_size <= 2**20


@pytest.mark.promise("core-dumps")
async def test_crash_leaves_nothing_where_no_core_is_wanted(engine: Bench) -> None:
    instance = await engine.start(engine.model(CRASHES), volume=FOLDER)
    await instance.end()
    volume = engine.volumes.open(instance.launch.instance_id)
    assert list(volume.temporary.iterdir()) == []


@pytest.mark.promise("core-dumps")
async def test_core_of_a_process_that_the_model_has_started_is_found_while_the_model_lives(engine: Bench) -> None:
    instance = await obedient(engine, FOLDER, core_bytes=2**30)
    crash = "import ctypes; ctypes.string_at(0)"
    said = await instance.ask(f"subprocess.run([sys.executable, '-c', {crash!r}]).returncode")
    assert said == "-11"
    core = take(engine, instance)
    assert core.signal == "SIGSEGV"
    assert core.program.startswith("python")
    assert await instance.ask("1") == "1"
    assert await instance.ask("os.path.exists('core')") == "False"


def take(engine: Bench, instance: Instance) -> cores.Core:
    volume = engine.volumes.open(instance.launch.instance_id)
    (core,) = cores.take(volume.temporary, volume.cores, cores.file_names())
    return core
