"""Shadow copies and data capture through a whole gateway: what clients see, and what is in the bucket."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from tests.support.capture import BUCKET, CAPTURE, inputs_of, records
from tests.support.gateway import (
    ACCOUNT,
    Answer,
    Request,
    Script,
    World,
    answers,
    cuts,
    endpoint,
    hangs,
    read_answer,
    says,
    snapshot,
    until,
    variant,
    world,
)
from tests.support.objects import store_in

from moorage.objects.folder import FolderStore

OK = answers(b"0.5", headers="Content-Type: text/csv; charset=utf-8\r\n")


@contextlib.asynccontextmanager
async def bucket(made: World) -> AsyncIterator[FolderStore]:
    store = store_in(made.settings.data_dir)
    await store.create_bucket(BUCKET, account=ACCOUNT, region="us-east-1")
    try:
        yield store
    finally:
        await asyncio.to_thread(store.close)


async def endless(_: Request, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
        await writer.drain()


async def invoke_often(made: World, times: int) -> tuple[list[Answer], float]:
    """Invoke one after the other; gives the answers and the median of the seconds."""
    found, seconds = [], []
    async with made.connected() as (reader, writer):
        for _ in range(times):
            before = time.perf_counter()
            writer.write(made.invocation("ep", b"1,2", content_type="text/csv"))
            found.append(await asyncio.wait_for(read_answer(reader), 5))
            seconds.append(time.perf_counter() - before)
    return found, sorted(seconds)[times // 2]


async def test_a_captured_invocation_and_its_shadow_copy_are_in_the_bucket() -> None:
    async with world() as made, bucket(made) as store:
        first, dark = await made.instance("a", OK), await made.instance("b", answers(b"0.7"))
        await made.start(
            replace(endpoint("ep", variant("v1", first)), shadows=(variant("dark", dark),), capture=CAPTURE)
        )
        answer = await made.invoke(
            "ep",
            b"1,2",
            content_type="text/csv",
            x_amzn_sagemaker_inference_id="my-id",
            x_amzn_sagemaker_custom_attributes="k=v",
        )
        await until(lambda: dark.requests)
        await made.stop_gateway()
        (production,) = await records(store, "data/ep/v1/")
        (shadow,) = await records(store, "data/ep/dark/")
    assert (answer.body, answer.headers["x-amzn-invoked-production-variant"]) == (b"0.5", "v1")
    sent = [
        (one.line, [h for h in one.headers if h[0] != "Host"], one.body) for one in (*first.requests, *dark.requests)
    ]
    assert sent[0] == sent[1]
    output = production["captureData"]["endpointOutput"]
    assert output["observedContentType"] == "text/csv; charset=utf-8"
    assert (output["data"], output["encoding"]) == ("0.5", "CSV")
    assert shadow["captureData"]["endpointInput"] == production["captureData"]["endpointInput"]
    assert shadow["captureData"]["endpointOutput"] == {"mode": "OUTPUT", "data": "MC43", "encoding": "BASE64"}
    metadata = (production["eventMetadata"], shadow["eventMetadata"])
    assert [(one["inferenceId"], one["customAttributes"]) for one in metadata] == [("my-id", ["k=v"])] * 2
    assert metadata[0]["eventId"] != metadata[1]["eventId"]


async def test_a_model_error_is_not_captured() -> None:
    async with world() as made, bucket(made) as store:
        server = await made.instance("a", answers(b"bad", 500), OK)
        await made.start(replace(endpoint("ep", variant("v1", server)), capture=CAPTURE))
        assert [(await made.invoke("ep", body)).status for body in (b"1", b"2")] == [424, 200]
        await made.stop_gateway()
        assert len(await records(store)) == 1


async def test_captures_are_delivered_when_the_endpoint_is_deleted() -> None:
    async with world(capture_flush_seconds=0.05) as made, bucket(made) as store:
        server = await made.instance("a", OK)
        await made.start(replace(endpoint("ep", variant("v1", server)), capture=CAPTURE))
        await made.invoke("ep", b"1,2", content_type="text/csv")
        await made.control.publish(snapshot(2))
        found: list[str] = []
        deadline = time.monotonic() + 10
        while not found and time.monotonic() < deadline:
            found = inputs_of(await records(store))
    assert found == ["1,2"]


@pytest.mark.parametrize(
    "script",
    [
        hangs,
        endless,
        answers(b"bad", 500),
        answers(b"x" * 5_000_000),
        says(b"garbage\r\n\r\n"),
        says(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"),
        cuts(b""),
    ],
    ids=["hangs", "endless", "error", "huge", "garbage", "claims too much", "closes"],
)
async def test_nothing_that_a_shadow_does_reaches_the_client(script: Script) -> None:
    async with world() as made:
        first, dark = await made.instance("a", OK), await made.instance("b", script)
        await made.start(replace(endpoint("ep", variant("v1", first)), shadows=(variant("dark", dark),)))
        found, median = await invoke_often(made, 100)
        await until(lambda: dark.requests)
    assert {(one.status, one.body) for one in found} == {(200, b"0.5")}
    assert len(first.requests) == 100
    assert median < 0.05


async def test_a_dead_shadow_does_not_reach_the_client_and_is_reported_seldom() -> None:
    async with world() as made:
        first, dark = await made.instance("a", OK), await made.instance("b", OK)
        await dark.kill()
        await made.start(replace(endpoint("ep", variant("v1", first)), shadows=(variant("dark", dark),)))
        found, _ = await invoke_often(made, 200)
        reports = len(made.control.said("unreachable"))
    assert {one.status for one in found} == {200}
    assert 1 <= reports <= 3
