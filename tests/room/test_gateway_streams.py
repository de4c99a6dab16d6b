"""InvokeEndpointWithResponseStream: every fault of an instance in every phase, both ways at the slower side's pace."""

import asyncio
import json
import time
from dataclasses import replace

import pytest
from tests.support.gateway import (
    ACCOUNT,
    KEY,
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
    signed,
    snapshot,
    until,
    variant,
    world,
)
from tests.support.streams import END, HEAD, Stepwise, chunk, decode, read_chunk, read_head, read_rest, streams, told_by

PATH = "/endpoints/ep/invocations-response-stream"
BROKEN = (
    "ModelStreamError",
    {
        "ErrorCode": "StreamBroken",
        "Message": "The connection to the model primary was broken before the response was complete.",
    },
)
TOO_LONG = (
    "ModelStreamError",
    {
        "ErrorCode": "ModelInvocationTimeExceeded",
        "Message": "Your model primary did not complete sending the inference response in the allotted time.",
    },
)


def asks(made: World, body: bytes = b"", **headers: str) -> bytes:
    """Make the bytes of a request for a stream."""
    return signed(PATH, body, [(name.replace("_", "-"), value) for name, value in headers.items()], made.port)


async def stream(made: World, body: bytes = b"", **headers: str) -> Answer:
    return await made.raw(asks(made, body, **headers))


async def test_each_chunk_comes_before_the_next_is_made() -> None:
    container = Stepwise()
    async with world() as made:
        await made.one_instance(container)
        async with made.connected() as (reader, writer):
            writer.write(asks(made))
            await container.send(HEAD + chunk(b"one"))
            head = await read_head(reader)
            first = decode(await read_chunk(reader))
            await container.send(chunk(b"two"))
            second = decode(await read_chunk(reader))
            await container.send(END)
            rest = await read_rest(reader)
    assert [first.parts, second.parts, rest] == [[b"one"], [b"two"], b""]
    fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert len(fields.pop(b"x-amzn-RequestId")) == 36
    assert fields.pop(b"Date")
    assert fields == {
        b"Content-Type": b"application/vnd.amazon.eventstream",
        b"X-Amzn-SageMaker-Content-Type": b"text/plain",
        b"x-Amzn-Invoked-Production-Variant": b"v1",
        b"Transfer-Encoding": b"chunked",
    }


async def test_container_sees_an_ordinary_invocation_with_the_accept_of_this_operation() -> None:
    async with world() as made:
        await made.one_instance(streams(b"x"))
        await stream(
            made,
            b"body",
            content_type="text/csv",
            accept="not/this",
            x_amzn_sagemaker_accept="a/b",
            x_amzn_sagemaker_custom_attributes="k=v",
            x_amzn_sagemaker_inference_id="id 1",
            x_amzn_sagemaker_prefix_aware_id="p",
        )
        request = made.servers["a"].requests[0]
    assert (request.line, request.body) == ("POST /invocations HTTP/1.1", b"body")
    assert {name.lower(): value for name, value in request.headers} == {
        "host": "localhost",
        "content-type": "text/csv",
        "accept": "a/b",
        "x-amzn-sagemaker-custom-attributes": "k=v",
        "x-amzn-sagemaker-inference-id": "id 1",
        "content-length": "4",
    }


async def test_custom_attributes_come_back_and_private_headers_do_not() -> None:
    head = b"HTTP/1.1 200 OK\r\nX-Amzn-SageMaker-Custom-Attributes: out\r\nX-Own: x\r\nContent-Length: 1\r\n\r\nx"
    async with world() as made:
        await made.one_instance(says(head))
        answer = await stream(made)
    assert answer.headers["x-amzn-sagemaker-custom-attributes"] == "out"
    assert {"x-own", "x-amzn-sagemaker-content-type"}.isdisjoint(answer.headers)


@pytest.mark.parametrize(
    ("script", "body"),
    [
        (streams(b"abc", b"de"), b"abcde"),
        (answers(b"abcde"), b"abcde"),
        (cuts(b"HTTP/1.1 200 OK\r\n\r\nabcde"), b"abcde"),
        (cuts(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nabcde"), b"abcde"),
        (streams(), b""),
        (answers(b""), b""),
        (says(b"HTTP/1.1 204 No Content\r\n\r\n"), b""),
        (answers(b"x", 201), b"x"),
        (says(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"), b"x"),
    ],
    ids=["chunked", "whole", "until close", "HTTP/1.0", "no chunk", "empty", "204", "201", "interim"],
)
async def test_every_answer_of_a_container_is_a_stream(script: Script, body: bytes) -> None:
    async with world() as made:
        await made.one_instance(script)
        answer = await stream(made)
    told = told_by(answer)
    assert (told.body, told.fault) == (body, None)


async def test_large_chunks_are_split_and_small_ones_are_not_joined() -> None:
    large = bytes(range(256)) * 1024
    async with world(invocation_body_bytes=1000) as made:
        await made.one_instance(streams(b"a", b"b", large))
        told = told_by(await stream(made))
    assert told.parts[:2] == [b"a", b"b"]
    assert b"".join(told.parts[2:]) == large
    assert max(map(len, told.parts)) <= 65_536


NO_RESPONSE = "Amazon SageMaker could not get a response from the ep endpoint."
NOT_LOADED = "Received server error (500) from primary and could not load the entire response body."


@pytest.mark.parametrize(
    ("script", "message", "original"),
    [
        (cuts(b""), NO_RESPONSE, 0),
        (cuts(b"HTTP/1.1 200"), NO_RESPONSE, 0),
        (says(b"nonsense\r\n\r\n"), NO_RESPONSE, 0),
        (says(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), NO_RESPONSE, 0),
        (says(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000), NO_RESPONSE, 0),
        (cuts(HEAD), NOT_LOADED, 500),
        (says(HEAD + b"zz\r\n"), NOT_LOADED, 500),
        (cuts(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"), NOT_LOADED, 500),
        (answers(b"no", 400), 'Received client error (400) from primary with message "no".', 400),
        (answers(b"no", 500), 'Received server error (500) from primary with message "no".', 500),
        (answers(b"", 302), 'Received server error (302) from primary with message "".', 302),
        (cuts(b"HTTP/1.1 500 No\r\nContent-Length: 9\r\n\r\nabc"), NOT_LOADED, 500),
        (answers(b"x" * 1001, 500), NOT_LOADED, 500),
    ],
    ids=[
        "closes",
        "closes in head",
        "garbage",
        "switches",
        "endless head",
        "closes before a chunk",
        "bad first chunk",
        "closes before the body",
        "400",
        "500",
        "302",
        "closes in error",
        "large error",
    ],
)
async def test_fault_before_the_first_byte_is_a_plain_model_error(script: Script, message: str, original: int) -> None:
    async with world(invocation_body_bytes=1000) as made:
        await made.one_instance(script, streams(b"fine"))
        async with made.connected() as (reader, writer):
            writer.write(asks(made))
            answer = await read_answer(reader)
            writer.write(asks(made))
            following = await read_answer(reader)
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (424, "ModelError")
    assert message in answer.json["Message"]
    assert answer.json["OriginalStatusCode"] == original
    assert told_by(following).body == b"fine"


@pytest.mark.parametrize(
    "script",
    [
        streams(b"abc", end=b"", closes=True),
        streams(b"abc", end=b"9\r\nx", closes=True),
        streams(b"abc", end=b"nonsense\r\n"),
        cuts(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"),
    ],
    ids=["closes", "closes in chunk", "bad chunk", "wrong length"],
)
async def test_fault_after_the_first_byte_is_an_event_and_the_connection_goes_on(script: Script) -> None:
    async with world() as made:
        await made.one_instance(script, streams(b"fine"))
        async with made.connected() as (reader, writer):
            writer.write(asks(made))
            told = told_by(await read_answer(reader))
            writer.write(asks(made))
            following = told_by(await read_answer(reader))
    assert told.body in (b"abc", b"abcx")
    assert told.fault == BROKEN
    assert (following.body, following.fault) == (b"fine", None)


async def test_killed_instance_in_mid_stream_is_an_event() -> None:
    container = Stepwise()
    async with world() as made:
        await made.one_instance(container)
        async with made.connected() as (reader, writer):
            writer.write(asks(made))
            await container.send(HEAD + chunk(b"one"))
            await read_head(reader)
            assert decode(await read_chunk(reader)).body == b"one"
            container.close()
            told = decode(await read_rest(reader))
    assert (told.parts, told.fault) == ([], BROKEN)


async def test_instance_that_refuses_is_passed_over() -> None:
    async with world() as made:
        first, second = await made.instance("a", hangs), await made.instance("b", streams(b"b"))
        await made.start(endpoint("ep", variant("v1", first, second)))
        await first.kill()
        bodies = {told_by(await stream(made)).body for _ in range(10)}
    assert bodies == {b"b"}


async def test_all_instances_dead_is_a_plain_model_error() -> None:
    async with world() as made:
        await made.one_instance(hangs)
        await made.servers["a"].kill()
        answer = await stream(made)
    assert answer.status == 424
    assert NO_RESPONSE in answer.json["Message"]


@pytest.mark.parametrize("script", [hangs, says(b"HTTP/1.1 200"), says(HEAD)], ids=["nothing", "half a head", "a head"])
async def test_no_first_byte_in_time_is_a_plain_model_error(script: Script) -> None:
    async with world(invocation_timeout_seconds=0.3) as made:
        await made.one_instance(script)
        began = time.monotonic()
        answer = await stream(made)
        assert 0.25 < time.monotonic() - began < 5
        if script is hangs:
            await until(lambda: made.servers["a"].open_connections == 0)
    assert (answer.status, answer.json["OriginalStatusCode"]) == (424, 0)
    assert "Your invocation timed out while waiting for a response from container primary." in answer.json["Message"]


async def trickles(_: Request, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Be a container that sends a byte now and then, without an end."""
    writer.write(HEAD)
    while not writer.is_closing():
        writer.write(chunk(b"x"))
        await asyncio.sleep(0.01)


async def floods(_: Request, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Be a container that sends as much as it can, without an end."""
    writer.write(HEAD)
    while not writer.is_closing():
        writer.write(chunk(b"x" * 100_000))
        await writer.drain()
        await asyncio.sleep(0)


@pytest.mark.parametrize("script", [streams(b"x", end=b""), trickles, floods], ids=["silent", "trickle", "flood"])
async def test_stream_that_is_not_complete_in_time_ends_with_an_event(script: Script) -> None:
    async with world(stream_timeout_seconds=0.4) as made:
        await made.one_instance(script, streams(b"fine"))
        began = time.monotonic()
        async with made.connected() as (reader, writer):
            writer.write(asks(made))
            told = told_by(await read_answer(reader))
            assert 0.35 < time.monotonic() - began < 10
            writer.write(asks(made))
            following = told_by(await read_answer(reader))
    assert told.body.strip(b"x") == b""
    assert told.body
    assert told.fault == TOO_LONG
    assert (following.body, following.fault) == (b"fine", None)


async def test_timed_out_stream_closes_the_connection_to_the_container() -> None:
    container = Stepwise()
    async with world(stream_timeout_seconds=0.3) as made:
        await made.one_instance(container)
        async with made.connected() as (reader, writer):
            writer.write(asks(made))
            await container.send(HEAD + chunk(b"x"))
            assert told_by(await read_answer(reader)).fault == TOO_LONG
            await asyncio.wait_for(container.ended.wait(), 5)


@pytest.mark.parametrize("sent", [b"", HEAD, HEAD + chunk(b"x")], ids=["before the head", "before a byte", "in stream"])
async def test_client_that_goes_stops_the_container_s_work(sent: bytes) -> None:
    container = Stepwise()
    async with world() as made:
        await made.one_instance(container)
        async with made.connected() as (reader, writer):
            writer.write(asks(made))
            await container.send(sent)
            if sent.endswith(chunk(b"x")):
                await read_head(reader)
            writer.transport.abort()
            await asyncio.wait_for(container.ended.wait(), 5)


async def test_container_waits_for_a_client_that_does_not_read_and_no_byte_is_lost() -> None:
    sent = 0

    async def pours(_: Request, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(HEAD)
        while sent < 30_000:
            writer.write(b"".join(chunk(b"%01000d" % number) for number in range(sent, sent + 100)))
            sent += 100
            await writer.drain()
        writer.write(END)

    async with world() as made:
        await made.one_instance(pours)
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port, limit=65_536)
        writer.write(asks(made))
        await until(lambda: sent >= 100)
        seen = [-1, sent]
        while seen[-1] != seen[-2]:
            began = time.monotonic()
            await until(lambda began=began: time.monotonic() > began + 0.2)  # type: ignore[misc]
            seen.append(sent)
        held_back = sent
        await read_head(reader)
        told = decode(await read_rest(reader))
        writer.transport.abort()
    assert held_back < 20_000
    assert told.fault is None
    assert told.body == b"".join(b"%01000d" % number for number in range(30_000))


async def test_client_that_does_not_read_is_given_up_and_the_container_s_work_stopped() -> None:
    async with world(speed=200, invocation_timeout_seconds=10_000, stream_timeout_seconds=10_000) as made:
        await made.one_instance(floods)
        _, writer = await asyncio.open_connection("127.0.0.1", made.port, limit=1000)
        writer.write(asks(made))
        await until(lambda: made.servers["a"].requests)
        await until(lambda: made.servers["a"].open_connections == 0, 10)
        writer.transport.abort()


async def test_client_that_reads_slowly_is_served_on() -> None:
    async with world(speed=100, invocation_timeout_seconds=10_000, stream_timeout_seconds=10_000) as made:
        await made.one_instance(streams(*[b"x" * 50_000] * 200))
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port, limit=1000)
        writer.write(asks(made))
        received = b""
        while not received.endswith(b"\r\n0\r\n\r\n"):
            began = time.monotonic()
            await until(lambda began=began: time.monotonic() > began + 0.05)  # type: ignore[misc]
            received += await reader.readexactly(400_000) if len(received) < 9_200_000 else await reader.read(400_000)
        writer.transport.abort()
    whole = asyncio.StreamReader()
    whole.feed_data(received)
    await read_head(whole)
    told = decode(await read_rest(whole))
    assert (len(told.body), told.fault) == (10_000_000, None)


async def test_time_of_the_stream_runs_while_the_client_does_not_read() -> None:
    async with world(stream_timeout_seconds=0.4) as made:
        await made.one_instance(floods)
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port, limit=1000)
        writer.write(asks(made))
        await until(lambda: made.servers["a"].requests)
        await until(lambda: made.servers["a"].open_connections == 0, 10)
        await read_head(reader)
        told = decode(await read_rest(reader))
        writer.transport.abort()
    assert told.fault == TOO_LONG


async def test_client_of_http_1_0_reads_up_to_the_end_of_the_connection() -> None:
    async with world() as made:
        await made.one_instance(streams(b"one", b"two"))
        answer = await made.raw(asks(made).replace(b" HTTP/1.1\r\n", b" HTTP/1.0\r\nConnection: keep-alive\r\n"))
    assert "transfer-encoding" not in answer.headers
    assert answer.headers["connection"] == "close"
    assert told_by(answer).parts == [b"one", b"two"]


async def test_broken_stream_of_http_1_0_ends_with_the_event_too() -> None:
    async with world() as made:
        await made.one_instance(streams(b"one", end=b"", closes=True))
        answer = await made.raw(asks(made).replace(b" HTTP/1.1\r\n", b" HTTP/1.0\r\n"))
    told = told_by(answer)
    assert (told.parts, told.fault) == ([b"one"], BROKEN)


async def test_connections_are_kept_after_a_stream_on_both_sides() -> None:
    async with world() as made:
        await made.one_instance(streams(b"x"), streams(b"y"), answers(b"z"))
        async with made.connected() as (reader, writer):
            bodies = []
            for _ in range(2):
                writer.write(asks(made))
                bodies.append(told_by(await read_answer(reader)).body)
            writer.write(made.invocation("ep"))
            bodies.append((await read_answer(reader)).body)
        assert made.servers["a"].connections == 1
    assert bodies == [b"x", b"y", b"z"]


async def test_request_behind_a_stream_is_answered_after_it() -> None:
    async with world() as made:
        await made.one_instance(streams(b"one", b"two"), answers(b"three"))
        async with made.connected() as (reader, writer):
            writer.write(asks(made) + made.invocation("ep"))
            told = told_by(await read_answer(reader))
            following = await read_answer(reader)
    assert (told.body, following.body) == (b"onetwo", b"three")


async def test_connection_is_closed_after_a_stream_when_the_client_wishes_so() -> None:
    async with world() as made:
        await made.one_instance(streams(b"x"))
        async with made.connected() as (reader, writer):
            writer.write(asks(made).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            answer = await read_answer(reader)
            assert await asyncio.wait_for(reader.read(), 5) == b""
    assert (told_by(answer).body, answer.headers["connection"]) == (b"x", "close")


async def test_stopping_gateway_finishes_a_stream() -> None:
    container = Stepwise()
    async with world() as made:
        await made.one_instance(container)
        async with made.connected() as (reader, writer):
            writer.write(asks(made))
            await container.send(HEAD + chunk(b"one"))
            await read_head(reader)
            stopped = made.tasks.start("stop", made.stop_gateway())
            await container.send(chunk(b"two") + END)
            told = decode(await read_rest(reader))
            assert await asyncio.wait_for(reader.read(), 5) == b""
            await stopped
    assert (told.parts, told.fault) == ([b"one", b"two"], None)


async def test_stopping_gateway_says_so_in_a_stream_that_does_not_end() -> None:
    container = Stepwise()
    async with world(speed=100, stream_timeout_seconds=100_000) as made:
        await made.one_instance(container)
        async with made.connected() as (reader, writer):
            writer.write(asks(made))
            await container.send(HEAD + chunk(b"one"))
            await read_head(reader)
            stopped = made.tasks.start("stop", made.stop_gateway())
            told = decode(await read_rest(reader))
            await stopped
    message = {"Message": "Moorage stopped before the response was complete."}
    assert (told.parts, told.fault) == ([b"one"], ("InternalStreamFailure", message))


def policy(effect: str, action: str, resource: str) -> str:
    statement = {"Effect": effect, "Action": action, "Resource": resource}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@pytest.mark.parametrize(
    ("action", "status"), [("sagemaker:InvokeEndpoint", 200), ("sagemaker:InvokeEndpointWithResponseStream", 403)]
)
async def test_permission_is_that_of_invoke_endpoint(action: str, status: int) -> None:
    limited = replace(KEY, policies=(policy("Allow", action, "*"),))
    async with world() as made:
        await made.one_instance(streams(b"x"))
        known = made.control.snapshot
        await made.control.publish(replace(known, version=2, keys={KEY.access_key_id: limited}))
        answer = await stream(made)
    assert answer.status == status
    if status == 403:
        assert answer.headers["x-amzn-errortype"] == "AccessDeniedException"
        assert "to perform: sagemaker:InvokeEndpoint on resource" in answer.json["Message"]


@pytest.mark.parametrize(
    ("header", "value", "message"),
    [
        ("target-variant", "none", "Variant none not found for endpoint ep."),
        ("target-container-hostname", "c", "Endpoint ep does not support target container hostname header."),
        ("inference-component", "ic", "Inference Component ic not found for endpoint ep."),
        ("session-id", "abc", "Session abc not found or expired for endpoint ep."),
        ("session-id", "NEW_SESSION", "1 validation error detected: Value 'NEW_SESSION' at 'sessionId' failed to"),
        ("custom-attributes", "x" * 1025, "1 validation error detected: Value"),
    ],
)
async def test_header_that_cannot_be_honoured_is_refused(header: str, value: str, message: str) -> None:
    async with world() as made:
        await made.one_instance(streams(b"x"))
        answer = await made.raw(signed(PATH, b"", [(f"x-amzn-sagemaker-{header}", value)], made.port))
        assert not made.servers["a"].requests
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (400, "ValidationError")
    assert answer.json["Message"].startswith(message)


async def test_target_variant_is_served_whatever_its_weight() -> None:
    async with world() as made:
        first, second = await made.instance("a", streams(b"a")), await made.instance("b", streams(b"b"))
        await made.start(endpoint("ep", variant("v1", first), variant("v2", second, weight=0)))
        answer = await stream(made, x_amzn_sagemaker_target_variant="v2")
    assert (told_by(answer).body, answer.headers["x-amzn-invoked-production-variant"]) == (b"b", "v2")


async def test_oversize_body_and_strangers_are_refused_as_everywhere() -> None:
    async with world(invocation_body_bytes=100) as made:
        await made.one_instance(streams(b"x"))
        oversize = await stream(made, b"x" * 101)
        stranger = await made.raw(asks(made, b"12")[:-1] + b"3")
        unknown = await made.raw(signed("/endpoints/none/invocations-response-stream", b"", [], made.port))
        assert not made.servers["a"].requests
    assert oversize.status == 400
    assert oversize.json["Message"].endswith(" has oversize body.")
    assert (stranger.status, stranger.headers["x-amzn-errortype"]) == (403, "InvalidSignatureException")
    assert unknown.json["Message"] == f"Endpoint none of account {ACCOUNT} not found."


async def test_instance_is_drained_when_its_last_stream_has_ended() -> None:
    container = Stepwise()
    async with world() as made:
        first, second = await made.instance("a", container), await made.instance("b", streams(b"b"))
        await made.start(endpoint("ep", variant("v1", first)))
        async with made.connected() as (reader, writer):
            writer.write(asks(made))
            await container.send(HEAD + chunk(b"one"))
            await read_head(reader)
            await made.control.publish(snapshot(2, endpoint("ep", variant("v1", second))))
            assert told_by(await stream(made)).body == b"b"
            assert not made.control.said("drained")
            await container.send(chunk(b"two") + END)
            told = decode(await read_rest(reader))
        await until(lambda: made.control.said("drained") == [{"op": "drained", "instance_ids": ["i-a"]}])
    assert told.parts == [b"one", b"two"]
