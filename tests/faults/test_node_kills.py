"""Kill -9 of the node agent: its instances end with it."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.engines import OBEDIENT, embryos_of, is_living, processes_that_say, until
from tests.support.node import call, make_spec

from moorage.engine.cgroups import Cgroups, find_hierarchies
from moorage.engine.contract import InstanceState
from moorage.engine.probe import probe
from moorage.engine.volumes import unmount_volumes

MACHINE = probe()
TESTS = Path(__file__).parents[1]


@pytest.mark.promise("ends-with-moorage")
@pytest.mark.parametrize(
    "engine",
    [
        pytest.param("sandbox", marks=pytest.mark.skipif(bool(MACHINE.sandbox_fault), reason=MACHINE.sandbox_fault)),
        "process",
    ],
)
async def test_instances_and_zygotes_end_with_a_killed_node_agent(engine: str, tmp_path: Path) -> None:
    code = f"from support.node import main; main({engine!r}, {str(tmp_path)!r})"
    path = os.pathsep.join([str(TESTS), *sys.path])
    agent = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path})
    try:
        await until((tmp_path / "ready").exists, "the node agent listens")
        socket = Path((tmp_path / "ready").read_text(encoding="utf-8"))
        async with call(socket, tmp_path / "models") as control:
            control.model("model", OBEDIENT)
            control.model("loads", "import time\ndef model_fn(d):\n    time.sleep(3600)\n")
            await control.launch("i-1")
            await control.launch("i-2", model="loads")
            ready = await control.comes_to("i-1", InstanceState.READY)
            await until(lambda: control.reports["i-2"][-1].pid is not None, "the other one loads its model")
            pids = [ready.pid or 0, control.reports["i-2"][-1].pid or 0]
            await until(lambda: bool(embryos_of(agent.pid)), "a process is forked ahead")
            pids += embryos_of(agent.pid)
        zygote = [pid for pid in processes_that_say("serving/__main__.py") if is_child(pid, agent.pid)]
        agent.send_signal(signal.SIGKILL)
        agent.wait()
        await until(lambda: not any(is_living(pid) for pid in [*pids, *zygote]), "all have ended")
        shutil.rmtree(socket.parent)
    finally:
        agent.kill()
        agent.wait()
        groups = Cgroups(find_hierarchies(f"moorage-test-{agent.pid}-{tmp_path.name}"))
        groups.remove_leftovers()
        groups.close()
        unmount_volumes(tmp_path)


async def test_fronts_end_with_a_killed_node_agent(tmp_path: Path) -> None:
    code = f"from support.node import main; main('process', {str(tmp_path)!r})"
    path = os.pathsep.join([str(TESTS), *sys.path])
    agent = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path})
    try:
        await until((tmp_path / "ready").exists, "the node agent listens")
        socket = Path((tmp_path / "ready").read_text(encoding="utf-8"))
        async with call(socket, tmp_path / "models") as control:
            control.model("model", OBEDIENT)
            spec = make_spec("i-1")
            containers = tuple(replace(spec.containers[0], name=name) for name in ("a", "b"))
            await control.ask_for(replace(spec, containers=containers))
            await control.comes_to("i-1", InstanceState.READY)
        pids = [pid for pid in processes_that_say("moorage.front") if is_child(pid, agent.pid)]
        assert len(pids) == 1
        agent.send_signal(signal.SIGKILL)
        agent.wait()
        await until(lambda: not any(is_living(pid) for pid in pids), "the front has ended")
        shutil.rmtree(socket.parent)
    finally:
        agent.kill()
        agent.wait()
        groups = Cgroups(find_hierarchies(f"moorage-test-{agent.pid}-{tmp_path.name}"))
        groups.remove_leftovers()
        groups.close()


def is_child(pid: int, parent: int) -> bool:
    return f"PPid:\t{parent}\n" in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
