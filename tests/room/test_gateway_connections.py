import asyncio

import pytest
import uvloop
from tests.support.gateway import World, answers, endpoint, hangs, read_answer, until, variant, world

from moorage.gateway import listener

OK = b"HTTP/1.1 200"


async def start(made: World, *scripts: object) -> None:
    server = await made.instance("a", *(scripts or (answers(b"ok"),)))  # type: ignore[arg-type]
    await made.start(endpoint("ep", variant("v1", server)))


CHUNKED = b"Transfer-Encoding: chunked\r\n"
HOSTILE = {
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "bare LF": b"GET / HTTP/1.1\nHost: a\n\n",
    "folded header": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "equal lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
    "length and coding": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    "coding and length": b"POST / HTTP/1.1\r\nHost: a\r\n" + CHUNKED + b"Content-Length: 1\r\n\r\n0\r\n\r\n",
    "other coding": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "coding of HTTP/1.0": b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "negative length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    "signed length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na",
    "huge length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
    "space before colon": b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    "NUL": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
    "bad chunk size": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n\r\n",
    "absolute target": b"GET http://other/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT": b"CONNECT other:443 HTTP/1.1\r\nHost: a\r\n\r\n",
    "upgrade": b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    "two authorizations": b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n",
}


@pytest.mark.parametrize("request_bytes", HOSTILE.values(), ids=HOSTILE.keys())
async def test_what_can_be_read_in_two_ways_is_refused_and_the_connection_closed(request_bytes: bytes) -> None:
    async with world() as made:
        owner = await made.owner("neighbours", answers(b"reached"))
        await start(made)
        async with made.connected() as (reader, writer):
            writer.write(request_bytes)
            answer = await asyncio.wait_for(read_answer(reader), 5)
            assert await asyncio.wait_for(reader.read(), 5) == b""
        assert not owner.requests
        assert (await made.invoke("ep")).status == 200
    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert answer.json["message"]


@pytest.mark.parametrize(
    "flood",
    [
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 300 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 10_000_000,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * 10_000_000,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"x" * 10_000_000,
    ],
    ids=["target", "headers", "endless header", "endless extension", "endless trailer"],
)
async def test_flood_of_framing_is_refused(flood: bytes) -> None:
    async with world() as made:
        await made.owner("neighbours", hangs)
        await start(made)
        async with made.connected() as (reader, writer):
            writer.write(flood)
            answer = await asyncio.wait_for(read_answer(reader), 5)
    assert (answer.status, answer.headers["connection"]) == (431, "close")


def test_client_too_many_is_told_so_and_sent_away() -> None:
    async def ask() -> bytes:
        server = await asyncio.get_running_loop().create_server(listener._TooMany, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        try:
            return await asyncio.wait_for(reader.read(), 5)
        finally:
            writer.close()
            server.close()

    # On the product's loop: its transports are of no class of asyncio's.
    assert uvloop.run(ask()).startswith(b"HTTP/1.1 503 ")


async def test_head_that_does_not_come_is_given_up() -> None:
    async with world(speed=50) as made:
        await start(made)
        async with made.connected() as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\n")
            answer = await asyncio.wait_for(read_answer(reader), 5)
    assert answer.status == 408


async def test_body_that_does_not_come_is_given_up() -> None:
    async with world(speed=100) as made:
        await start(made)
        async with made.connected() as (reader, writer):
            writer.write(b"POST /endpoints/ep/invocations HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab")
            answer = await asyncio.wait_for(read_answer(reader), 5)
    assert answer.status == 408


async def test_idle_connection_is_closed_in_the_end() -> None:
    async with world(speed=100) as made:
        await start(made)
        async with made.connected() as (reader, _):
            assert await asyncio.wait_for(reader.read(), 5) == b""


async def test_connection_is_kept_from_request_to_request() -> None:
    async with world() as made:
        await start(made)
        async with made.connected() as (reader, writer):
            for _ in range(5):
                writer.write(made.invocation("ep", b"x"))
                assert (await read_answer(reader)).body == b"ok"


async def test_pipelined_invocations_are_answered_in_order() -> None:
    async def echoes(request: object, _: object, writer: asyncio.StreamWriter) -> None:
        body: bytes = request.body  # type: ignore[attr-defined]
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    async with world() as made:
        await start(made, echoes)
        async with made.connected() as (reader, writer):
            writer.write(b"".join(made.invocation("ep", b"%d" % n) for n in range(100)))
            bodies = [(await read_answer(reader)).body for _ in range(100)]
    assert bodies == [b"%d" % n for n in range(100)]


async def test_body_of_a_pipelined_invocation_may_come_later() -> None:
    async with world() as made:
        await start(made)
        second = made.invocation("ep", b"x" * 1000)
        async with made.connected() as (reader, writer):
            writer.write(made.invocation("ep") + second[:-600])
            assert (await read_answer(reader)).status == 200
            writer.write(second[-600:])
            assert (await asyncio.wait_for(read_answer(reader), 5)).body == b"ok"


async def test_thousands_of_pipelined_bad_requests_are_answered() -> None:
    unsigned = b"POST /endpoints/ep/invocations HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
    async with world() as made:
        await start(made)
        async with made.connected() as (reader, writer):
            writer.write(unsigned * 3000)
            statuses = {(await read_answer(reader)).status for _ in range(3000)}
    assert statuses == {403}


async def test_garbage_behind_a_good_request_does_not_harm_it() -> None:
    async with world() as made:
        await start(made)
        async with made.connected() as (reader, writer):
            writer.write(made.invocation("ep") + b"\x00garbage\r\n\r\n")
            answer = await read_answer(reader)
            assert await reader.read() == b""
    assert (answer.body, answer.headers["connection"]) == (b"ok", "close")


async def test_client_that_asks_for_it_is_closed() -> None:
    async with world() as made:
        await start(made)
        async with made.connected() as (reader, writer):
            writer.write(made.invocation("ep", connection="close") + made.invocation("ep"))
            answer = await read_answer(reader)
            assert await reader.read() == b""
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize(("header", "kept"), [("", False), ("Connection: keep-alive\r\n", True)])
async def test_old_client_is_kept_only_when_it_asks(header: str, kept: bool) -> None:  # noqa: FBT001
    async with world() as made:
        await start(made)
        async with made.connected() as (reader, writer):
            writer.write(f"POST /endpoints/ep/invocations HTTP/1.0\r\n{header}Content-Length: 0\r\n\r\n".encode())
            answer = await read_answer(reader)
    assert answer.headers["connection"] == ("keep-alive" if kept else "close")


async def test_request_in_pieces_of_one_byte_is_read() -> None:
    async with world() as made:
        await start(made)
        async with made.connected() as (reader, writer):
            for byte in made.invocation("ep", b"abc"):
                writer.write(bytes([byte]))
                await asyncio.sleep(0)
            assert (await read_answer(reader)).body == b"ok"
        assert made.servers["a"].requests[0].body == b"abc"


async def test_client_that_does_not_read_is_given_up() -> None:
    async with world(speed=200, invocation_timeout_seconds=10_000) as made:
        await start(made, answers(b"x" * 20_000_000))
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port, limit=1000)
        writer.write(made.invocation("ep"))
        await until(lambda: made.servers["a"].requests)
        await until(lambda: reader.at_eof() or reader.exception() or writer.is_closing() or _gone(writer), 10)
        writer.transport.abort()


def _gone(writer: asyncio.StreamWriter) -> bool:
    """Say whether the other side has closed, by writing to it."""
    writer.write(b"\r\n")
    return writer.transport.is_closing()
