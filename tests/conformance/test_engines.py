"""What every engine promises of an instance, tried from inside a model and from outside."""

import asyncio
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.engines import (
    OBEDIENT,
    PYTHON,
    Bench,
    bench,
    is_living,
    processes_that_say,
    until,
)
from tests.support.product import descendants

from moorage.engine.commands import Command
from moorage.engine.environments import Environment
from moorage.engine.installer import Installer
from moorage.engine.launch import LaunchFailed
from moorage.engine.probe import Machine, probe
from moorage.engine.trees import read_processes

MACHINE: Machine = probe()

needs_sandbox = pytest.mark.skipif(bool(MACHINE.sandbox_fault), reason=f"no sandbox: {MACHINE.sandbox_fault}")
needs_memory_limit = pytest.mark.skipif(
    "memory" not in MACHINE.controllers, reason="this user cannot write the memory control group"
)
needs_root = pytest.mark.skipif(not MACHINE.as_root, reason="only root can give instances users of their own")


@pytest.fixture(params=[pytest.param("sandbox", marks=needs_sandbox), "process"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(request.param, tmp_path) as made:
        yield made


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Bench]:
    if MACHINE.sandbox_fault:
        pytest.skip(f"no sandbox: {MACHINE.sandbox_fault}")
    async with bench("sandbox", tmp_path) as made:
        yield made


# --- a life in good order


async def test_instance_answers_with_its_model(engine: Bench) -> None:
    instance = await engine.ready()
    assert await instance.ask("6 * 7") == "42"


async def test_output_of_the_model_goes_to_its_log(engine: Bench) -> None:
    instance = await engine.ready()
    await instance.ask("print('to stdout'), print('to stderr', file=sys.stderr)")
    await until(lambda: "to stdout\n" in instance.log, "what was printed is in the log")
    await until(lambda: "to stderr\n" in instance.log, "what went to stderr is in the log")


async def test_variables_are_the_users_over_those_of_every_container(engine: Bench) -> None:
    instance = await engine.start(engine.model(OBEDIENT), variables={"OMP_NUM_THREADS": "7", "MINE": "ä=1"})
    await instance.is_ready()
    seen = eval(await instance.ask("dict(os.environ)"))
    assert seen["MINE"] == "ä=1"
    assert seen["AWS_REGION"] == seen["AWS_DEFAULT_REGION"] == "eu-north-1"
    assert (seen["OMP_NUM_THREADS"], seen["OPENBLAS_NUM_THREADS"]) == ("7", "1")
    assert seen["HOME"] == "/tmp"


async def test_nothing_of_moorages_own_environment_reaches_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOORAGE_TEST_SECRET", "seldom")
    async with bench(MACHINE.engine, tmp_path) as made:
        instance = await made.ready()
        assert "SECRET" not in await instance.ask("dict(os.environ)")


async def test_container_without_model_data_finds_an_empty_model_folder(engine: Bench) -> None:
    instance = await engine.start(None)
    # A model server without a model has nothing to serve, and says so: the folder was there to be looked into.
    assert (await instance.end()).code == 1
    assert "Please provide a model_fn implementation" in instance.log


async def test_sigterm_ends_an_idle_instance_at_once(engine: Bench) -> None:
    instance = await engine.ready()
    instance.running.terminate()
    assert (await instance.end()).code == 0
    assert await instance.refuses()


async def test_sigterm_of_the_first_moment_is_not_lost(engine: Bench) -> None:
    await engine.ready()  # the zygote is warm: the next ones are born in milliseconds
    model = engine.model(OBEDIENT, "next")
    for _ in range(10):
        instance = await engine.start(model)
        instance.running.terminate()
        assert (await instance.end()).code in {0, 143}


async def test_instances_of_one_environment_share_a_zygote(engine: Bench) -> None:
    model = engine.model(OBEDIENT)
    first, second = await engine.start(model), await engine.start(model)
    assert await (await first.is_ready()).ask("1") == await (await second.is_ready()).ask("1")
    assert len(engine.zygotes.pids) == 1


# --- bad ends


async def test_model_that_cannot_be_loaded_ends_with_its_traceback_in_the_log(engine: Bench) -> None:
    instance = await engine.start(engine.model("def model_fn(d):\n    raise ValueError('no such luck')\n"))
    end = await instance.end()
    assert (end.code, str(end)) == (1, "ended with exit code 1")
    assert "ValueError: no such luck" in instance.log


async def test_model_that_leaves_by_the_back_door_is_seen(engine: Bench) -> None:
    instance = await engine.start(engine.model("import os\ndef model_fn(d):\n    os._exit(7)\n"))
    assert (await instance.end()).code == 7


async def test_kill_9_is_seen_and_named(engine: Bench) -> None:
    instance = await engine.ready()
    os.kill(instance.pid, signal.SIGKILL)
    end = await instance.end()
    assert str(end) == "killed by SIGKILL"
    assert await instance.refuses()


async def test_crash_in_native_code_is_named(engine: Bench) -> None:
    instance = await engine.start(engine.model("import ctypes\ndef model_fn(d):\n    ctypes.string_at(0)\n"))
    assert str(await instance.end()) == "killed by SIGSEGV"


async def test_model_that_ignores_sigterm_is_killed_with_all_it_started(engine: Bench) -> None:
    mark = f"9{secrets.randbelow(10**9)}"
    code = f"""
import os, signal, subprocess, time
def model_fn(d):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen(["sleep", "{mark}"])
    subprocess.Popen(["sleep", "{mark}"], start_new_session=True)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execvp("sleep", ["sleep", "{mark}"])
        os._exit(0)
    time.sleep(3600)
"""
    instance = await engine.start(engine.model(code))
    await until(lambda: len(processes_that_say(mark)) == 3, "three children run")
    instance.running.terminate()
    await instance.running.kill()
    assert (await instance.end()).code == -signal.SIGKILL
    await until(lambda: not processes_that_say(mark), "all children are gone")


async def test_children_end_with_an_instance_that_is_killed_from_outside(engine: Bench) -> None:
    if engine.engine.name == "process" and not engine.cgroups.controllers:
        pytest.skip("without control groups a child with a session of its own cannot be found again")
    mark = f"9{secrets.randbelow(10**9)}"
    code = OBEDIENT + f"\nsubprocess.Popen(['sleep', '{mark}'], start_new_session=True)\n"
    instance = await engine.ready(code)
    os.kill(instance.pid, signal.SIGKILL)
    await instance.end()
    await until(lambda: not processes_that_say(mark), "the child is gone")


@needs_memory_limit
async def test_out_of_memory_is_told_from_other_kills(engine: Bench) -> None:
    instance = await engine.start(engine.model("def model_fn(d):\n    return bytearray(400 * 2**20)\n"), memory_mib=128)
    end = await instance.end()
    assert end.out_of_memory
    assert str(end) == "killed at the memory limit of the instance"


async def test_memory_beyond_the_limit_is_not_had_without_control_groups(engine: Bench) -> None:
    if "memory" in engine.cgroups.controllers:
        pytest.skip("control groups limit the memory here")
    instance = await engine.start(engine.model("def model_fn(d):\n    return bytearray(400 * 2**20)\n"), memory_mib=128)
    assert (await instance.end()).code == 1
    assert "MemoryError" in instance.log


async def test_no_control_group_is_left(engine: Bench) -> None:
    instance = await engine.ready()
    groups = Path(f"/proc/{instance.pid}/cgroup").read_text(encoding="utf-8")
    if engine.cgroups.controllers:
        assert instance.launch.instance_id in groups
    await instance.running.kill()
    await instance.end()
    pattern = f"**/moorage-test-{os.getpid()}-*/{instance.launch.instance_id}"
    await until(lambda: not list(Path("/sys/fs/cgroup").glob(pattern)), "the groups are removed")


# --- zygotes


async def test_killed_zygote_harms_no_instance_and_is_replaced(engine: Bench) -> None:
    before = await engine.ready()
    (zygote,) = engine.zygotes.pids
    family = descendants(zygote)
    os.kill(zygote, signal.SIGKILL)
    await until(lambda: not any(map(is_living, family)), "it has ended, with the bubblewrap around it")
    after = await engine.ready(name="second")
    assert (await before.ask("1"), await after.ask("2")) == ("1", "2")
    assert engine.zygotes.pids != (zygote,)


async def test_environment_that_cannot_be_loaded_says_why(engine: Bench) -> None:
    broken = Environment("broken", PYTHON, (Path(sys.base_prefix),), ("no_such_module",), ())
    with pytest.raises(LaunchFailed, match="No module named 'no_such_module'"):
        await engine.zygotes.fork(broken, 1, {}, ())
    assert engine.zygotes.pids == ()


class PatientClock:
    """Waits as long as it is told to wait, and lets a test say when that is over."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds

    async def sleep_until(self, deadline: float) -> None:
        while self.seconds < deadline:
            await asyncio.sleep(0.01)


async def test_zygote_is_ended_when_it_had_no_instance_for_a_minute(tmp_path: Path) -> None:
    clock = PatientClock()
    async with bench("process", tmp_path, clock) as made:
        instance = await made.ready()
        (zygote,) = made.zygotes.pids
        clock.seconds = 3600
        assert is_living(zygote)
        instance.running.terminate()
        await instance.end()
        assert made.zygotes.pids == (zygote,)
        clock.seconds += 60
        await until(lambda: made.zygotes.pids == (), "the zygote is ended")
        await until(lambda: not is_living(zygote), "its process is gone")


# --- what an instance cannot do in the sandbox


async def test_model_sees_no_processes_but_its_own(sandbox: Bench) -> None:
    await sandbox.ready(name="neighbour")
    instance = await sandbox.ready()
    assert await instance.ask("[name for name in os.listdir('/proc') if name.isdigit()]") == "['1']"
    assert "ProcessLookupError" in await instance.ask(f"os.kill({os.getpid()}, 0)")


async def test_model_cannot_read_other_models(sandbox: Bench) -> None:
    neighbour = await sandbox.ready(name="neighbour")
    instance = await sandbox.ready()
    assert neighbour.launch.model is not None
    assert "FileNotFoundError" in await instance.ask(f"os.listdir({str(neighbour.launch.model)!r})")
    assert "PermissionError" in await instance.ask("os.listdir('/opt/moorage/models')")
    assert "neighbour" not in await instance.ask(
        "subprocess.getoutput('find / -path /usr -prune -o -name neighbour -print 2>/dev/null')"
    )


async def test_covered_models_cannot_be_uncovered_in_a_new_user_namespace(sandbox: Bench) -> None:
    await sandbox.ready(name="neighbour")
    instance = await sandbox.ready()
    tried = await instance.ask(
        "subprocess.getoutput('unshare -Urm sh -c \"umount -l /opt/moorage/models; ls /opt/moorage/models\"')"
    )
    assert "neighbour" not in tried


async def test_model_sees_nothing_of_moorage(sandbox: Bench) -> None:
    (sandbox.folder / "state.db").write_text("secret", encoding="utf-8")
    instance = await sandbox.ready()
    for path in (sandbox.folder, sandbox.folder / "state.db", instance.launch.socket, instance.folder):
        assert "FileNotFoundError" in await instance.ask(f"os.stat({str(path)!r})")
    for name in ("/home", "/root/.ssh", "/run", "/mnt", "/etc/shadow", "/sys/fs/cgroup"):
        assert "FileNotFoundError" in await instance.ask(f"os.stat({name!r})")


async def test_model_folder_and_system_are_read_only(sandbox: Bench) -> None:
    instance = await sandbox.ready()
    for path in ("/opt/ml/model/x", "/opt/ml/model/code/x", "/usr/x", "/etc/x", "/x", "/dev/x"):
        assert "Errno 30" in await instance.ask(f"open({path!r}, 'a')")
    assert await instance.ask("os.access('/opt/ml/model/code/inference.py', os.W_OK)") == "False"


async def test_temporary_folders_are_the_instances_own(sandbox: Bench) -> None:
    neighbour, instance = await sandbox.ready(name="neighbour"), await sandbox.ready()
    for folder in ("/tmp", "/dev/shm"):
        assert await neighbour.ask(f"Path({folder!r}, 'mine').write_text('x')") == "1"
        assert await instance.ask(f"os.listdir({folder!r})") == "[]"


async def test_model_has_no_privileges_and_can_get_none(sandbox: Bench) -> None:
    instance = await sandbox.ready()
    status = dict(
        line.split(":\t", 1) for line in eval(await instance.ask("Path('/proc/self/status').read_text()")).splitlines()
    )
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    assert await instance.ask("os.getuid()") != "0"
    assert "Error" in await instance.ask("os.setuid(0)")


async def test_user_has_a_name_and_the_machine_too(sandbox: Bench) -> None:
    instance = await sandbox.ready()
    assert await instance.ask("__import__('pwd').getpwuid(os.getuid()).pw_name") == "'model'"
    assert await instance.ask("socket.gethostbyname(socket.gethostname())") == "'127.0.0.1'"


@needs_root
async def test_each_instance_is_a_user_of_its_own(sandbox: Bench) -> None:
    first, second = await sandbox.ready(name="first"), await sandbox.ready(name="second")
    uids = {await instance.ask("os.getuid()") for instance in (first, second)}
    assert len(uids) == 2
    for instance in (first, second):
        assert Path(f"/proc/{instance.pid}").stat().st_uid == int(await instance.ask("os.getuid()"))


async def test_environment_below_tmp_stays_visible_in_the_private_tmp(sandbox: Bench) -> None:
    package = sandbox.folder / "packages"
    package.mkdir()
    (package / "extra.py").write_text("answer = 42\n", encoding="utf-8")
    above = Environment("above", PYTHON, (Path(sys.base_prefix), package), (), ())
    model = sandbox.model(f"import sys\nsys.path.append({str(package)!r})\n{OBEDIENT}\nimport extra\n")
    instance = await sandbox.start(model, environment=above)
    await instance.is_ready()
    assert await instance.ask("extra.answer") == "42"


async def test_installer_sees_what_its_command_names_and_nothing_else(sandbox: Bench) -> None:
    target, source = sandbox.folder / "target", sandbox.folder / "source"
    target.mkdir()
    source.mkdir()
    (sandbox.folder / "state.db").write_text("secret", encoding="utf-8")
    look = f"import os; print(os.listdir({str(sandbox.folder)!r}), os.getpid()); open({str(target / 'made')!r}, 'w')"
    command = Command((str(PYTHON), "-Ic", look), source, (target,), (source, Path(sys.base_prefix)), {})
    said: list[str] = []
    installer = Installer(shutil.which("bwrap") or "bwrap", scratch=sandbox.folder / "sandbox")
    assert await installer.run(command, said.append) == 0, said
    assert eval(said[0].rpartition(" ")[0]) in (["target", "source"], ["source", "target"])
    assert (target / "made").exists()


async def test_installer_leaves_no_dead_process_behind(sandbox: Bench) -> None:
    (target := sandbox.folder / "target").mkdir()
    command = Command((str(PYTHON), "-Ic", "pass"), target, (target,), (Path(sys.base_prefix),), {})
    installer = Installer(shutil.which("bwrap") or "bwrap", scratch=sandbox.folder / "sandbox")
    before = {entry.pid for entry in read_processes()}
    for _ in range(5):
        assert await installer.run(command, lambda _: None) == 0
    assert [entry for entry in read_processes() if entry.parent == os.getpid() and entry.pid not in before] == []


# --- an ordinary user


@pytest.mark.slow  # runs this file once more
@pytest.mark.timeout(300)
@needs_root
@needs_sandbox
def test_all_this_holds_for_an_ordinary_user(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, ORDINARY_UID, ORDINARY_UID)
    tests = Path(__file__).parents[1]
    command = [
        *as_ordinary_user(tests.parent, Path(sys.prefix), Path(sys.base_prefix), home),
        *("env", f"HOME={home}", sys.executable, "-m", "pytest", "-q"),
        *("-p", "no:cacheprovider", "-n", "0", f"--basetemp={home}/t", __file__),
    ]
    said = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tests.parent)
    assert said.returncode == 0, said.stdout + said.stderr


ORDINARY_UID = 54_321


def as_ordinary_user(*needed: Path) -> list[str]:
    """Make the beginning of a command that runs as an ordinary user who can reach the given folders.

    They may lie below folders that are root's alone: those are covered, in a mount namespace of its own.
    """
    closed = {next(iter(parents)) for path in needed if (parents := _closed_parents(path))}
    words = ["bwrap", "--dev-bind", "/", "/"]
    for folder in closed:
        words += ["--perms", "0755", "--tmpfs", str(folder)]
    made: set[Path] = set()
    for path in sorted(needed):
        for parent in reversed(path.parents):
            if parent not in made and any(parent.is_relative_to(folder) and parent != folder for folder in closed):
                made.add(parent)
                words += ["--perms", "0755", "--dir", str(parent)]
        words += ["--bind", str(path), str(path)]
    for capability in ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"):
        words += ["--cap-add", capability]
    identity = ("--reuid", str(ORDINARY_UID), "--regid", str(ORDINARY_UID), "--clear-groups")
    return [*words, "setpriv", *identity, "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]


def _closed_parents(path: Path) -> list[Path]:
    return [parent for parent in reversed(path.parents) if not parent.stat().st_mode & 0o001]
