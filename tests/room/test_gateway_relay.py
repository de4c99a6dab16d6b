import asyncio
import time
import xml.etree.ElementTree as ET

import pytest
from tests.support.gateway import (
    Request,
    answers,
    cuts,
    hangs,
    read_answer,
    says,
    signed,
    until,
    world,
)

LIST = b"POST / HTTP/1.1\r\nHost: h\r\nX-Amz-Target: SageMaker.ListModels\r\nContent-Length: 2\r\n\r\n{}"


async def test_request_and_answer_go_through_as_they_are() -> None:
    async with world() as made:
        owner = await made.owner("neighbours", answers(b"body", 206, 'ETag: "x"\r\nX-Own:  two  words \r\n'))
        await made.start_gateway()
        target = "/b/%7Ea%2Fb//c?list-type=2&prefix=%2f&X-Odd"
        answer = await made.raw(
            f"PUT {target} HTTP/1.1\r\nHost: Own.Host:1\r\nX-Odd-CASE: a  b\r\nConnection: keep-alive, X-Hop\r\n"
            "X-Hop: 1\r\nX-Moorage-Source-Ip: 10.0.0.1\r\nX-Moorage-Secure-Transport: true\r\n"
            "TE: trailers\r\nContent-Length: 3\r\n\r\nabc".encode()
        )
        request = owner.requests[0]
    assert request.line == f"PUT {target} HTTP/1.1"
    assert request.headers == [
        ("Host", "Own.Host:1"),
        ("X-Odd-CASE", "a  b"),
        ("Content-Length", "3"),
        ("x-moorage-source-ip", "127.0.0.1"),
        ("x-moorage-secure-transport", "false"),
    ]
    assert request.body == b"abc"
    assert (answer.status, answer.body) == (206, b"body")
    assert (answer.headers["etag"], answer.headers["x-own"]) == ('"x"', "two  words")


@pytest.mark.parametrize(
    ("request_bytes", "owner"),
    [
        (LIST, "control"),
        (b"GET /_moorage/health HTTP/1.1\r\nHost: h\r\n\r\n", "control"),
        (b"GET /bucket/key HTTP/1.1\r\nHost: h\r\n\r\n", "neighbours"),
        (signed("/", b"{}", [], 1), "control"),
        (signed("/bucket", b"", [], 1, method="PUT", service="s3"), "neighbours"),
        (signed("/endpoints/key", b"", [], 1, method="PUT", service="s3"), "neighbours"),
        (
            b"GET /b/k?X-Amz-Credential=AK%2F20260101%2Fus-east-1%2Fs3%2Faws4_request HTTP/1.1\r\nHost: h\r\n\r\n",
            "neighbours",
        ),
    ],
)
async def test_request_goes_to_its_owner(request_bytes: bytes, owner: str) -> None:
    async with world() as made:
        await made.owner("control", answers(b"control"))
        await made.owner("neighbours", answers(b"neighbours"))
        await made.start_gateway()
        answer = await made.raw(request_bytes)
    assert answer.body == owner.encode()


@pytest.mark.parametrize(
    ("service", "content_type", "form"),
    [("monitoring", "application/x-amz-json-1.0", b'{"'), ("sns", "application/x-www-form-urlencoded", b"<Err")],
)
async def test_service_that_is_not_there_is_a_clear_error(service: str, content_type: str, form: bytes) -> None:
    async with world() as made:
        await made.start_gateway()
        answer = await made.raw(signed("/", b"Action=x", [("content-type", content_type)], 1, service=service))
    assert answer.status == 400
    assert answer.body.startswith(form)
    assert f"Moorage does not have the service '{service}'".encode() in answer.body


async def test_head_has_the_length_and_no_body() -> None:
    async with world() as made:
        await made.owner("neighbours", says(b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n"))
        await made.start_gateway()
        async with made.connected() as (reader, writer):
            for _ in range(3):
                writer.write(b"HEAD /b/k HTTP/1.1\r\nHost: h\r\n\r\n")
                answer = await read_answer(reader, head_only=True)
                assert answer.headers["content-length"] == "12345"
        assert made.servers["neighbours"].connections == 1


@pytest.mark.parametrize("status", [204, 304])
async def test_bodiless_answer_ends_with_its_head(status: int) -> None:
    async with world() as made:
        await made.owner("neighbours", says(f"HTTP/1.1 {status} X\r\nETag: e\r\n\r\n".encode()), answers(b"next"))
        await made.start_gateway()
        async with made.connected() as (reader, writer):
            writer.write(b"GET /b/k HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (await read_answer(reader)).status == status
            writer.write(b"GET /b/k HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (await read_answer(reader)).body == b"next"


CHUNKED = says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")


@pytest.mark.parametrize("script", [CHUNKED, cuts(b"HTTP/1.1 200 OK\r\n\r\nabcde")], ids=["chunked", "until close"])
async def test_answer_of_unknown_length_is_chunked_and_the_connection_goes_on(script: object) -> None:
    async with world() as made:
        await made.owner("neighbours", script)  # type: ignore[arg-type]
        await made.start_gateway()
        async with made.connected() as (reader, writer):
            for _ in range(2):
                writer.write(b"GET /b/k HTTP/1.1\r\nHost: h\r\n\r\n")
                answer = await read_answer(reader)
                assert (answer.headers["transfer-encoding"], answer.body) == ("chunked", b"abcde")


async def test_old_client_gets_no_chunks() -> None:
    async with world() as made:
        await made.owner("neighbours", CHUNKED)
        await made.start_gateway()
        async with made.connected() as (reader, writer):
            writer.write(b"GET /b/k HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert b"Connection: close" in head
    assert body == b"abcde"


async def test_chunked_request_arrives_whole() -> None:
    async with world() as made:
        owner = await made.owner("neighbours", answers(b""))
        await made.start_gateway()
        await made.raw(
            b"PUT /b/k HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        )
        assert (owner.requests[0].body, owner.requests[0].header("transfer-encoding")) == (b"abcde", "chunked")


async def test_pipelined_requests_are_answered_in_order() -> None:
    async def echoes(request: Request, _: object, writer: asyncio.StreamWriter) -> None:
        body = request.line.encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    async with world() as made:
        await made.owner("neighbours", echoes)
        await made.start_gateway()
        async with made.connected() as (reader, writer):
            writer.write(b"".join(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % n for n in range(500)))
            lines = [(await read_answer(reader)).body for _ in range(500)]
        assert made.servers["neighbours"].connections == 1
    assert lines == [b"GET /%d HTTP/1.1" % n for n in range(500)]


async def test_client_that_waits_for_100_gets_it_from_the_owner() -> None:
    async def asks(_: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await reader.readexactly(5)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + body)

    async with world() as made:
        server = await made.owner("neighbours", asks)
        server.reads_bodies = False
        await made.start_gateway()
        async with made.connected() as (reader, writer):
            writer.write(b"PUT /b/k HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"hello")
            assert (await read_answer(reader)).body == b"hello"


async def test_answer_before_the_body_is_seen_by_a_client_that_goes_on_sending() -> None:
    async with world() as made:
        server = await made.owner("neighbours", answers(b"no", 403))
        server.reads_bodies = False
        await made.start_gateway()
        async with made.connected() as (reader, writer):
            writer.write(b"PUT /b/k HTTP/1.1\r\nHost: h\r\nContent-Length: 30000000\r\n\r\n")
            for _ in range(30):
                writer.write(b"x" * 1_000_000)
                await writer.drain()
            answer = await read_answer(reader)
    assert (answer.status, answer.headers["connection"], answer.body) == (403, "close", b"no")


@pytest.mark.parametrize("framing", ["Content-Length: 10", "Transfer-Encoding: chunked"])
async def test_request_after_one_that_was_answered_early_is_not_taken_for_its_body(framing: str) -> None:
    async with world() as made:
        owner = await made.owner("neighbours", answers(b"no", 403), answers(b"next"))
        owner.reads_bodies = False
        await made.start_gateway()
        early = await made.raw(f"POST /b HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n".encode())
        answer = await made.raw(b"GET /b/k HTTP/1.1\r\nHost: h\r\n\r\n")
    assert (early.status, answer.body) == (403, b"next")
    assert owner.connections == 2


async def test_owner_that_is_being_restarted_is_waited_for() -> None:
    async with world() as made:
        owner = await made.owner("control", answers(b"first"), answers(b"second"))
        await made.start_gateway()
        async with made.connected() as (reader, writer):
            writer.write(LIST)
            assert (await read_answer(reader)).body == b"first"
            await owner.kill()
            writer.write(LIST)
            await asyncio.wait_for(owner_was_asked(made.folder), 5)
            await owner.start()
            assert (await read_answer(reader)).body == b"second"


async def owner_was_asked(_: object) -> None:
    """Give the gateway the time to be refused a few times."""
    began = time.monotonic()
    await until(lambda: time.monotonic() > began + 0.1)


@pytest.mark.parametrize(
    ("request_bytes", "kind"),
    [(LIST, "json"), (b"GET /_moorage/health HTTP/1.1\r\nHost: h\r\n\r\n", "json")],
)
async def test_missing_control_plane_is_unavailable_in_its_form(request_bytes: bytes, kind: str) -> None:
    async with world(speed=20) as made:
        await made.start_gateway()
        answer = await made.raw(request_bytes)
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (503, "ServiceUnavailable")
    assert answer.json["__type"] == "ServiceUnavailable"
    assert kind in answer.headers["content-type"]


async def test_missing_neighbours_are_unavailable_in_s3_s_form() -> None:
    async with world(speed=20) as made:
        await made.start_gateway()
        answer = await made.raw(b"GET /b/k&<y HTTP/1.1\r\nHost: h\r\n\r\n")
    assert answer.status == 503
    assert ET.fromstring(answer.body).findtext("Code") == "ServiceUnavailable"


async def test_owner_that_dies_before_its_answer_is_unavailable_and_not_asked_again() -> None:
    async with world() as made:
        owner = await made.owner("control", cuts(b""), answers(b"second"))
        await made.start_gateway()
        answer = await made.raw(LIST)
        assert len(owner.requests) == 1
    assert answer.status == 503


async def test_owner_that_dies_in_its_answer_breaks_the_connection() -> None:
    async with world() as made:
        await made.owner("neighbours", cuts(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"))
        await made.start_gateway()
        async with made.connected() as (reader, writer):
            writer.write(b"GET /b/k HTTP/1.1\r\nHost: h\r\n\r\n")
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await read_answer(reader)


async def test_client_that_goes_ends_the_owner_s_request() -> None:
    async with world() as made:
        owner = await made.owner("control", hangs)
        await made.start_gateway()
        async with made.connected() as (_, writer):
            writer.write(LIST)
            await until(lambda: owner.requests)
        await until(lambda: owner.open_connections == 0)


async def test_upload_waits_for_an_owner_that_does_not_read() -> None:
    async with world() as made:
        server = await made.owner("neighbours", hangs_without_reading)
        server.reads_bodies = False
        await made.start_gateway()
        async with made.connected() as (_, writer):
            writer.write(b"PUT /b/k HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000\r\n\r\n")
            sent = 0

            async def upload() -> None:
                nonlocal sent
                while sent < 200_000_000:
                    writer.write(b"x" * 500_000)
                    sent += 500_000
                    await asyncio.wait_for(writer.drain(), 0.5)

            with pytest.raises(TimeoutError):
                await upload()
            writer.transport.abort()
    assert sent < 30_000_000


async def hangs_without_reading(_: Request, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await writer.wait_closed()


async def test_download_waits_for_a_client_that_does_not_read() -> None:
    sent = 0

    async def floods(_: Request, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while sent < 1_000_000_000:
            writer.write(b"x" * 500_000)
            sent += 500_000
            await writer.drain()

    async with world() as made:
        await made.owner("neighbours", floods)
        await made.start_gateway()
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port, limit=65_536)
        writer.write(b"GET /b/k HTTP/1.1\r\nHost: h\r\n\r\n")
        await until(lambda: sent > 1_000_000)
        seen = [-1, sent]
        while seen[-1] != seen[-2]:
            began = time.monotonic()
            await until(lambda began=began: time.monotonic() > began + 0.2)  # type: ignore[misc]
            seen.append(sent)
        assert sent < 30_000_000
        received = len(await reader.readexactly(60_000_000))
        writer.transport.abort()
    assert received == 60_000_000
    assert sent > 60_000_000


async def test_large_objects_go_through_both_ways() -> None:
    size = 40_000_000

    async def echoes(_: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        left = size
        while left:
            data = await reader.read(65_536)
            left -= len(data)
            writer.write(data)
            await writer.drain()

    async with world() as made:
        server = await made.owner("neighbours", echoes)
        server.reads_bodies = False
        await made.start_gateway()
        async with made.connected() as (reader, writer):

            async def upload() -> None:
                writer.write(b"PUT /b/k HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size)
                for _ in range(size // 1_000_000):
                    writer.write(bytes(1_000_000))
                    await writer.drain()

            uploading = made.tasks.start("upload", upload())
            answer = await asyncio.wait_for(read_answer(reader), 30)
            await uploading
    assert answer.body == bytes(size)
