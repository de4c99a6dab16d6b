"""The life of an instance on every engine: it starts, answers, ends well or badly; the warm process behind it."""

import os
import secrets
import signal
import sys
from pathlib import Path

import pytest
from tests.support.engines import (
    OBEDIENT,
    PYTHON,
    Bench,
    PatientClock,
    bench,
    is_living,
    processes_that_say,
    until,
)
from tests.support.machine import MACHINE
from tests.support.product import descendants

from moorage.engine.environments import Environment
from moorage.engine.launch import LaunchFailed
from moorage.engine.trees import read_processes

needs_sandbox = pytest.mark.skipif(bool(MACHINE.sandbox_fault), reason=f"no sandbox: {MACHINE.sandbox_fault}")

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
        assert (await instance.end()).code in {0, -signal.SIGTERM}


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


@pytest.mark.promise("ends-whole")
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


@pytest.mark.promise("ends-whole")
async def test_children_end_with_an_instance_that_is_killed_from_outside(engine: Bench) -> None:
    mark = f"9{secrets.randbelow(10**9)}"
    code = OBEDIENT + f"\nsubprocess.Popen(['sleep', '{mark}'], start_new_session=True)\n"
    instance = await engine.ready(code)
    os.kill(instance.pid, signal.SIGKILL)
    await instance.end()
    await until(lambda: not processes_that_say(mark), "the child is gone")


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
        await engine.zygotes.fork(broken, 1)
    assert engine.zygotes.pids == ()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("sandbox", marks=pytest.mark.skipif(bool(MACHINE.sandbox_fault), reason=MACHINE.sandbox_fault)),
        "process",
    ],
)
async def test_zygote_is_ended_when_it_had_no_instance_for_a_minute(name: str, tmp_path: Path) -> None:
    clock = PatientClock()
    async with bench(name, tmp_path, clock) as made:
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
        await until(lambda: not _session_of(zygote), "nothing of it waits for somebody to take note of its end")


def _session_of(leader: int) -> list[int]:
    return [entry.pid for entry in read_processes() if entry.session == leader]
