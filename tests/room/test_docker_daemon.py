"""Daemons that misbehave: gone, mute, slow, broken off; nothing waits for ever, and each says what is wrong."""

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from tests.support.engines import DEADLINE_SECONDS

from moorage.base.clock import SystemClock
from moorage.base.tasks import Tasks
from moorage.engine.docker.api import Api, DaemonGone, DaemonRefused
from moorage.engine.docker.container import DockerContainer, Process
from moorage.engine.docker.daemon import Address, Daemon, NoDaemon, ask_daemon, find_daemon
from moorage.engine.docker.engine import make_docker_engine
from moorage.engine.launch import ImageFailure

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="moorage-") as folder:
        yield Path(folder, "docker.sock")


def daemon_at(place: Path) -> Daemon:
    return Daemon(Address(str(place)), "dockerd", "20.10.24", "1.41")


@pytest.fixture
async def serve(place: Path) -> AsyncIterator[Callable[[Answer], Awaitable[Api]]]:
    """Give what starts a daemon that answers as it is told."""
    servers: list[asyncio.Server] = []

    async def start(answer: Answer) -> Api:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await answer(reader, writer)
            finally:
                writer.close()

        servers.append(await asyncio.start_unix_server(handle, place))
        return Api(daemon_at(place))

    yield start
    for server in servers:
        server.close()


Serve = Callable[[Answer], Awaitable[Api]]


def says(content: bytes) -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(content)
        await writer.drain()

    return answer


async def is_mute(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def test_answer_is_read_in_whatever_pieces_it_comes(serve: Serve) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"GET /v1.41/info?a=b+c HTTP/1.1\r\n")
        for byte in b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n{"a": 1\r\n1\r\n}\r\n0\r\n\r\n':
            writer.write(bytes([byte]))
            await writer.drain()

    api = await serve(answer)
    assert await api.call("GET", "/info", query={"a": "b c"}) == {"a": 1}


async def test_answer_without_content_is_none(serve: Serve) -> None:
    api = await serve(says(b"HTTP/1.1 204 No Content\r\n\r\n"))
    assert await api.call("POST", "/containers/x/start") is None


async def test_refusal_is_told_in_the_daemons_words(serve: Serve) -> None:
    api = await serve(says(b'HTTP/1.1 409 Conflict\r\nContent-Length: 21\r\n\r\n{"message": "not so"}'))
    with pytest.raises(DaemonRefused, match="not so") as refused:
        await api.call("GET", "/x")
    assert refused.value.status == 409


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    ],
)
async def test_what_is_no_whole_answer_is_a_daemon_that_is_gone(serve: Serve, content: bytes) -> None:
    api = await serve(says(content))
    with pytest.raises(DaemonGone):
        await api.call("GET", "/x")


async def test_daemon_that_is_not_there_is_gone(place: Path) -> None:
    with pytest.raises(DaemonGone, match=r"dockerd 20\.10\.24 at unix://.* is gone"):
        await Api(daemon_at(place)).call("GET", "/x")


async def test_daemon_that_is_mute_is_waited_for_only_so_long(serve: Serve) -> None:
    api = await serve(is_mute)
    with pytest.raises(DaemonGone, match=r"gave no answer in 0\.05 seconds"):
        await api.call("GET", "/x", seconds=0.05)
    with pytest.raises(DaemonGone, match=r"gave no answer in 0\.05 seconds"):
        async with api.stream("GET", "/x", seconds=0.05):
            raise AssertionError("there was an answer")


async def test_image_of_a_daemon_that_is_gone_fails_and_says_so(place: Path, tmp_path: Path) -> None:
    engine = make_docker_engine(daemon_at(place), tmp_path, {}, SystemClock(), tmp_path / "config.json")
    await engine.prepare()
    assert not await engine.has("team/model:1")
    with pytest.raises(ImageFailure, match=r"team/model:1 could not be (had|pulled): dockerd .* is gone"):
        await engine.ensure("team/model:1", lambda _line: None)
    await engine.close()


async def test_container_of_a_daemon_that_is_gone_has_ended_when_the_kernel_says_so(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moorage.engine.docker.container._TOLD_SECONDS", 0.05)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as program:
        tasks = Tasks()
        process = Process(program.pid)
        container = DockerContainer(
            Api(daemon_at(place)), "c" * 64, address="", process=process, tasks=tasks, clock=SystemClock()
        )
        cleaned: list[bool] = []

        async def nothing() -> None:
            return

        async def clean() -> None:
            process.close()
            cleaned.append(True)

        tasks.start("watch", container.watch(tasks.start("output", nothing()), clean))
        await asyncio.sleep(0)
        assert not container.ended.done()
        container.terminate()
        await container.kill()
        end = await asyncio.wait_for(asyncio.shield(container.ended), DEADLINE_SECONDS)
        assert (end.code, end.out_of_memory, cleaned) == (-9, False, [True])
        await tasks.close()


async def test_container_is_watched_on_when_its_daemon_comes_back(place: Path) -> None:
    asked: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        asked.append(request.rpartition("/")[2])
        if len(asked) == 1:
            return  # it broke off: it is being started anew
        content = b'{"State": {"ExitCode": 3, "Running": false}}' if request.endswith("json") else b'{"StatusCode": 3}'
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(content), content))

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answer(reader, writer)
        writer.close()

    server = await asyncio.start_unix_server(handle, place)
    tasks = Tasks()
    api = Api(daemon_at(place))
    container = DockerContainer(api, "c" * 64, address="", process=None, tasks=tasks, clock=SystemClock())

    async def nothing() -> None:
        return

    tasks.start("watch", container.watch(tasks.start("output", nothing()), nothing))
    end = await asyncio.wait_for(asyncio.shield(container.ended), DEADLINE_SECONDS)
    assert end.code == 3
    assert asked == ["wait", "wait", "json"]
    await tasks.close()
    server.close()


# --- finding one


def test_daemon_that_is_named_and_not_there_is_told(place: Path) -> None:
    with pytest.raises(NoDaemon, match=f"no Docker daemon answers at unix://{place}"):
        find_daemon({"DOCKER_HOST": f"unix://{place}"})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may use every socket")
def test_socket_that_this_user_may_not_use_is_told(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        place.chmod(0)
        with pytest.raises(NoDaemon, match="may not be used by this user"):
            ask_daemon(Address(str(place)))


def test_something_else_than_a_daemon_is_told(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen()

        def answer() -> None:
            for _ in range(2):
                connection, _address = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(NoDaemon, match="is no Docker daemon"):
            ask_daemon(Address(str(place)))
        thread.join()
