"""Kill -9 of the node agent: its instances end with it."""

import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.engines import OBEDIENT, embryos_of, is_living, processes_that_say, until
from tests.support.node import agent_to_be_killed, call, make_spec

from moorage.engine.contract import InstanceState
from moorage.engine.probe import probe

MACHINE = probe()


@pytest.mark.promise("ends-with-moorage")
@pytest.mark.parametrize(
    "engine",
    [
        pytest.param("sandbox", marks=pytest.mark.skipif(bool(MACHINE.sandbox_fault), reason=MACHINE.sandbox_fault)),
        "process",
    ],
)
async def test_instances_and_zygotes_end_with_a_killed_node_agent(engine: str, tmp_path: Path) -> None:
    async with agent_to_be_killed(engine, tmp_path) as (agent, socket):
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


async def test_fronts_end_with_a_killed_node_agent(tmp_path: Path) -> None:
    async with agent_to_be_killed("process", tmp_path) as (agent, socket):
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


def is_child(pid: int, parent: int) -> bool:
    return f"PPid:\t{parent}\n" in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
