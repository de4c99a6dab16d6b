"""``moorage exec`` into real instances of every engine: what the shell sees is what the model sees."""

import asyncio
import contextlib
import json
import os
import pty
import select
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.any_engine import AnyBench, AnyInstance
from tests.support.engines import DEADLINE_SECONDS, Bench, Instance, is_living, until

from moorage.base.data_dir import try_lock
from moorage.node.entrances import Entrance, NoShell, Wanted
from moorage.node.shells import Shells

_SERVER = {"url": "http://127.0.0.1:1", "pid": 1, "region": "us-east-1", "account": "0", "version": "0", "engine": ""}
_KEY = {"access_key_id": "a", "secret_access_key": "s", "account": "0", "user_name": "u"}


@dataclass
class Door:
    """An instance, and a data folder at which the command line finds its node agent."""

    instance: AnyInstance
    data_dir: Path

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "moorage", "exec", "--data-dir", str(self.data_dir), "ep/v1", *words]

    async def run(self, *words: str, typed: str = "") -> "subprocess.CompletedProcess[str]":
        """Run a command in the instance, as in a pipe."""
        return await asyncio.to_thread(
            subprocess.run, self.command("--", *words), input=typed, capture_output=True, text=True, check=False,
            timeout=DEADLINE_SECONDS,
        )  # fmt: skip


@pytest.fixture
async def door(engine: Bench, tmp_path: Path) -> AsyncIterator[Door]:
    """Have a way into an instance of each engine of built-in images."""
    with _door(await engine.ready(), tmp_path / "data") as made:
        yield made


@pytest.fixture
async def any_door(any_engine: AnyBench, tmp_path: Path) -> AsyncIterator[Door]:
    """Have a way into an instance of each engine."""
    with _door(await any_engine.ready(), tmp_path / "data") as made:
        yield made


@contextlib.contextmanager
def _door(instance: AnyInstance, data_dir: Path) -> Iterator[Door]:
    variables = instance.launch.variables if isinstance(instance, Instance) else None

    def find(wanted: Wanted) -> Entrance:
        if wanted.variant != "v1":
            raise NoShell(f"{wanted} does not run here")
        return Entrance(instance.instance_id, instance.pid, variables)

    with tempfile.TemporaryDirectory(prefix="moorage-") as run_dir, _said_to_run(data_dir, run_dir):
        shells = Shells(Path(run_dir, "shell.sock"), find)
        shells.start()
        yield Door(instance, data_dir)
        shells.close()


@contextlib.contextmanager
def _said_to_run(folder: Path, run_dir: str) -> Iterator[None]:
    folder.mkdir()
    (folder / "server.json").write_text(json.dumps({**_SERVER, "run_dir": run_dir}))
    (folder / "credentials.json").write_text(json.dumps(_KEY))
    lock = try_lock(folder)
    assert lock is not None
    yield
    lock.release()


_LOOK = (
    "import os; print(os.getuid(), os.environ['AWS_REGION'], os.getcwd(), open('/proc/self/cgroup').read(), "
    "sorted(os.listdir('/')))"
)


@pytest.mark.promise("shell")
async def test_shell_sees_the_models_files_user_variables_and_groups(any_door: Door) -> None:
    seen = await any_door.run("python3", "-c", _LOOK)
    assert seen.returncode == 0, seen.stderr
    model = await any_door.instance.ask(f"__import__('subprocess').getoutput({'python3 -c ' + shlex.quote(_LOOK)!r})")
    assert seen.stdout.strip() == eval(model)


@pytest.mark.promise("shell")
async def test_shell_has_no_more_privileges_than_the_model(any_door: Door) -> None:
    shown = (await any_door.run("sh", "-c", "while read line; do echo $line; done < /proc/self/status")).stdout
    theirs = eval(await any_door.instance.ask("open('/proc/self/status').read()"))
    names = ("CapPrm", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp", "Uid", "Gid")
    own, model = ({line.split(":")[0]: line.split()[1:] for line in text.splitlines()} for text in (shown, theirs))
    assert {name: own[name] for name in names} == {name: model[name] for name in names}


@pytest.mark.promise("shell")
async def test_shell_is_in_all_namespaces_of_the_instance(any_door: Door) -> None:
    for word in ("user", "mnt", "pid", "ipc", "uts", "net", "cgroup"):
        theirs = str(Path(f"/proc/{any_door.instance.pid}/ns/{word}").readlink())
        seen = await any_door.run("python3", "-c", f"print(__import__('os').readlink('/proc/self/ns/{word}'))")
        assert seen.stdout.strip() == theirs, word


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


async def test_command_gets_no_terminal_of_the_callers_and_what_is_typed_comes_by_a_pipe(door: Door) -> None:
    ours, theirs = pty.openpty()
    script = "test -t 0 || test -t 2 || echo none; read line; echo read $line; echo trouble >&2; exit 6"
    process = subprocess.Popen(
        door.command("--", "sh", "-c", script), stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, text=True
    )
    os.close(theirs)
    try:
        os.write(ours, b"a line\n")
        await _shows(ours, "trouble")
        said, _ = await asyncio.to_thread(process.communicate)
        assert (process.returncode, said) == (6, "none\nread a line\n")
    finally:
        os.close(ours)


async def test_more_is_typed_than_the_command_has_read_and_said(door: Door) -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, door.command("--", "sh", "-c", "stty raw -echo; echo be''gin; exec cat"))
    try:
        await _shows(terminal, "begin")
        await asyncio.to_thread(_paste, terminal, 300_000)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(terminal)


def _paste(terminal: int, count: int) -> None:
    """Type so many bytes, reading what is shown all the while, until as many have come back."""
    os.set_blocking(terminal, False)
    left, shown = count, 0
    while shown < count:
        ready, writable, _ = select.select([terminal], [terminal] if left else [], [], DEADLINE_SECONDS)
        assert ready or writable, f"{left} bytes are not typed yet, {shown} were shown"
        if writable:
            left -= os.write(terminal, b"x" * min(left, 4096))
        if ready:
            shown += len(os.read(terminal, 65_536))


async def test_program_that_enters_an_instance_is_no_file_of_the_machine(door: Door) -> None:
    process = subprocess.Popen(door.command("--", "sleep", "1000"), stdout=subprocess.PIPE)
    await until(lambda: bool(_sleepers(door)), "sleep runs")
    (sleeper,) = _sleepers(door)
    entering = Path(f"/proc/{Path(f'/proc/{sleeper}/stat').read_text().rpartition(')')[2].split()[1]}")
    assert str((entering / "exe").readlink()).startswith("/memfd:")
    held = os.open(entering / "exe", os.O_PATH)
    process.kill()
    await asyncio.to_thread(process.communicate)
    await until(lambda: not is_living(int(entering.name)), "it has ended, and its program is busy no more")
    with pytest.raises(PermissionError), Path(f"/proc/self/fd/{held}").open("r+b", buffering=0) as program:
        program.write(b"changed")
    os.close(held)


@pytest.mark.parametrize("words", [("sleep", "1000"), ("sh", "-c", "sleep 1000; echo rested")])
async def test_command_ends_when_its_caller_goes(door: Door, words: tuple[str, ...]) -> None:
    process = subprocess.Popen(door.command("--", *words), stdout=subprocess.PIPE)
    await until(lambda: bool(_sleepers(door)), "sleep runs")
    (sleeper,) = _sleepers(door)
    process.send_signal(signal.SIGKILL)
    await asyncio.to_thread(process.communicate)
    await until(lambda: not is_living(sleeper), "sleep has ended")


async def test_command_ends_with_its_instance(door: Door) -> None:
    process = subprocess.Popen(door.command("--", "sleep", "1000"), stdout=subprocess.PIPE)
    await until(lambda: bool(_sleepers(door)), "sleep runs")
    (sleeper,) = _sleepers(door)
    await door.instance.kill()
    await door.instance.end()
    await until(lambda: not is_living(sleeper), "sleep has ended")
    await asyncio.to_thread(process.communicate)


def _sleepers(door: Door) -> list[int]:
    """Find what was started in the instance, and in no other test's."""
    groups = _groups(door.instance.pid)
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if (entry / "cmdline").read_bytes() == b"sleep\x001000\x00" and _groups(int(entry.name)) == groups:
                found.append(int(entry.name))
    return found


def _groups(pid: int) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text()


async def _shows(terminal: int, text: str) -> None:
    shown = b""

    def read() -> None:
        nonlocal shown
        while text.encode() not in shown:
            ready, _, _ = select.select([terminal], [], [], DEADLINE_SECONDS)
            assert ready, shown
            shown += os.read(terminal, 4096)

    await asyncio.to_thread(read)
