"""``moorage exec`` into real instances of every engine: what the shell sees is what the model sees."""

import asyncio
import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.engines import DEADLINE_SECONDS, Bench, Instance, bench, is_living, until

from moorage.base.data_dir import try_lock
from moorage.engine.probe import probe
from moorage.node.entrances import Entrance, NoShell, Wanted
from moorage.node.shells import Shells

MACHINE = probe()
needs_sandbox = pytest.mark.skipif(bool(MACHINE.sandbox_fault), reason=f"no sandbox: {MACHINE.sandbox_fault}")
needs_root = pytest.mark.skipif(not MACHINE.as_root, reason="only root can give instances users of their own")

_SERVER = {"url": "http://127.0.0.1:1", "pid": 1, "region": "us-east-1", "account": "0", "version": "0", "engine": ""}
_KEY = {"access_key_id": "a", "secret_access_key": "s", "account": "0", "user_name": "u"}


@dataclass
class Door:
    """An instance, and a data folder at which the command line finds its node agent."""

    engine: Bench
    instance: Instance
    data_dir: Path

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "moorage", "exec", "--data-dir", str(self.data_dir), "ep/v1", *words]

    async def run(self, *words: str, typed: str = "") -> "subprocess.CompletedProcess[str]":
        """Run a command in the instance, as in a pipe."""
        return await asyncio.to_thread(
            subprocess.run, self.command("--", *words), input=typed, capture_output=True, text=True, check=False,
            timeout=DEADLINE_SECONDS,
        )  # fmt: skip


@pytest.fixture(params=[pytest.param("sandbox", marks=needs_sandbox), "process"])
async def door(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Door]:
    async with bench(request.param, tmp_path) as engine:
        instance = await engine.ready()

        def find(wanted: Wanted) -> Entrance:
            if wanted.variant != "v1":
                raise NoShell(f"{wanted} does not run here")
            return Entrance(instance.launch.instance_id, instance.pid, instance.launch.variables)

        with _data_dir(tmp_path / "data", str(engine.sockets)) as data_dir:
            shells = Shells(engine.sockets / "shell.sock", find)
            shells.start()
            yield Door(engine, instance, data_dir)
            shells.close()


@contextlib.contextmanager
def _data_dir(folder: Path, run_dir: str) -> Iterator[Path]:
    folder.mkdir()
    (folder / "server.json").write_text(json.dumps({**_SERVER, "run_dir": run_dir}))
    (folder / "credentials.json").write_text(json.dumps(_KEY))
    lock = try_lock(folder)
    assert lock is not None
    yield folder
    lock.release()


async def test_command_sees_the_model_s_files_user_and_variables(door: Door) -> None:
    seen = await door.run("sh", "-c", "id -u; echo $AWS_REGION; pwd; cat /proc/self/cgroup")
    user, region, folder, *groups = seen.stdout.splitlines()
    assert seen.returncode == 0, seen.stderr
    assert user == await door.instance.ask("os.getuid()")
    assert region == "eu-north-1"
    assert repr(folder) == await door.instance.ask("os.getcwd()")
    assert "\n".join(groups) == eval(await door.instance.ask("Path('/proc/self/cgroup').read_text().strip()"))


async def test_exit_code_output_errors_and_input_are_the_command_s(door: Door) -> None:
    ended = await door.run("sh", "-c", "cat; echo trouble >&2; exit 7", typed="what was typed\n")
    assert (ended.returncode, ended.stdout, ended.stderr) == (7, "what was typed\n", "trouble\n")


async def test_unknown_command_is_named(door: Door) -> None:
    ended = await door.run("no-such-program")
    assert ended.returncode == 127
    assert ended.stderr == "no-such-program cannot be run in the instance: No such file or directory\n"


async def test_refusal_is_told_as_it_is(door: Door) -> None:
    command = [word.replace("ep/v1", "ep/other") for word in door.command()]
    ended = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (1, "Error: ep/other does not run here\n")


@needs_sandbox
@pytest.mark.parametrize("door", ["sandbox"], indirect=True)
async def test_shell_has_no_more_privileges_than_the_model(door: Door) -> None:
    shown = (await door.run("cat", "/proc/self/status")).stdout
    status = dict(line.split(":", 1) for line in shown.splitlines())
    assert [int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapInh")] == [0, 0, 0, 0]
    assert status["NoNewPrivs"].strip() == "1"
    for word in ("mnt", "pid", "ipc", "uts", "net", "cgroup"):
        theirs = str(Path(f"/proc/{door.instance.pid}/ns/{word}").readlink())
        assert (await door.run("readlink", f"/proc/self/ns/{word}")).stdout.strip() == theirs, word


async def test_terminal_is_the_instance_s_own_and_ctrl_c_reaches_what_runs_in_it(door: Door) -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, door.command())
    try:
        os.write(terminal, b'test -t 0 && echo is a termi""nal; sleep 1000; echo status $?\n')
        await _shows(terminal, "is a terminal")
        await until(lambda: bool(_sleepers(door)), "sleep runs")
        os.write(terminal, b"\x03echo status $?\n")
        await _shows(terminal, "status 130")
        os.write(terminal, b"exit 5\n")
        _pid, status = await asyncio.wait_for(asyncio.to_thread(os.waitpid, child, 0), DEADLINE_SECONDS)
        assert os.waitstatus_to_exitcode(status) == 5
    finally:
        os.close(terminal)


async def test_command_ends_when_its_caller_goes(door: Door) -> None:
    process = subprocess.Popen(door.command("--", "sleep", "1000"), stdout=subprocess.PIPE)
    await until(lambda: bool(_sleepers(door)), "sleep runs")
    (sleeper,) = _sleepers(door)
    process.send_signal(signal.SIGKILL)
    await asyncio.to_thread(process.communicate)
    await until(lambda: not is_living(sleeper), "sleep has ended")


async def test_command_ends_with_its_instance(door: Door) -> None:
    process = subprocess.Popen(door.command("--", "sleep", "1000"), stdout=subprocess.PIPE)
    await until(lambda: bool(_sleepers(door)), "sleep runs")
    (sleeper,) = _sleepers(door)
    await door.instance.running.kill()
    await door.instance.end()
    await until(lambda: not is_living(sleeper), "sleep has ended")
    await asyncio.to_thread(process.communicate)


def _sleepers(door: Door) -> list[int]:
    """Find what was started in the instance, and in no other test's."""
    home = f"AWS_REGION={door.instance.launch.variables['AWS_REGION']}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if (entry / "cmdline").read_bytes() == b"sleep\x001000\x00" and home in (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return found


async def _shows(terminal: int, text: str) -> None:
    shown = b""

    def read() -> None:
        nonlocal shown
        while text.encode() not in shown:
            ready, _, _ = select.select([terminal], [], [], DEADLINE_SECONDS)
            assert ready, shown
            shown += os.read(terminal, 4096)

    await asyncio.to_thread(read)
