"""The limits of the instance type, tried from inside a model: memory, processors, processes; and who is harmed."""

import asyncio
import os
from pathlib import Path

import pytest
from tests.support.any_engine import AnyBench
from tests.support.engines import DEADLINE_SECONDS, OBEDIENT, Bench, until

from moorage.engine import cgroups, launcher
from moorage.engine.docker import configuration
from moorage.engine.rootfs import engine as rootfs_engine

MEMORY_HOG = "def model_fn(d):\n    return bytearray(400 * 2**20)\n"

FORK_BOMB = """
def bomb():
    made = 0
    while True:
        try:
            child = os.fork()
        except OSError as fault:
            return made, fault.errno
        if child == 0:
            os.closerange(3, 1000)  # the connection, whose end is waited for
            time.sleep(3600)
        made += 1
"""


@pytest.mark.promise("memory")
async def test_out_of_memory_is_told_from_other_kills(engine: Bench) -> None:
    instance = await engine.start(engine.model(MEMORY_HOG), memory_mib=128)
    end = await instance.end()
    assert end.out_of_memory
    assert str(end) == "killed at the memory limit of the instance"


@pytest.mark.promise("memory")
async def test_instance_goes_before_others_when_the_machine_runs_out_of_memory(any_engine: AnyBench) -> None:
    instance = await any_engine.ready()
    assert int(eval(await instance.ask("open('/proc/self/oom_score_adj').read()"))) > 0


@pytest.mark.promise("memory")
async def test_out_of_memory_harms_no_neighbour(any_engine: AnyBench) -> None:
    neighbour = await any_engine.ready(name="neighbour", memory_mib=128)
    instance = await any_engine.ready(memory_mib=128)
    with pytest.raises((ConnectionError, AssertionError)):
        assert await instance.ask("len(bytearray(400 * 2**20))") != ""
    assert (await instance.end()).out_of_memory
    assert await neighbour.ask("6 * 7") == "42"


@pytest.mark.promise("memory")
async def test_temporary_files_count_as_memory_and_are_bounded(engine: Bench) -> None:
    if engine.engine.name == "process":
        pytest.skip("process: its instances write to the machine's own /tmp")
    instance = await engine.ready(memory_mib=128)
    assert "No space left on device" in await instance.ask("Path('/tmp/big').write_bytes(bytes(70 * 2**20))")


async def test_memory_beyond_the_limit_is_not_had_without_control_groups(engine: Bench) -> None:
    if "memory" in engine.cgroups.controllers:
        pytest.skip("control groups limit the memory here")
    instance = await engine.start(engine.model(MEMORY_HOG), memory_mib=128)
    assert (await instance.end()).code == 1
    assert "MemoryError" in instance.log


@pytest.mark.promise("process-count")
async def test_fork_bomb_ends_at_the_limit_and_harms_only_its_instance(
    any_engine: AnyBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (launcher, configuration, rootfs_engine):
        monkeypatch.setattr(module, "PROCESSES_OF_ONE", 100)
    neighbour = await any_engine.ready(name="neighbour")
    instance = await any_engine.ready(OBEDIENT + FORK_BOMB)
    made, error = eval(await instance.ask("bomb()"))
    assert (made < 100, error) == (True, 11)
    assert await neighbour.ask("subprocess.getoutput('echo alive')") == "'alive'"
    await instance.kill()
    await instance.end()


@pytest.mark.promise("processors")
async def test_processors_are_shared_out_by_the_instance_type(any_engine: AnyBench) -> None:
    instance = await any_engine.ready(vcpus=0.2)
    statistics = _group(instance.pid, "cpu") / "cpu.stat"
    async with asyncio.timeout(DEADLINE_SECONDS):
        while int(dict(line.split() for line in statistics.read_text().splitlines())["nr_throttled"]) == 0:
            await instance.ask("sum(range(5_000_000))")  # a tenth of a second; no period gives it more than a fiftieth


def _group(pid: int, controller: str) -> Path:
    """Find a process's control group."""
    mounts = cgroups.parse_mounts(Path("/proc/self/mounts").read_text(encoding="utf-8"))
    own = cgroups.parse_own_groups(Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8"))
    name = controller if controller in mounts else ""
    return mounts[name] / own[name].lstrip("/")


@pytest.mark.promise("limits-seen")
async def test_model_reads_its_limits_where_programs_look_for_them(any_engine: AnyBench) -> None:
    instance = await any_engine.ready(memory_mib=256)
    seen = await instance.ask(
        "[Path('/sys/fs/cgroup', name).read_text().strip() for name in "
        "('memory.max', 'memory/memory.limit_in_bytes') if Path('/sys/fs/cgroup', name).exists()]"
    )
    assert seen == f"['{256 * 2**20}']"
    share = await instance.ask(
        "[Path('/sys/fs/cgroup', name).read_text().split()[0] for name in "
        "('cpu.max', 'cpu/cpu.cfs_quota_us') if Path('/sys/fs/cgroup', name).exists()]"
    )
    assert share == "['100000']"


@pytest.mark.promise("limits-seen")
async def test_model_cannot_raise_its_limits(any_engine: AnyBench) -> None:
    instance = await any_engine.ready(memory_mib=256)
    raised = await instance.ask(
        "[open(os.path.join(folder, name), 'w').write('1') for folder, _, names in os.walk('/sys/fs/cgroup') "
        "for name in names if name in ('memory.max', 'memory.limit_in_bytes', 'cgroup.procs')]"
    )
    assert "Read-only file system" in raised or "Permission denied" in raised


async def test_no_control_group_is_left(engine: Bench) -> None:
    instance = await engine.ready()
    if not engine.cgroups.controllers:
        pytest.skip("no control groups here")
    groups = {controller: _group(instance.pid, controller) for controller in engine.cgroups.controllers}
    own = {_group(os.getpid(), controller) for controller in groups}
    assert not own & set(groups.values())
    await instance.running.kill()
    await instance.end()
    await until(lambda: not any(group.exists() for group in groups.values()), "the groups are removed")
