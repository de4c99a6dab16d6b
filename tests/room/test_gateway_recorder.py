"""The recorder: a sample of the invocations ends in the bucket, whatever store and disk do, and nobody waits for it."""

import asyncio
import logging
import statistics
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.capture import (
    BUCKET,
    CAPTURE,
    FailingStore,
    captured_endpoint,
    inputs_of,
    make_recorder,
    make_store,
    objects,
    offer,
    payload,
    records,
    routing,
    spooled,
)
from tests.support.gateway import ACCOUNT, until

from moorage.base.tasks import Tasks
from moorage.gateway.capture import recorder as recorder_module
from moorage.gateway.capture.files import Captured
from moorage.gateway.capture.recorder import QUEUE_BYTES, QUEUE_RECORDS, Recorder
from moorage.routing.snapshot import Capture
from moorage.telemetry.capture import RECORD_BYTES

EP = captured_endpoint()
SOON = {"capture_flush_seconds": 0.05, "capture_file_seconds": 0.05}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FailingStore]:
    made = await make_store(tmp_path)
    yield made
    await asyncio.to_thread(made.close)


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    made = Tasks()
    yield made
    await made.close()


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moorage.gateway.capture.delivery.FIRST_DELAY_SECONDS", 0.01)


def started(recorder: Recorder, tasks: Tasks) -> Recorder:
    recorder.start(tasks)
    recorder.apply(routing(EP))
    return recorder


@pytest.mark.parametrize(("percentage", "least", "most"), [(0.0, 0, 0), (20.0, 880, 1120), (100.0, 5000, 5000)])
async def test_the_sample_is_as_large_as_asked_for(
    tmp_path: Path, store: FailingStore, percentage: float, least: int, most: int
) -> None:
    recorder = make_recorder(tmp_path, store)
    sampled = captured_endpoint(capture=replace(CAPTURE, percentage=percentage))
    assert least <= sum(recorder.samples(sampled) for _ in range(5000)) <= most
    assert not recorder.samples(captured_endpoint(capture=None))


async def test_what_was_offered_is_in_the_bucket_when_the_gateway_has_stopped(
    tmp_path: Path, store: FailingStore, tasks: Tasks
) -> None:
    recorder = started(make_recorder(tmp_path, store, capture_file_records=1_000), tasks)
    for number in range(2_500):
        offer(recorder, EP, str(number).encode(), variant=f"v{number % 2}")
    await recorder.close()
    found = await objects(store)
    assert inputs_of(await records(store)) == sorted(map(str, range(2_500)))
    assert {key.rpartition("-")[0][:31] for key in found} == {
        "data/ep/v0/2023/11/14/22/13-20-",
        "data/ep/v1/2023/11/14/22/13-20-",
    }
    assert sorted(body.count(b"\n") for body in found.values()) == [250, 250, 1000, 1000]
    assert spooled(tmp_path) == []
    assert not (tmp_path / "spool" / "capture").exists() or list((tmp_path / "spool" / "capture").iterdir()) == []


async def test_an_old_file_is_in_the_bucket_while_the_gateway_runs(
    tmp_path: Path, store: FailingStore, tasks: Tasks
) -> None:
    recorder = started(make_recorder(tmp_path, store, **SOON), tasks)
    offer(recorder, EP)
    await until(lambda: recorder.counts()["files_delivered"])
    assert inputs_of(await records(store)) == ["1,2"]
    await recorder.close()


@pytest.mark.parametrize("then", [None, replace(CAPTURE, percentage=1.0)])
async def test_a_file_is_delivered_when_its_endpoint_or_its_configuration_has_gone(
    tmp_path: Path, store: FailingStore, tasks: Tasks, then: Capture | None
) -> None:
    recorder = started(make_recorder(tmp_path, store, capture_flush_seconds=0.05), tasks)
    offer(recorder, EP)
    await until(lambda: recorder.counts()["recorded"])
    recorder.apply(routing() if then is None else routing(replace(EP, capture=then)))
    await until(lambda: recorder.counts()["files_delivered"])
    assert inputs_of(await records(store)) == ["1,2"]
    await recorder.close()


async def test_the_sides_that_are_not_captured_are_absent(tmp_path: Path, store: FailingStore, tasks: Tasks) -> None:
    recorder = started(make_recorder(tmp_path, store), tasks)
    offer(recorder, captured_endpoint(capture=replace(CAPTURE, inputs=False)))
    await recorder.close()
    (record,) = await records(store)
    assert list(record["captureData"]) == ["endpointOutput"]


async def test_attributes_and_inference_id_are_recorded(tmp_path: Path, store: FailingStore, tasks: Tasks) -> None:
    recorder = started(make_recorder(tmp_path, store), tasks)
    sides = (payload(b"1"), payload(b"2", None))
    recorder.offer(EP, "v1", *sides, at=1_700_000_000.0, custom_attributes="k=v", inference_id="my-id")
    await recorder.close()
    (record,) = await records(store)
    metadata = record["eventMetadata"]
    assert (metadata["customAttributes"], metadata["inferenceId"]) == (["k=v"], "my-id")
    assert metadata["inferenceTime"] == "2023-11-14T22:13:20Z"
    assert record["captureData"]["endpointOutput"] == {"mode": "OUTPUT", "data": "Mg==", "encoding": "BASE64"}


@pytest.mark.usefixtures("quick_retries")
async def test_a_store_that_fails_half_the_time_has_each_record_once(
    tmp_path: Path, store: FailingStore, tasks: Tasks
) -> None:
    store.fails_every_second = True
    recorder = started(make_recorder(tmp_path, store, capture_file_records=10, **SOON), tasks)
    for number in range(100):
        offer(recorder, EP, str(number).encode())
    await until(lambda: recorder.counts()["files_delivered"] >= 10, 30)
    counts = recorder.counts()
    await recorder.close()
    assert (counts["delivery_failures"] >= 10, counts["files_waiting"]) == (True, 0)
    assert inputs_of(await records(store)) == sorted(map(str, range(100)))
    assert len(await objects(store)) == counts["files_delivered"]


async def test_a_blocked_store_slows_nobody_down_and_what_does_not_fit_is_counted(
    tmp_path: Path, store: FailingStore, tasks: Tasks
) -> None:
    store.unblocked.clear()
    limits = {"capture_spool_bytes": 200_000, "capture_file_records": 50, **SOON}
    recorder = started(make_recorder(tmp_path, store, **limits), tasks)
    body, seconds = b"x" * 1_000, []
    for _ in range(1_000):
        before = time.perf_counter()
        offer(recorder, EP, body)
        seconds.append(time.perf_counter() - before)
        await asyncio.sleep(0)
    await until(lambda: recorder.counts()["waiting"] == 0)
    counts = recorder.counts()
    assert statistics.median(seconds) < 0.000_2
    assert counts["recorded"] + counts["dropped_spool_full"] == 1_000
    assert counts["dropped_spool_full"] > 500
    assert sum(path.stat().st_size for path in spooled(tmp_path)) < 250_000
    store.unblocked.set()
    await recorder.close()
    assert len(await records(store)) == counts["recorded"]


async def test_a_blocked_disk_slows_nobody_down_and_memory_is_bounded(tmp_path: Path, store: FailingStore) -> None:
    recorder = make_recorder(tmp_path, store)  # its thread has not begun: so it is when the disk has it
    for _ in range(QUEUE_RECORDS + 10):
        offer(recorder, EP)
    assert recorder.counts()["dropped_queue_full"] == 10
    large = make_recorder(tmp_path, store)
    for _ in range(20):
        offer(large, EP, b"x" * 8_000_000)
    counts = large.counts()
    assert (counts["waiting"], counts["dropped_queue_full"]) == (8, 12)
    assert counts["waiting_bytes"] <= QUEUE_BYTES


async def test_a_record_that_is_too_large_is_dropped_and_counted(tmp_path: Path, store: FailingStore) -> None:
    recorder = make_recorder(tmp_path, store)
    offer(recorder, EP, b"x" * RECORD_BYTES)
    recorder.miss()
    counts = recorder.counts()
    assert (counts["offered"], counts["dropped_too_large"], counts["waiting"]) == (2, 2, 0)


async def test_nothing_is_taken_after_the_end(tmp_path: Path, store: FailingStore, tasks: Tasks) -> None:
    recorder = started(make_recorder(tmp_path, store), tasks)
    await recorder.close()
    offer(recorder, EP)
    assert recorder.counts()["dropped_queue_full"] == 1


@pytest.mark.usefixtures("quick_retries")
@pytest.mark.parametrize("owner", [None, "999999999999"])
async def test_a_bucket_that_is_not_the_account_s_is_tried_again_and_holds_up_nobody_else(
    tmp_path: Path, store: FailingStore, tasks: Tasks, caplog: pytest.LogCaptureFixture, owner: str | None
) -> None:
    if owner is not None:
        await store.create_bucket("missing", account=owner, region="us-east-1")
    lost = captured_endpoint("lost", replace(CAPTURE, destination="s3://missing"))
    recorder = started(make_recorder(tmp_path, store, **SOON), tasks)
    recorder.apply(routing(EP, lost))
    with caplog.at_level(logging.WARNING, "moorage"):
        offer(recorder, lost)
        await until(lambda: recorder.counts()["delivery_refusals"] >= 3)
        offer(recorder, EP)
        await until(lambda: recorder.counts()["files_delivered"] == 1)
    assert len([one for one in caplog.records if "bucket missing" in one.message]) == 1
    if owner is not None:
        await store.delete_bucket("missing")
    await store.create_bucket("missing", account=ACCOUNT, region="us-east-1")
    await until(lambda: recorder.counts()["files_delivered"] == 2)
    await recorder.close()
    assert [info.key.split("/")[0] for info in (await store.list("missing")).objects] == ["lost"]


async def test_drops_are_told_in_the_log_but_not_often(
    tmp_path: Path, store: FailingStore, tasks: Tasks, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = started(make_recorder(tmp_path, store, capture_spool_bytes=0, **SOON), tasks)
    with caplog.at_level(logging.WARNING, "moorage"):
        for number in range(1, 6):
            offer(recorder, EP)
            wanted = number
            await until(lambda: recorder.counts()["dropped_spool_full"] == wanted)  # noqa: B023
        await recorder.close()
    told = [one.message for one in caplog.records if "were dropped" in one.message]
    assert told == ["captured invocations were dropped: {'dropped_spool_full': 1}"]


async def test_a_record_that_cannot_be_made_is_counted_and_the_others_are_recorded(
    tmp_path: Path, store: FailingStore, tasks: Tasks, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = started(make_recorder(tmp_path, store, **SOON), tasks)
    recorder.offer(EP, "v1", payload(b"1"), payload(b"2"), at=float("nan"))
    offer(recorder, EP)
    await recorder.close()
    assert inputs_of(await records(store)) == ["1,2"]
    assert (recorder.counts()["dropped_failed"], recorder.dropped) == (1, 1)
    assert "a captured invocation could not be recorded" in caplog.text


async def test_its_repr_tells_how_it_goes(tmp_path: Path, store: FailingStore) -> None:
    recorder = make_recorder(tmp_path, store)
    offer(recorder, EP)
    assert repr(recorder) == "<Recorder: 1 waiting, 1006 bytes, 1 offered, 0 recorded, 0 dropped>"


async def test_bodies_are_not_copied(tmp_path: Path, store: FailingStore) -> None:
    recorder = make_recorder(tmp_path, store)
    inputs = payload(b"x" * 1_000_000)
    recorder.offer(EP, "v1", inputs, inputs, at=1.0)
    (waiting,) = recorder._queue
    assert isinstance(waiting, Captured)
    assert waiting.inputs is inputs


async def test_the_thread_rests_between_slices(tmp_path: Path, store: FailingStore, tasks: Tasks) -> None:
    """However much there is to record, it never holds the interpreter for longer than a slice."""
    recorder = make_recorder(tmp_path, store)
    rests, offered = 0, threading.Event()

    class Counting:
        def wait(self, seconds: float) -> None:
            nonlocal rests
            rests += 1
            assert offered.wait(30)  # so that all that is offered waits in one queue
            assert seconds == recorder_module.REST_SECONDS

    recorder._rest = Counting()  # type: ignore[assignment]
    started(recorder, tasks)
    offer(recorder, EP, b"x" * 5_000_000)
    for _ in range(160):
        offer(recorder, EP)
    offered.set()
    await recorder.close()
    assert rests >= 5_000_000 // recorder_module.SLICE_BYTES // 2 + 9


def test_the_bucket_of_the_tests_is_the_configuration_s() -> None:
    assert CAPTURE.destination == f"s3://{BUCKET}/data"
