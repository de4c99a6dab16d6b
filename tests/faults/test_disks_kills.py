"""Kill -9 of the node agent: the disks of its instances go, and the core files on them do not."""

import contextlib
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.engines import printed, until
from tests.support.node import agent_to_be_killed, call, make_spec, node
from tests.support.objects import store_in

from moorage.engine import cores, mounts
from moorage.engine.contract import CoreDumps, InstanceState
from moorage.engine.probe import probe
from moorage.engine.volumes import why_not_encrypted

WHY_NOT = probe().sandbox_fault or why_not_encrypted() or cores.why_not_found()

A_CHILD_CRASHES = """
import subprocess, sys
def model_fn(folder):
    subprocess.run([sys.executable, "-c", "import ctypes; ctypes.string_at(0)"])
    print("a child has crashed")
"""


@pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
@pytest.mark.parametrize("key", [None, "alias/mine"])
async def test_disks_of_a_killed_node_agent_are_removed_and_core_files_saved(key: str | None, tmp_path: Path) -> None:
    store = store_in(tmp_path)
    await store.create_bucket("dumps", account="000000000000", region="us-east-1")
    with contextlib.closing(store):
        async with agent_to_be_killed("sandbox", tmp_path) as (agent, socket):
            async with call(socket, tmp_path / "models") as control:
                control.model("model", A_CHILD_CRASHES)
                spec = replace(make_spec("i-1"), kms_key=key, core_dumps=CoreDumps("s3://dumps/d"))
                await control.ask_for(spec)
                starting = await control.comes_to("i-1", InstanceState.STARTING)
                await until(lambda: "a child has crashed" in printed(Path(starting.log_path)), "a child crashes")
            agent.send_signal(signal.SIGKILL)
            agent.wait()
            shutil.rmtree(socket.parent)
            assert len(mounts.mounted_below(tmp_path)) == 1
            async with node("sandbox", tmp_path):
                await until(lambda: not list((tmp_path / "volumes").iterdir()), "what was left is removed")
                (core,) = (await store.list("dumps")).objects
                assert core.key.startswith("d/ep/v1/i-1/core.python")
            assert mounts.mounted_below(tmp_path) == []
            backed = (path.read_text(encoding="utf-8") for path in Path("/sys/block").glob("loop*/loop/backing_file"))
            assert [file for file in backed if str(tmp_path) in file] == []
            said = f"(SIGSEGV): s3://dumps/{core.key}"
            await until(lambda: said in printed(Path(starting.log_path)), "the log says where")
