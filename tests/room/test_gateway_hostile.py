"""Odd and hostile clients: each gets the right answer or a closed connection, and harms nobody else."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from tests.support.gateway import (
    Answer,
    Request,
    Script,
    World,
    answers,
    endpoint,
    hangs,
    read_answer,
    until,
    variant,
    world,
)

PATH = "/endpoints/ep/invocations"


@contextlib.asynccontextmanager
async def serving(*scripts: Script, speed: float = 1.0, **limits: float) -> AsyncIterator[World]:
    """Have a gateway in front of one instance; afterwards it must still serve others."""
    async with world(speed=speed, **limits) as made:
        server = await made.instance("a", *(scripts or (answers(b"ok"),)))
        await made.owner("neighbours", answers(b"theirs"))
        await made.start(endpoint("ep", variant("v1", server)))
        yield made
        server.scripts[:] = [answers(b"fine")]
        assert (await made.invoke("ep")).body == b"fine"


async def ends(reader: asyncio.StreamReader) -> bool:
    """Wait until the other side closes; says whether it did so without another byte."""
    try:
        return await asyncio.wait_for(reader.read(), 5) == b""
    except ConnectionResetError:
        return True


async def next_answer(reader: asyncio.StreamReader, *, head_only: bool = False) -> Answer:
    return await asyncio.wait_for(read_answer(reader, head_only=head_only), 5)


# Methods


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "HEAD", "MERGE"])
async def test_another_method_on_an_invocation_is_refused_and_the_connection_kept(method: str) -> None:
    async with serving() as made, made.connected() as (reader, writer):
        writer.write(f"{method} {PATH} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{{}}".encode())
        refused = await next_answer(reader, head_only=method == "HEAD")
        writer.write(made.invocation("ep"))
        assert (await next_answer(reader)).body == b"ok"
        assert len(made.servers["a"].requests) == 1
    assert 400 <= refused.status < 500
    assert refused.headers.get("connection") != "close"


async def test_body_of_a_get_does_not_become_a_request() -> None:
    hidden = b"DELETE /b/k HTTP/1.1\r\nHost: a\r\n\r\n"
    async with serving() as made, made.connected() as (reader, writer):
        writer.write(b"GET /b/k HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(hidden), hidden))
        assert (await next_answer(reader)).body == b"theirs"
        writer.write(b"GET /b/other HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await next_answer(reader)).body == b"theirs"
        seen = [(request.line, request.body) for request in made.servers["neighbours"].requests]
    assert seen == [("GET /b/k HTTP/1.1", hidden), ("GET /b/other HTTP/1.1", b"")]


async def test_trailers_go_nowhere() -> None:
    async with serving() as made, made.connected() as (reader, writer):
        writer.write(
            b"PUT /b/k HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n"
            b"Authorization: x\r\nX-Moorage-Source-Ip: 10.0.0.1\r\n\r\n"
        )
        assert (await next_answer(reader)).status == 200
        (request,) = made.servers["neighbours"].requests
    assert request.body == b"ab"
    assert request.header("authorization") is None
    assert request.header("x-moorage-source-ip") == "127.0.0.1"


# Versions and expectations


@pytest.mark.parametrize(("asked", "kept"), [("", False), ("Connection: Keep-Alive\r\n", True)])
async def test_http_1_0_gets_an_answer_with_a_length(asked: str, *, kept: bool) -> None:
    async with serving() as made, made.connected() as (reader, writer):
        request = made.invocation("ep").replace(b"HTTP/1.1\r\n", f"HTTP/1.0\r\n{asked}".encode(), 1)
        writer.write(request)
        first = await next_answer(reader)
        writer.write(request)
        if kept:
            assert (await next_answer(reader)).body == b"ok"
        else:
            assert await ends(reader)
    assert (first.status, first.body, first.headers["content-length"]) == (200, b"ok", "2")
    assert first.headers["connection"] == ("keep-alive" if kept else "close")


async def test_who_expects_to_be_asked_for_the_body_is_asked() -> None:
    async with serving() as made, made.connected() as (reader, writer):
        head, _, body = made.invocation("ep", b"body", expect="100-continue").partition(b"\r\n\r\n")
        writer.write(head + b"\r\n\r\n")
        assert await asyncio.wait_for(reader.readexactly(25), 5) == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await next_answer(reader)).body == b"ok"


async def test_a_body_that_is_too_large_is_not_asked_for() -> None:
    async with serving() as made, made.connected() as (reader, writer):
        writer.write(
            f"POST {PATH} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 999999999999\r\n\r\n".encode()
        )
        line = await asyncio.wait_for(reader.readline(), 5)
    assert line.startswith((b"HTTP/1.1 413", b"HTTP/1.1 400"))


@pytest.mark.parametrize("length", [10**9, 10**17])
async def test_a_length_that_is_too_large_is_refused_without_reading(length: int) -> None:
    async with serving() as made, made.connected() as (reader, writer):
        writer.write(f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\nabc".encode())
        refused = await next_answer(reader)
        assert await ends(reader)
    assert refused.status in {400, 413}
    assert refused.headers["connection"] == "close"


# Clients that are slow, or gone


@pytest.mark.parametrize(
    ("begun", "drop"),
    [(b"", b"G"), (b"GET / HTTP/1.1\r\n", b"X: y\r\n"), (b"GET / HTTP/1.1\r\nHost: a\r\nX: ", b"y")],
    ids=["request line", "headers", "value"],
)
async def test_a_head_that_trickles_is_given_up(begun: bytes, drop: bytes) -> None:
    async with serving(speed=50) as made, made.connected() as (reader, writer):
        writer.write(begun + drop)
        trickle = made.tasks.start("trickle", drip(writer, drop[:1] if not begun else drop))
        line = await asyncio.wait_for(reader.readline(), 5)
        trickle.cancel()
    assert line.startswith((b"HTTP/1.1 408", b"HTTP/1.1 400"))


async def test_a_body_that_trickles_is_given_up() -> None:
    async with serving(speed=200) as made, made.connected() as (reader, writer):
        writer.write(f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n".encode())
        trickle = made.tasks.start("trickle", drip(writer, b"x"))
        answer = await next_answer(reader)
        trickle.cancel()
        assert not made.servers["a"].requests
    assert answer.status == 408


async def drip(writer: asyncio.StreamWriter, drop: bytes) -> None:
    """Send one drop after the other."""
    with contextlib.suppress(ConnectionError):
        while True:
            await asyncio.sleep(0.01)
            writer.write(drop)
            await writer.drain()


def resets(writer: asyncio.StreamWriter) -> None:
    """Close as a client that has crashed."""
    raw: socket.socket = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def half_closes(writer: asyncio.StreamWriter) -> None:
    """Say that nothing more will come, and wait."""
    writer.write_eof()


@pytest.mark.parametrize("leave", [resets, half_closes])
@pytest.mark.parametrize("cut", [1, 30, -1, 0], ids=["in the line", "in the head", "in the body", "after it"])
async def test_a_client_that_goes_takes_its_request_with_it(
    leave: Callable[[asyncio.StreamWriter], None], cut: int
) -> None:
    async with serving(hangs) as made:
        server = made.servers["a"]
        async with made.connected() as (reader, writer):
            request = made.invocation("ep", b"body")
            writer.write(request[:cut] if cut else request)
            await writer.drain()
            if cut == 0:
                await until(lambda: server.requests)
            leave(writer)
            if leave is half_closes:
                assert await ends(reader)
        await until(lambda: server.open_connections == 0)
        assert len(server.requests) == (cut == 0)


async def test_a_request_behind_a_slow_one_waits_and_no_more_is_read() -> None:
    release = asyncio.Event()

    async def slow(_: Request, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow")

    async with serving(slow, answers(b"next")) as made, made.connected() as (reader, writer):
        server = made.servers["a"]
        writer.write(made.invocation("ep"))
        await until(lambda: server.requests)
        following = made.invocation("ep", b"x" * 1_000_000)
        writer.transport.set_write_buffer_limits(high=0)
        writer.write(following * 40)
        sent = made.tasks.start("drain", writer.drain())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(sent), 0.3)
        assert len(server.requests) == 1
        assert writer.transport.get_write_buffer_size() > 20_000_000, "most is still with the client"
        release.set()
        bodies = [(await next_answer(reader)).body for _ in range(41)]
    assert bodies == [b"slow", *[b"next"] * 40]


# Floods


async def flood_of_heads(writer: asyncio.StreamWriter) -> None:
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n")
    for number in range(100_000):
        writer.write(b"X-%d: y\r\n" % number)
        await writer.drain()


async def flood_of_empty_lines(writer: asyncio.StreamWriter) -> None:
    for _ in range(100):
        writer.write(b"\r\n" * 10_000)
        await writer.drain()


async def flood_of_extensions(writer: asyncio.StreamWriter) -> None:
    writer.write(f"POST {PATH} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    for _ in range(10_000):
        writer.write(b"1;" + b"x" * 60_000 + b"\r\na\r\n")
        await writer.drain()


async def flood_of_small_chunks(writer: asyncio.StreamWriter) -> None:
    writer.write(f"POST {PATH} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    for _ in range(1_000):
        writer.write(b"1\r\na\r\n" * 10_000)
        await writer.drain()


@pytest.mark.parametrize("flood", [flood_of_heads, flood_of_empty_lines, flood_of_extensions, flood_of_small_chunks])
async def test_a_flood_ends(flood: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> None:
    """By a refusal, or by the time that a body may take; others are served meanwhile."""
    async with serving(speed=20, invocation_body_bytes=1_000_000) as made, made.connected() as (reader, writer):

        async def send() -> None:
            with contextlib.suppress(ConnectionError):
                await flood(writer)

        flooding = made.tasks.start("flood", send())
        assert (await made.invoke("ep")).body == b"ok"
        line = await asyncio.wait_for(reader.readline(), 20)
        flooding.cancel()
        writer.transport.abort()
        assert len(made.servers["a"].requests) == 1
    assert line.startswith((b"HTTP/1.1 400", b"HTTP/1.1 408", b"HTTP/1.1 413", b"HTTP/1.1 431"))
