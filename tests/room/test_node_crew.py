"""A node agent and instances of several containers: their start, their place, and how the end of one is that of all."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.support.engines import DEADLINE_SECONDS, OBEDIENT, is_living, printed, until
from tests.support.node import IMAGE, ControlEnd, call, make_spec, node
from tests.support.product import descendants

from moorage.engine.cgroups import Cgroups, find_hierarchies
from moorage.engine.contract import (
    ContainerSpec,
    CoreDumps,
    Failure,
    InstanceSpec,
    InstanceState,
    ModelSource,
)
from moorage.engine.ping import ping

READY, STOPPED, EXITED, FAILED = (
    InstanceState.READY,
    InstanceState.STOPPED,
    InstanceState.EXITED,
    InstanceState.FAILED,
)
BAD = "def model_fn(d):\n    raise ValueError('no such luck')\n"
HANGS = "import time\ndef model_fn(d):\n    print('hanging')\n    time.sleep(3600)\n"


@pytest.fixture(params=["process", "sandbox"])
async def control(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ControlEnd]:
    async with node(request.param, tmp_path) as socket, call(socket, tmp_path / "models") as end:
        end.model("model", OBEDIENT)
        yield end


def several(*models: str, seconds: float = 20.0, **changes: Any) -> InstanceSpec:
    """Make a specification of containers a, b, ... of these models."""
    containers = tuple(
        ContainerSpec(name, IMAGE, {"OWN": name}, ModelSource(f"s3://models/{model}"))
        for name, model in zip("abcdef", models, strict=False)
    )
    return replace(make_spec("i-1", seconds=seconds), containers=containers, **changes)


async def ask(address: str | None, what: str, **headers: str) -> str:
    """Have an instance evaluate an expression."""
    assert address is not None
    async with asyncio.timeout(DEADLINE_SECONDS):
        reader, writer = await asyncio.open_unix_connection(address.removeprefix("unix:"))
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        head = f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n{lines}"
        writer.write(f"{head}Content-Length: {len(what)}\r\nConnection: close\r\n\r\n{what}".encode())
        answer = await reader.read()
        writer.close()
    return answer.partition(b"\r\n\r\n")[2].decode()


def children(word: bytes) -> list[int]:
    """Find the living processes that this one has started, or adopted, with a word in their name or command."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                command = (entry / "cmdline").read_bytes() + (entry / "comm").read_bytes()
            except OSError:
                continue
            if parent == os.getpid() and word in command and is_living(int(entry.name)):
                found.append(int(entry.name))
    return found


def models() -> list[int]:
    return children(b"moorage-model")


def front() -> int:
    (found,) = children(b"moorage.front")
    return found


async def test_all_containers_are_ready_and_an_invocation_goes_through_them(control: ControlEnd) -> None:
    await control.ask_for(several("model", "model"))
    report = await control.comes_to("i-1", READY)
    assert report.address is not None
    assert len(models()) == 2
    assert len(report.resolved_images) == 2
    # What the first gives, a string in quotes, the second evaluates again.
    assert await ask(report.address, "os.environ['OWN'] + ' then'") == "'a then'"
    assert await ask(report.address, "'x', os.environ['OWN']") == "('x', 'a')"


async def test_direct_containers_are_asked_by_name(control: ControlEnd) -> None:
    await control.ask_for(several("model", "model", execution="Direct"))
    report = await control.comes_to("i-1", READY)
    for name in ("a", "b"):
        header = {"X_Amzn_SageMaker_Target_Container_Hostname": name}
        assert await ask(report.address, "os.environ['OWN']", **header) == repr(name)


async def test_containers_are_told_ports_of_their_own(control: ControlEnd) -> None:
    await control.ask_for(several("model", "model", execution="Direct"))
    report = await control.comes_to("i-1", READY)
    told = []
    for name in ("a", "b"):
        what = "os.environ['SAGEMAKER_BIND_TO_PORT'], os.environ['SAGEMAKER_SAFE_PORT_RANGE']"
        header = {"X_Amzn_SageMaker_Target_Container_Hostname": name}
        told.append(eval(await ask(report.address, what, **header)))
    assert told == [("8080", "20000-20099"), ("8081", "20100-20199")]


async def test_each_container_has_a_log_of_its_own(control: ControlEnd) -> None:
    await control.ask_for(several("model", "model"))
    report = await control.comes_to("i-1", READY)
    folder = Path(report.log_path)
    assert folder.name == "i-1"
    for name in ("a", "b"):
        await until(partial(_has_loaded, folder / name), "it is in the log")
    await control.order("stop", "i-1")
    await control.comes_to("i-1", STOPPED)


def _has_loaded(folder: Path) -> bool:
    return "loaded" in printed(folder)


async def test_stopped_instance_ends_with_all_its_containers_and_its_front(control: ControlEnd) -> None:
    await control.ask_for(several("model", "model"))
    report = await control.comes_to("i-1", READY)
    living = [*models(), front()]
    await control.order("stop", "i-1")
    stopped = await control.comes_to("i-1", STOPPED)
    assert not [pid for pid in living if is_living(pid)]
    assert (stopped.container, stopped.message) == (None, "")
    sockets = Path((report.address or "").removeprefix("unix:")).parent
    assert [path.name for path in sockets.iterdir()] == ["node.sock"]
    await control.order("forget", "i-1")
    await control.ask_for(several("model", "model"))
    await until(lambda: control.reports["i-1"][-1].state is READY, "the name can be used anew")


@pytest.mark.parametrize("which", [0, 1])
async def test_kill_of_one_container_ends_them_all_and_names_it(control: ControlEnd, which: int) -> None:
    await control.ask_for(several("model", "model"))
    report = await control.comes_to("i-1", READY)
    assert report.pid is not None
    pids = [report.pid, *(pid for pid in models() if pid != report.pid)]
    living = [*pids, front()]
    os.kill(pids[which], signal.SIGKILL)
    ended = await control.comes_to("i-1", EXITED)
    name = "ab"[which]
    assert (ended.container, ended.message) == (name, f"The container {name} was killed by SIGKILL")
    assert not [pid for pid in living if is_living(pid)]
    last = [printed(Path(ended.log_path) / each).splitlines()[-1] for each in ("a", "b")]
    assert last == [f"[moorage] The container {name} was killed by SIGKILL"] * 2


async def test_kill_of_the_front_ends_the_instance(control: ControlEnd) -> None:
    await control.ask_for(several("model", "model"))
    await control.comes_to("i-1", READY)
    living = [*models(), front()]
    os.kill(front(), signal.SIGKILL)
    ended = await control.comes_to("i-1", EXITED)
    assert ended.message == "Moorage's own process before its containers was killed by SIGKILL"
    assert not [pid for pid in living if is_living(pid)]


async def test_container_that_cannot_load_its_model_is_named_with_its_traceback(control: ControlEnd) -> None:
    control.model("bad", BAD)
    await control.ask_for(several("model", "bad", "model"))
    report = await control.comes_to("i-1", FAILED)
    assert (report.failure, report.container) == (Failure.HEALTH_CHECK, "b")
    assert "ValueError: no such luck" in report.log_tail
    assert not models()
    assert not children(b"moorage.front")


async def test_container_that_is_not_ready_in_time_is_named(control: ControlEnd) -> None:
    control.model("hangs", HANGS)
    await control.ask_for(several("model", "hangs", seconds=2.0))
    report = await control.comes_to("i-1", FAILED)
    assert (report.failure, report.container) == (Failure.HEALTH_CHECK, "b")
    assert report.message.startswith("The container b did not answer /ping with 200 in time: /ping gave no answer")
    assert "hanging" in report.log_tail


async def test_container_whose_artefact_is_missing_is_named_and_nothing_is_started(control: ControlEnd) -> None:
    await control.ask_for(several("model", "missing"))
    report = await control.comes_to("i-1", FAILED)
    assert (report.failure, report.container) == (Failure.ARTIFACT, "b")
    assert report.message == "There is no model data at s3://models/missing."
    assert InstanceState.STARTING not in control.states("i-1")


async def test_container_that_becomes_unhealthy_is_named(control: ControlEnd) -> None:
    await control.ask_for(several("model", "model"))
    report = await control.comes_to("i-1", READY)
    (second,) = (pid for pid in models() if pid != report.pid)
    for pid in descendants(second):  # its workers too
        os.kill(pid, signal.SIGSTOP)
    ended = await control.comes_to("i-1", EXITED)
    assert InstanceState.UNHEALTHY in control.states("i-1")
    assert ended.container == "b"
    assert ended.message.startswith("The container b failed its health checks and was ended: /ping gave no answer")


async def test_front_that_hangs_makes_the_instance_unhealthy(control: ControlEnd) -> None:
    await control.ask_for(several("model", "model"))
    await control.comes_to("i-1", READY)
    hung = front()
    os.kill(hung, signal.SIGSTOP)
    ended = await control.comes_to("i-1", EXITED)
    assert ended.message.startswith("The container failed its health checks and was ended")
    assert not is_living(hung)


async def test_one_envelope_bounds_all_containers_together(control: ControlEnd) -> None:
    groups_here = Cgroups(find_hierarchies(f"moorage-probe-{os.getpid()}"))
    groups_here.close()
    if "memory" not in groups_here.controllers:
        pytest.skip("no control groups here")
    await control.ask_for(several("model", "model"))
    await control.comes_to("i-1", READY)
    groups = [Path(f"/proc/{pid}/cgroup").read_text() for pid in models()]
    assert sorted(number for number in (1, 2) for text in groups if f"/i-1/i-1.{number}\n" in text) == [1, 2]
    limits = {_memory_limit(text.splitlines()) for text in groups}
    assert limits == {8 * 2**30}  # of ml.m5.large


def _memory_limit(groups: list[str]) -> int:
    """Read the limit of the group around the group of a process."""
    (mine,) = [line.split(":", 2)[2] for line in groups if line.split(":")[1] in {"memory", ""} and "/i-1/" in line][:1]
    for limit in (f"/sys/fs/cgroup/memory{mine}/../memory.limit_in_bytes", f"/sys/fs/cgroup{mine}/../memory.max"):
        if Path(limit).exists():
            return int(Path(limit).read_text())
    raise AssertionError(f"no limit of {mine}")


async def test_all_containers_have_their_part_of_one_disk(control: ControlEnd, tmp_path: Path) -> None:
    spec = several("model", "model", execution="Direct", core_dumps=CoreDumps("s3://cores/here"))
    await control.ask_for(spec)
    report = await control.comes_to("i-1", READY)
    for name in ("a", "b"):
        header = {"X_Amzn_SageMaker_Target_Container_Hostname": name}
        what = "Path('mine').write_text(os.environ['OWN']), len(list(Path('.').glob('mine')))"
        assert eval(await ask(report.address, what, **header)) == (1, 1)
    (disk,) = (tmp_path / "volumes").glob("*/disk/data")
    assert {path.read_text() for path in disk.glob("parts/*/tmp/mine")} == {"a", "b"}


async def test_end_of_the_agent_ends_all_containers(tmp_path: Path) -> None:
    async with node("process", tmp_path) as socket, call(socket, tmp_path / "models") as end:
        end.model("model", OBEDIENT)
        await end.ask_for(several("model", "model"))
        report = await end.comes_to("i-1", READY)
        assert report.address is not None
        assert await ping(report.address, DEADLINE_SECONDS) == 200
        living = [*models(), front()]
    assert not [pid for pid in living if is_living(pid)]
