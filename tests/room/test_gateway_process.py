"""The gateway as a process of its own (uvloop), with boto3 in front of it."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from tests.support.gateway import (
    KEY,
    REGION,
    Request,
    World,
    answers,
    endpoint,
    hangs,
    read_answer,
    snapshot,
    until,
    variant,
    world,
)

from moorage.base import link

START = """
import socket, sys
from pathlib import Path
from moorage.base.settings import Settings
from moorage.gateway.process import run
run(Settings(data_dir=Path(sys.argv[1]), run_dir=Path(sys.argv[2])), socket.socket(fileno=int(sys.argv[3])))
"""


async def spawn(made: World, listening: socket.socket) -> asyncio.subprocess.Process:
    number = listening.fileno()
    folders = (str(made.settings.data_dir), str(made.settings.run_dir))
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", START, *folders, str(number), pass_fds=[number], stderr=asyncio.subprocess.DEVNULL
    )


@contextlib.asynccontextmanager
async def running(made: World, *endpoints: Any) -> AsyncIterator[tuple[socket.socket, asyncio.subprocess.Process]]:
    """Run a gateway that routes by these endpoints."""
    made.control.snapshot = snapshot(1, *endpoints)
    links = await link.listen(made.control.path, made.control.serve)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        made.port = listening.getsockname()[1]
        process = await spawn(made, listening)
        try:
            await until(lambda: made.control.said("applied"))
            yield listening, process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            links.close()


def client(service: str, port: int, **config: Any) -> Any:
    return boto3.client(
        service,
        region_name=REGION,
        endpoint_url=f"http://127.0.0.1:{port}",
        aws_access_key_id=KEY.access_key_id,
        aws_secret_access_key=KEY.secret_access_key,
        config=Config(retries={"total_max_attempts": 1}, **config),
    )


async def test_boto3_invokes_and_sees_errors_as_aws_s() -> None:
    async with world() as made:
        server = await made.instance("a", answers(b"0.5", headers="Content-Type: text/csv\r\n"), answers(b"bad", 400))
        async with running(made, endpoint("ep", variant("v1", server))):
            runtime = client("sagemaker-runtime", made.port)

            def calls() -> tuple[Any, ClientError, ClientError]:
                good = runtime.invoke_endpoint(
                    EndpointName="ep", Body=b"1,2", ContentType="text/csv", Accept="text/csv"
                )
                good["Body"] = good["Body"].read()
                with pytest.raises(runtime.exceptions.ModelError) as model_error:
                    runtime.invoke_endpoint(EndpointName="ep", Body=b"1,2")
                with pytest.raises(runtime.exceptions.ValidationError) as validation_error:
                    runtime.invoke_endpoint(EndpointName="none", Body=b"")
                return good, model_error.value, validation_error.value

            good, model_error, validation_error = await asyncio.to_thread(calls)
    assert (good["Body"], good["ContentType"], good["InvokedProductionVariant"]) == (b"0.5", "text/csv", "v1")
    assert (model_error.response["OriginalStatusCode"], model_error.response["OriginalMessage"]) == (400, "bad")
    assert model_error.response["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert validation_error.response["Error"]["Message"].endswith("not found.")


async def test_weights_split_the_traffic_and_target_variant_overrides_them() -> None:
    async with world() as made:
        first, second = await made.instance("a", answers(b"a")), await made.instance("b", answers(b"b"))
        async with running(made, endpoint("ep", variant("v1", first, weight=3), variant("v2", second))):
            async with made.connected() as (reader, writer):
                seen: Counter[bytes] = Counter()
                for _ in range(600):
                    writer.write(made.invocation("ep"))
                    seen[(await read_answer(reader)).body] += 1
            targeted = await made.invoke("ep", x_amzn_sagemaker_target_variant="v2")
    assert 390 < seen[b"a"] < 510  # six standard deviations around 450
    assert targeted.body == b"b"


async def test_boto3_puts_an_object_through_the_relay() -> None:
    received = bytearray()

    async def stores(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert request.header("expect") == "100-continue"
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        received.extend(await reader.readexactly(int(request.header("content-length") or 0)))
        writer.write(b'HTTP/1.1 200 OK\r\nETag: "x"\r\nContent-Length: 0\r\n\r\n')

    async with world() as made:
        neighbours = await made.owner("neighbours", stores)
        neighbours.reads_bodies = False
        async with running(made):
            s3 = client("s3", made.port, s3={"addressing_style": "path"})
            body = os.urandom(5_000_000)
            put = await asyncio.to_thread(s3.put_object, Bucket="b", Key="k", Body=body)
    assert put["ETag"] == '"x"'
    assert bytes(received) == body


async def test_hundreds_of_concurrent_invocations_of_one_instance_all_succeed() -> None:
    """Its queue of connections holds fewer: what does not fit is dialled again."""
    async with world() as made:
        server = await made.instance("a", answers(b"ok"))
        async with running(made, endpoint("ep", variant("v1", server))):
            statuses = Counter(
                answer.status for answer in await asyncio.gather(*(made.invoke("ep") for _ in range(400)))
            )
    assert statuses == {200: 400}


async def test_killed_gateway_is_replaced_and_goes_on_from_the_snapshot_on_disk() -> None:
    async with world() as made:
        server = await made.instance("a", answers(b"ok"))
        last = snapshot(1, endpoint("ep", variant("v1", server)))
        (made.settings.data_dir / "snapshot.json").write_text(json.dumps(last.to_message()))
        async with running(made, endpoint("ep", variant("v1", server))) as (listening, process):
            process.send_signal(signal.SIGKILL)
            await process.wait()
            for opened in list(made.control.links):
                await opened.close()
            made.control.path.unlink()
            waiting = made.tasks.start("invocation", made.invoke("ep"))  # in the socket's queue until somebody accepts
            replacement = await spawn(made, listening)
            try:
                assert (await waiting).body == b"ok"
            finally:
                replacement.kill()
                await replacement.wait()


async def test_gateway_serves_nobody_before_the_control_plane_that_takes_its_call_has_spoken() -> None:
    async with world() as made:
        server = await made.instance("a", answers(b"ok"))
        last = snapshot(1, endpoint("ep", variant("old", server)))
        (made.settings.data_dir / "snapshot.json").write_text(json.dumps(last.to_message()))
        made.control.held = asyncio.Event()
        made.control.snapshot = snapshot(2, endpoint("ep", variant("new", server)))
        links = await link.listen(made.control.path, made.control.serve)
        await made.start_gateway()
        invocation = made.tasks.start("invocation", made.invoke("ep"))
        await until(lambda: made.control.said("hello"))
        assert not invocation.done()
        made.control.held.set()
        answer = await invocation
        links.close()
    assert answer.headers["x-amzn-invoked-production-variant"] == "new"


async def test_gateway_serves_by_the_snapshot_on_disk_when_the_control_plane_says_nothing() -> None:
    async with world() as made:
        server = await made.instance("a", answers(b"ok"))
        last = snapshot(1, endpoint("ep", variant("old", server)))
        (made.settings.data_dir / "snapshot.json").write_text(json.dumps(last.to_message()))
        made.control.held = asyncio.Event()
        links = await link.listen(made.control.path, made.control.serve)
        await made.start_gateway()
        answer = await made.invoke("ep")
        made.control.held.set()
        links.close()
    assert answer.headers["x-amzn-invoked-production-variant"] == "old"


async def test_sigterm_ends_the_process_when_the_last_answer_is_sent() -> None:
    answered = asyncio.Event()

    async def waits(_: Request, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answered.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlast")

    async with world() as made:
        server = await made.instance("a", waits)
        async with running(made, endpoint("ep", variant("v1", server))) as (_, process):
            invocation = made.tasks.start("invocation", made.invoke("ep"))
            await until(lambda: server.requests)
            process.terminate()
            await until(lambda: not made.control.links or process.returncode is None)
            answered.set()
            assert (await invocation).body == b"last"
            assert await asyncio.wait_for(process.wait(), 5) == 0


async def test_dead_instance_is_skipped_and_only_its_invocation_in_flight_fails() -> None:
    async with world() as made:
        first, second = await made.instance("a", answers(b"a"), hangs), await made.instance("b", answers(b"b"))
        async with running(made, endpoint("ep", variant("v1", first, second))):
            flying = [made.tasks.start("invocation", made.invoke("ep")) for _ in range(20)]
            await until(lambda: len(first.requests) + len(second.requests) == 20)
            await first.kill()
            outcomes = Counter(answer.status for answer in await asyncio.gather(*flying))
            bodies = {(await made.invoke("ep")).body for _ in range(50)}
    assert outcomes[200] + outcomes[424] == 20
    assert outcomes[424] == max(0, len(first.requests) - 1)
    assert bodies == {b"b"}
