"""Processes that are forked ahead of their instances: used once, unlike no other instance, and never left over."""

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from tests.support.engines import BARE, OBEDIENT, Bench, Instance, PatientClock, bench, embryos_of, is_living, until
from tests.support.machine import MACHINE

from moorage.engine import cgroups, spares
from moorage.engine.environments import Environment
from moorage.engine.network import OutsideNetwork

ENGINES = [
    pytest.param("sandbox", marks=pytest.mark.skipif(bool(MACHINE.sandbox_fault), reason=MACHINE.sandbox_fault)),
    "process",
]
SEARCH = """
import re

def predict_fn(what, model):
    end, begin = what.encode().split(b"|")  # so that the search itself does not have what it looks for
    found = 0
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for line in maps:
            first, last, rights = re.match("([0-9a-f]+)-([0-9a-f]+) (....)", line).groups()
            if rights.startswith("rw"):
                memory.seek(int(first, 16))
                parts = memory.read(int(last, 16) - int(first, 16)).split(begin)
                found += sum(part.startswith(end) for part in parts[1:])
    return str(found)
"""


class NoProcess:
    """An embryo without a process."""

    def __init__(self) -> None:
        self.pid = 0
        self.dead: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.zygote_gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended = False

    async def end(self) -> None:
        self.ended = True


class SlowGroups:
    """Makes groups that are nowhere, and whose removal takes until the test says so."""

    def __init__(self) -> None:
        self.removing = threading.Event()
        self.go_on = threading.Event()

    def make(self, _name: str) -> "SlowGroups":
        return self

    def join(self, pid: int) -> None:
        pass

    def remove(self) -> bool:
        self.removing.set()
        return self.go_on.wait(20)


@pytest.fixture(params=ENGINES)
async def ahead(request: pytest.FixtureRequest, tmp_path: Path, network: OutsideNetwork | None) -> AsyncIterator[Bench]:
    """Have an engine that forks ahead."""
    async with bench(request.param, tmp_path, network=network) as made:
        yield made


async def _second(ahead: Bench, code: str = OBEDIENT, *, isolated: bool = False) -> Instance:
    """Start an instance that finds a process forked ahead, and takes it."""
    await ahead.ready(name="first")
    spare = await ahead.spare()
    instance = await ahead.ready(code, "second", memory_mib=256, vcpus=0.5, isolated=isolated)
    assert instance.pid == spare
    return instance


async def test_process_that_was_forked_ahead_becomes_the_next_instance_and_another_is_forked(ahead: Bench) -> None:
    instance = await _second(ahead)
    assert await instance.ask("6 * 7") == "42"
    await until(lambda: instance.log.startswith("loaded "), "what it has printed is in its log")
    assert await ahead.spare() != instance.pid


async def test_its_limits_are_its_instances(ahead: Bench) -> None:
    instance = await _second(ahead)
    if not {"memory", "cpu", "pids"} <= ahead.cgroups.controllers:
        pytest.skip("no control groups here")
    mounts = cgroups.parse_mounts(Path("/proc/self/mounts").read_text(encoding="utf-8"))
    own = cgroups.parse_own_groups(Path(f"/proc/{instance.pid}/cgroup").read_text(encoding="utf-8"))
    seen = []
    for controller, names in {
        "memory": ("memory.limit_in_bytes", "memory.max"),
        "cpu": ("cpu.cfs_quota_us", "cpu.max"),
        "pids": ("pids.max",),
    }.items():
        root = mounts.get(controller) or mounts[""]
        folder = root / own.get(controller, own.get("", "/")).lstrip("/")
        seen += [(folder / name).read_text().split()[0] for name in names if (folder / name).exists()]
    assert seen == [str(256 * 2**20), "50000", "4096"]


async def test_it_goes_before_others_when_the_machine_runs_out_of_memory(ahead: Bench) -> None:
    await ahead.ready()
    spare = await ahead.spare()
    assert int(Path(f"/proc/{spare}/oom_score_adj").read_text()) > 0


async def test_its_end_is_known_like_any_other(ahead: Bench) -> None:
    instance = await _second(ahead)
    os.kill(instance.pid, signal.SIGKILL)
    assert str(await instance.end()) == "killed by SIGKILL"
    assert await instance.refuses()


async def test_sigterm_of_its_first_moment_is_not_lost(ahead: Bench) -> None:
    await ahead.ready()
    model = ahead.model(OBEDIENT, "next")
    for _ in range(3):
        spare = await ahead.spare()
        instance = await ahead.start(model)
        instance.running.terminate()
        assert instance.pid == spare
        assert (await instance.end()).code in {0, -signal.SIGTERM}


@pytest.mark.skipif(bool(MACHINE.sandbox_fault), reason=MACHINE.sandbox_fault)
async def test_isolated_instance_has_no_network_though_nobody_knew_when_it_was_forked(
    tmp_path: Path, network: OutsideNetwork | None
) -> None:
    async with bench("sandbox", tmp_path, network=network) as made:
        instance = await _second(made, isolated=True)
        assert await instance.ask("socket.if_nameindex()") == "[(1, 'lo')]"
        assert await instance.ask("socket.create_server(('127.0.0.1', 4711)).close()") == "None"


async def test_nothing_of_an_instance_is_in_the_memory_of_another(ahead: Bench) -> None:
    begin, end = os.urandom(8).hex(), os.urandom(8).hex()
    code = SEARCH + OBEDIENT.replace("predict_fn", "_")
    first = await ahead.start(ahead.model(code, "a"), variables={"KEY": begin + end})
    assert int(await (await first.is_ready()).ask(f"{end}|{begin}")) > 0, "the search finds what is there"
    for name in ("b", "c"):  # forked at once, and forked ahead
        other = await ahead.ready(code, name)
        assert await other.ask(f"{end}|{begin}") == "0"
        await ahead.spare()


async def test_dead_one_is_noticed_and_the_next_instance_starts_without_it(ahead: Bench) -> None:
    await ahead.ready(name="first")
    spare = await ahead.spare()
    os.kill(spare, signal.SIGKILL)
    await until(lambda: not Path(f"/proc/{spare}").exists(), "it is reaped")
    assert not ahead.launcher.has_spare
    instance = await ahead.ready(name="second")
    assert await instance.ask("6 * 7") == "42"
    await ahead.spare()


async def test_one_that_has_just_died_is_not_mistaken_for_an_instance(ahead: Bench) -> None:
    await ahead.ready(name="first")
    spare = await ahead.spare()
    model = ahead.model(OBEDIENT, "second")
    os.kill(spare, signal.SIGKILL)  # from here to the launch the event loop hears nothing of it
    instance = await (await ahead.start(model)).is_ready()
    assert instance.pid != spare
    assert await instance.ask("6 * 7") == "42"


async def test_launch_that_finds_a_dead_one_gets_another_forked_while_that_is_taken_away() -> None:
    forked: list[Any] = []
    groups = SlowGroups()

    async def fork(_environment: Environment, _threads: int) -> Any:
        await asyncio.sleep(0)
        forked.append(NoProcess())
        return forked[-1]

    clock = PatientClock()
    made = spares.Spares(fork, cast("cgroups.Cgroups", groups), clock)
    made.make_soon(BARE, 1)
    clock.seconds += spares.QUIET_SECONDS
    await until(lambda: bool(made), "a process is forked ahead")
    forked[0].dead.set_result(None)
    await until(groups.removing.is_set, "the dead one is taken away")
    made.make_soon(BARE, 1)
    groups.go_on.set()
    clock.seconds += spares.QUIET_SECONDS
    await until(lambda: bool(made), "another is forked ahead")
    assert len(forked) == 2
    await made.close()
    assert [one.ended for one in forked] == [True, True]


async def test_none_is_forked_for_one_of_several_containers_which_could_not_take_it(
    ahead: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(spares.Spares, "make_soon", lambda _self, environment, _threads: asked.append(environment.key))
    alone = await ahead.ready(name="alone")
    assert len(asked) == 1
    envelope = ahead.cgroups.make_envelope("several", cgroups.GroupLimits(2**30, 1, 100))
    launch = replace(alone.launch, instance_id="several.1", socket=ahead.sockets / "several.1.sock", within="several")
    running = await ahead.launcher.launch(launch)
    assert len(asked) == 1
    await running.kill()
    await running.ended
    assert envelope.remove()


async def test_it_ends_with_its_zygote(ahead: Bench) -> None:
    first = await ahead.ready()
    spare = await ahead.spare()
    (zygote,) = ahead.zygotes.pids
    os.kill(zygote, signal.SIGKILL)
    await until(lambda: not Path(f"/proc/{spare}").exists(), "it is gone")
    assert await first.ask("6 * 7") == "42"


async def test_it_ends_when_its_zygote_is_to_be_another(ahead: Bench) -> None:
    await ahead.ready()
    spare = await ahead.spare()
    await ahead.zygotes.retire()
    await until(lambda: not Path(f"/proc/{spare}").exists(), "it is gone")


@pytest.mark.parametrize("name", ENGINES)
async def test_it_ends_with_a_zygote_that_had_no_instance_for_a_minute(name: str, tmp_path: Path) -> None:
    clock = PatientClock()
    async with bench(name, tmp_path, clock) as made:
        instance = await made.ready()
        assert embryos_of(os.getpid()) == []
        clock.seconds += spares.QUIET_SECONDS
        spare = await made.spare()
        instance.running.terminate()
        await instance.end()
        assert is_living(spare)
        clock.seconds += 60
        await until(lambda: made.zygotes.pids == (), "the zygote is ended")
        await until(lambda: not Path(f"/proc/{spare}").exists(), "it is gone")


@pytest.mark.parametrize("name", ENGINES)
async def test_nothing_is_left_of_one_at_the_end(name: str, tmp_path: Path) -> None:
    async with bench(name, tmp_path) as made:
        await made.ready()
        spare = await made.spare()
        groups = Path(f"/proc/{spare}/cgroup").read_text()
    assert not Path(f"/proc/{spare}").exists()
    mounts = cgroups.parse_mounts(Path("/proc/self/mounts").read_text(encoding="utf-8"))
    own = cgroups.parse_own_groups(groups)
    folders = [mounts[name] / group.lstrip("/") for name, group in own.items() if name in mounts and "spare" in group]
    assert bool(folders) == bool(made.cgroups.controllers)
    assert not any(folder.exists() for folder in folders)
