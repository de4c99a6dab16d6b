"""Kill -9 of processes that record: what they had written is delivered by the next one, once."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.capture import (
    FailingStore,
    captured_endpoint,
    inputs_of,
    make_recorder,
    make_store,
    offer,
    records,
    routing,
    spooled,
)
from tests.support.gateway import until

from moorage.base.tasks import Tasks

GATEWAY = """
import asyncio, sys
from pathlib import Path
from tests.support.capture import FailingStore, captured_endpoint, make_recorder, offer, routing
from moorage.base.tasks import Tasks

async def main(folder, first, most):
    store = FailingStore(folder / "objects")
    store.unblocked.clear()
    recorder = make_recorder(folder, store, capture_flush_seconds=0.05, capture_file_records=200)
    recorder.start(Tasks())
    ep = captured_endpoint()
    recorder.apply(routing(ep))
    for number in range(first, first + most):
        offer(recorder, ep, str(number).encode(), variant=f"v{number % 2}")
        await asyncio.sleep(0.0005)
    await asyncio.sleep(3600)

asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
"""


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FailingStore]:
    made = await make_store(tmp_path)
    yield made
    await asyncio.to_thread(made.close)


@contextlib.asynccontextmanager
async def gateway(folder: Path, first: int, most: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a process that offers numbered invocations to its recorder."""
    root = Path(__file__).parents[2]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", GATEWAY, str(folder), str(first), str(most), cwd=root
    )
    try:
        yield process
    finally:
        await kill(process)


async def kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGKILL)
    await process.wait()


def whole_lines(folder: Path) -> int:
    return sum(max(0, path.read_bytes().count(b"\n") - 1) for path in spooled(folder))


async def deliver_all(folder: Path, store: FailingStore, left: int = 0) -> list[str]:
    """Let the next gateway run until so many files are left, and give the inputs of all records."""
    tasks = Tasks()
    recorder = make_recorder(folder, store)
    recorder.start(tasks)
    await until(lambda: len(spooled(folder)) == left and recorder.counts()["files_adopted"])
    await recorder.close()
    await tasks.close()
    return inputs_of(await records(store))


async def test_what_is_older_than_the_flush_survives_kill_9(tmp_path: Path, store: FailingStore) -> None:
    async with gateway(tmp_path, 0, 100) as process:
        await until(lambda: whole_lines(tmp_path) == 100, 30)
        await kill(process)
    assert await deliver_all(tmp_path, store) == sorted(map(str, range(100)))


async def test_a_process_killed_while_it_writes_loses_the_last_moment_alone(
    tmp_path: Path, store: FailingStore
) -> None:
    async with gateway(tmp_path, 0, 100_000) as process:
        await until(lambda: whole_lines(tmp_path) >= 1_000, 30)
        await kill(process)
    survived = whole_lines(tmp_path)
    for path in spooled(tmp_path):
        with path.open("ab") as file:
            file.write(b'{"captureData":{"endpointInput":{"data":"torn')
    found = await deliver_all(tmp_path, store)
    evens, odds = (sorted(int(one) for one in found if int(one) % 2 == parity) for parity in (0, 1))
    assert (evens, odds) == (list(range(0, 2 * len(evens), 2)), list(range(1, 2 * len(odds), 2)))
    assert len(found) == survived


async def test_a_process_killed_between_the_upload_and_its_note_uploads_the_same_again(
    tmp_path: Path, store: FailingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(tmp_path, 0, 50) as process:
        await until(lambda: whole_lines(tmp_path) == 50, 30)
        await kill(process)
    monkeypatch.setattr("moorage.gateway.capture.delivery.FIRST_DELAY_SECONDS", 0.01)
    store.fails_every_second = True
    assert await deliver_all(tmp_path, store) == sorted(map(str, range(50)))
    assert len((await store.list("captures")).objects) == 2


async def test_several_gateways_record_at_once_and_the_living_inherit_from_the_dead(
    tmp_path: Path, store: FailingStore
) -> None:
    async with gateway(tmp_path, 0, 100) as first, gateway(tmp_path, 100, 100) as second:
        tasks = Tasks()
        living = make_recorder(tmp_path, store, capture_flush_seconds=0.05)
        living.start(tasks)
        living.apply(routing(captured_endpoint()))
        for number in range(200, 300):
            offer(living, captured_endpoint(), str(number).encode())
        await until(lambda: whole_lines(tmp_path) == 300, 30)
        await living.close()
        await tasks.close()
        assert inputs_of(await records(store)) == sorted(map(str, range(200, 300)))
        await kill(first)
        assert await deliver_all(tmp_path, store, left=2) == sorted(map(str, [*range(100), *range(200, 300)]))
        await kill(second)
    assert await deliver_all(tmp_path, store) == sorted(map(str, range(300)))
