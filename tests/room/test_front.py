"""The front of an instance of several containers, over real sockets."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.front import BODY_BYTES, FrontWorld, listen_at, request, serve_order
from tests.support.gateway import answers, cuts, hangs, read_answer, says, until

from moorage.front.spec import FrontSpec, Mode

CSV = "Content-Type: text/csv\r\n"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[FrontWorld]:
    world = FrontWorld(tmp_path)
    yield world
    await world.close()


async def test_body_and_content_type_flow_through_all_containers(world: FrontWorld) -> None:
    first = await world.container("a", answers(b"1,2", headers=CSV))
    second = await world.container("b", answers(b"[3]", headers="Content-Type: application/json\r\n"))
    third = await world.container("c", answers(b"three", headers="Content-Type: text/plain\r\n"))
    await world.start()

    answer = await world.invoke(b"{}", Content_Type="application/x-first", Accept="text/plain")

    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"three", "text/plain")
    seen = [(server.requests[0].body, server.requests[0].header("content-type")) for server in (first, second, third)]
    assert seen == [(b"{}", "application/x-first"), (b"1,2", "text/csv"), (b"[3]", "application/json")]
    assert first.requests[0].line == "POST /invocations HTTP/1.1"


async def test_accept_goes_to_the_last_container_only_and_the_rest_to_all(world: FrontWorld) -> None:
    servers = [await world.container(name, answers(b"x")) for name in ("a", "b")]
    await world.start()

    names = {"X_Amzn_SageMaker_Custom_Attributes": "c", "X_Amzn_SageMaker_Inference_Id": "i"}
    await world.invoke(b"x", Accept="text/plain", X_Other="o", X_Amzn_SageMaker_Session_Id="s", **names)

    assert [server.requests[0].header("accept") for server in servers] == [None, "text/plain"]
    shared = ("custom-attributes", "inference-id", "session-id")
    for server in servers:
        assert [server.requests[0].header(f"x-amzn-sagemaker-{name}") for name in shared] == ["c", "i", "s"]
        assert server.requests[0].header("x-other") is None
        assert server.requests[0].header("content-type") is None


async def test_only_headers_of_the_api_come_back_and_those_of_the_last_container(world: FrontWorld) -> None:
    await world.container("a", answers(b"x", headers="X-Amzn-SageMaker-Custom-Attributes: of-a\r\n"))
    forged = "X-Moorage-Fault: Refused\r\nX-Moorage-Container: z\r\nX-Moorage-Latencies: z=1\r\nX-Foo: 1\r\n"
    mine = "X-Amzn-SageMaker-Custom-Attributes: of-b\r\nX-Amzn-SageMaker-New-Session-Id: s; Expires=t\r\n"
    await world.container("b", answers(b"y", headers=forged + mine))
    await world.start()

    answer = await world.invoke(b"x")

    latencies = answer.headers.pop("x-moorage-latencies")
    assert [entry.partition("=")[0] for entry in latencies.split(",")] == ["a", "b"]
    assert answer.headers == {
        "content-length": "1",
        "x-amzn-sagemaker-custom-attributes": "of-b",
        "x-amzn-sagemaker-new-session-id": "s; Expires=t",
        "x-moorage-container": "b",
    }


async def test_first_container_that_fails_ends_the_call_and_is_named(world: FrontWorld) -> None:
    await world.container("a", answers(b"1"))
    await world.container("b", answers(b"no such column", status=400, headers="Content-Type: text/plain\r\n"))
    last = await world.container("c", answers(b"3"))
    await world.start()

    answer = await world.invoke(b"x")

    assert (answer.status, answer.body) == (400, b"no such column")
    assert answer.headers["x-moorage-container"] == "b"
    assert "x-moorage-fault" not in answer.headers
    assert last.requests == []


async def test_direct_call_reaches_the_container_that_it_names_and_no_other(world: FrontWorld) -> None:
    first = await world.container("a", answers(b"of a"))
    await world.container("b", answers(b"of b"))
    await world.start(Mode.DIRECT)

    answer = await world.invoke(b"x", Accept="text/csv", X_Amzn_SageMaker_Target_Container_Hostname="b")

    assert (answer.body, answer.headers["x-moorage-container"]) == (b"of b", "b")
    assert first.requests == []
    request = world.containers["b"].requests[0]
    assert request.header("accept") == "text/csv"
    assert request.header("x-amzn-sagemaker-target-container-hostname") is None


@pytest.mark.parametrize("headers", [{}, {"X_Amzn_SageMaker_Target_Container_Hostname": "c"}])
async def test_direct_call_to_no_container_is_a_fault(world: FrontWorld, headers: dict[str, str]) -> None:
    await world.container("a", answers(b"of a"))
    await world.start(Mode.DIRECT)
    answer = await world.invoke(b"x", **headers)
    assert (answer.status, answer.headers["x-moorage-fault"]) == (502, "UnknownContainer")


async def test_streamed_answer_of_the_last_container_passes_while_it_comes(world: FrontWorld) -> None:
    go_on = asyncio.Event()

    async def streams(_: object, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        await go_on.wait()
        writer.write(b"3\r\ntwo\r\n0\r\n\r\n")

    await world.container("a", answers(b"x"))
    await world.container("b", streams)
    await world.start()
    async with world.connected() as (reader, writer):
        writer.write(request(b"x"))
        early = await asyncio.wait_for(reader.readuntil(b"one\r\n"), 10)
        go_on.set()
        rest = await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 10)
    assert b"Transfer-Encoding: chunked" in early
    assert rest == b"3\r\ntwo\r\n0\r\n\r\n"


async def test_body_in_many_pieces_arrives_whole(world: FrontWorld) -> None:
    body = os.urandom(700_000)
    first = await world.container("a", answers(body))
    second = await world.container("b", answers(body[::-1]))
    await world.start()
    for _ in range(2):
        assert (await world.invoke(body)).body == body[::-1]
    assert {server.requests[1].body for server in (first, second)} == {body}


async def test_connections_are_kept_and_used_again(world: FrontWorld) -> None:
    servers = [await world.container(name, answers(b"x")) for name in ("a", "b")]
    await world.start()
    async with world.connected() as (reader, writer):
        for _ in range(3):
            writer.write(request(b"x"))
            assert (await asyncio.wait_for(read_answer(reader), 10)).body == b"x"
    assert [server.connections for server in servers] == [1, 1]


async def test_what_is_too_large_for_the_next_container_is_told(world: FrontWorld) -> None:
    await world.container("a", answers(b"x" * (BODY_BYTES + 1)))
    second = await world.container("b", answers(b"y"))
    await world.start()
    answer = await world.invoke(b"x")
    assert (answer.headers["x-moorage-fault"], answer.headers["x-moorage-container"]) == ("TooLarge", "a")
    assert answer.json == {"status": 200, "bytes": BODY_BYTES + 1, "limit": BODY_BYTES, "next": "b"}
    assert second.requests == []


async def test_what_is_too_large_in_chunks_is_told_too(world: FrontWorld) -> None:
    chunk = b"%x\r\n%b\r\n" % (400_000, b"x" * 400_000)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    await world.container("a", says(head + 3 * chunk + b"0\r\n\r\n"))
    await world.container("b", answers(b"y"))
    await world.start()
    answer = await world.invoke(b"x")
    assert answer.headers["x-moorage-fault"] == "TooLarge"
    assert answer.json["bytes"] > BODY_BYTES


async def test_what_needs_more_memory_than_there_is_for_bodies_is_refused_and_let_go(world: FrontWorld) -> None:
    await world.container("a", answers(b"x" * 3_000))
    second = await world.container("b", answers(b"y"))
    await world.start(buffered_bytes=4_000)
    for size, fault in ((4_001, "NoMemory"), (2_000, "NoMemory"), (500, None)):
        for _ in range(5):  # nothing is counted for ever
            answer = await world.invoke(b"x" * size)
            assert answer.headers.get("x-moorage-fault") == fault
    assert len(second.requests) == 5


async def test_first_container_that_takes_no_connection_means_that_nothing_has_run(world: FrontWorld) -> None:
    await (await world.container("a", answers(b"x"))).kill()
    await world.container("b", answers(b"x"))
    await world.start()
    answer = await world.invoke(b"x")
    assert (answer.headers["x-moorage-fault"], answer.headers["x-moorage-container"]) == ("Refused", "a")


async def test_later_container_that_takes_no_connection_gives_no_answer(world: FrontWorld) -> None:
    await world.container("a", answers(b"x"))
    await (await world.container("b", answers(b"x"))).kill()
    await world.start()
    answer = await world.invoke(b"x")
    assert (answer.headers["x-moorage-fault"], answer.headers["x-moorage-container"]) == ("NoAnswer", "b")


@pytest.mark.parametrize(
    ("broken", "fault"),
    [(b"", "NoAnswer"), (b"HTTP/1.1 200", "NoAnswer"), (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", "Cut")],
)
async def test_container_that_breaks_off_is_named(world: FrontWorld, broken: bytes, fault: str) -> None:
    await world.container("a", cuts(broken))
    await world.container("b", answers(b"x"))
    await world.start()
    answer = await world.invoke(b"x")
    assert (answer.headers["x-moorage-fault"], answer.headers["x-moorage-container"]) == (fault, "a")


async def test_answer_that_breaks_in_its_middle_breaks_the_connection(world: FrontWorld) -> None:
    await world.container("a", answers(b"x"))
    await world.container("b", cuts(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"))
    await world.start()
    async with world.connected() as (reader, writer):
        writer.write(request(b"x"))
        everything = await asyncio.wait_for(reader.read(), 10)
    assert everything.endswith(b"\r\n\r\nab")


async def test_time_for_all_containers_together_names_the_one_that_was_waited_for(world: FrontWorld) -> None:
    await world.container("a", answers(b"x"))
    slow = await world.container("b", hangs)
    await world.start(timeout_seconds=0.3)
    answer = await world.invoke(b"x")
    assert (answer.headers["x-moorage-fault"], answer.headers["x-moorage-container"]) == ("TimedOut", "b")
    await until(lambda: slow.open_connections == 0)


async def test_caller_that_goes_stops_the_work_of_the_container(world: FrontWorld) -> None:
    await world.container("a", answers(b"x"))
    slow = await world.container("b", hangs)
    await world.start()
    async with world.connected() as (_, writer):
        writer.write(request(b"x"))
        await until(lambda: slow.open_connections == 1)
    await until(lambda: slow.open_connections == 0)


async def test_ping_is_well_when_all_containers_are(world: FrontWorld) -> None:
    await world.container("a", answers(b""))
    second = await world.container("b", answers(b""))
    await world.start()
    assert (await world.ping()).status == 200
    second.scripts = [answers(b"", status=500)]
    answer = await world.ping()
    assert (answer.status, answer.body) == (503, b"b: /ping answered 500")


async def test_front_ends_with_its_node_agents_end_of_the_channel(world: FrontWorld) -> None:
    await world.container("a", answers(b"x"))
    await world.start()
    world.leave()
    assert world.front is not None
    await asyncio.wait_for(world.front, 10)
    with pytest.raises(ConnectionRefusedError):
        await world.invoke(b"x")


async def test_process_serves_at_the_inherited_socket_and_ends_with_the_channel(world: FrontWorld) -> None:
    await world.container("a", answers(b"x", headers=CSV))
    await world.container("b", answers(b"y", headers=CSV))
    listening = listen_at(world.path)
    ours, theirs = socket.socketpair()
    numbers = (theirs.fileno(), listening.fileno())
    process = await asyncio.to_thread(
        subprocess.Popen, [sys.executable, "-m", "moorage.front", *map(str, numbers)], pass_fds=numbers
    )
    try:
        theirs.close()
        listening.close()
        ours.sendall(serve_order(world.spec()))
        assert (await world.invoke(b"x")).body == b"y"
        process.send_signal(signal.SIGINT)  # Ctrl-C reaches all processes; only the node agent ends this one
        assert (await world.invoke(b"x")).body == b"y"
        ours.close()
        assert await asyncio.to_thread(process.wait, 10) == 0
    finally:
        process.kill()
        process.wait()


def test_spec_survives_its_json_form(tmp_path: Path) -> None:
    spec = FrontWorld(tmp_path).spec(Mode.DIRECT)
    assert FrontSpec.from_message(spec.to_message()) == spec
