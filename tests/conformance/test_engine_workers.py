"""Several workers in one instance: what the engine sees of them."""

import contextlib
from collections.abc import Callable

import pytest
from tests.support.engines import OBEDIENT, Bench, Instance, until

WORKERS = {"SAGEMAKER_MODEL_SERVER_WORKERS": "2"}


async def _ready(engine: Bench, memory_mib: int = 256) -> Instance:
    instance = await engine.start(engine.model(OBEDIENT), memory_mib=memory_mib, variables=WORKERS)
    return await instance.is_ready()


async def _ask_until_it_ends(instance: Instance, what: str) -> None:
    for _ in range(20):
        with contextlib.suppress(ConnectionError, TimeoutError):
            await instance.ask(what)
        if instance.running.ended.done():
            return


def _deaths(instance: Instance) -> Callable[[], bool]:
    return lambda: "has ended" in instance.log


async def test_workers_share_the_model_and_the_instance(engine: Bench) -> None:
    instance = await _ready(engine)
    seen = {await instance.ask("(os.getpid(), os.getppid(), os.getuid())") for _ in range(20)}
    assert len({answer.split(", ", 1)[1] for answer in seen}) == 1


async def test_worker_that_crashes_is_replaced_and_the_instance_goes_on(engine: Bench) -> None:
    instance = await _ready(engine)
    with contextlib.suppress(ConnectionError):
        await instance.ask("os.kill(os.getpid(), signal.SIGKILL)")
    await until(_deaths(instance), "the worker's end is in the log")
    assert await instance.ask("6 * 7") == "42"
    assert not instance.running.ended.done()


@pytest.mark.parametrize(
    ("crash", "said"),
    [
        ("__import__('ctypes').string_at(0)", "killed by SIGSEGV"),
        ("os._exit(7)", "ended with exit code 7"),
    ],
)
async def test_workers_that_crash_again_and_again_end_the_instance_as_the_last_did(
    engine: Bench, crash: str, said: str
) -> None:
    instance = await _ready(engine)
    await _ask_until_it_ends(instance, crash)
    assert str(await instance.end()) == said


@pytest.mark.promise("memory")
async def test_workers_that_take_too_much_memory_again_and_again_have_run_out_of_it(engine: Bench) -> None:
    if "memory" not in engine.cgroups.controllers:
        pytest.skip("no control group limits the memory here")
    instance = await _ready(engine, memory_mib=128)
    await _ask_until_it_ends(instance, "len(bytearray(400 * 2**20))")
    end = await instance.end()
    assert (end.out_of_memory, str(end)) == (True, "killed at the memory limit of the instance")


async def test_stop_ends_all_workers(engine: Bench) -> None:
    instance = await _ready(engine)
    instance.running.terminate()
    assert (await instance.end()).code == 0
    assert await instance.refuses()
