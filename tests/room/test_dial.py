"""``dial:`` addresses: a container in a network namespace of its own is reached from outside."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.gateway import FakeServer, World, answers, endpoint, variant, world
from tests.support.ordinary_user import run_again_as_ordinary_user

from moorage.base.dial import connect_through
from moorage.engine.dial import Dialler
from moorage.engine.ping import NoAnswer, ping

AS_ROOT = os.geteuid() == 0

SERVER = """
import fcntl, http.server, socket, struct, sys
plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
fcntl.ioctl(plain, 0x8914, struct.pack("16sh", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        said = f"{self.headers['Host']} {self.client_address[1]}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)
    def log_message(self, *_):
        pass

class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128

for line in sys.stdin:
    if line == "up\\n":
        print("up", flush=True)
    else:
        server = Server(("127.0.0.1", int(line)), Handler)
        print("listening", flush=True)
        server.serve_forever()
"""


@dataclass
class Room:
    """A process in a network namespace in which nothing but the loopback is."""

    process: "subprocess.Popen[str]"
    folder: Path

    def tell(self, word: object) -> str:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()

    @asynccontextmanager
    async def dialled(self, port: int = 8080) -> AsyncIterator[Dialler]:
        dialler = await Dialler.open(self.process.pid, self.folder / "i.sock", port)
        try:
            yield dialler
        finally:
            await dialler.close()


@pytest.fixture
def room() -> Iterator[Room]:
    folder = Path(tempfile.mkdtemp(prefix="moorage-"))
    namespaces = ["--net"] if AS_ROOT else ["--user", "--map-root-user", "--net"]
    process = subprocess.Popen(
        ["unshare", *namespaces, sys.executable, "-Ic", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    made = Room(process, folder)
    if made.tell("up") != "up":
        pytest.skip("no network namespace can be made here")
    yield made
    made.end()
    shutil.rmtree(folder)


async def test_container_is_reached_in_its_own_network(room: Room) -> None:
    assert room.tell(8080) == "listening"
    async with room.dialled() as dialler:
        assert dialler.address == f"dial:{room.folder}/i.sock"
        assert await ping(dialler.address, 5) == 200


async def test_another_port_is_reached_where_the_container_listens_there(room: Room) -> None:
    assert room.tell(9000) == "listening"
    async with room.dialled(9000) as dialler:
        assert await ping(dialler.address, 5) == 200


async def test_port_of_the_same_number_on_the_machine_itself_is_not_reached(room: Room) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        async with room.dialled(listener.getsockname()[1]) as dialler:
            with pytest.raises(NoAnswer, match="Errno 111"):
                await ping(dialler.address, 5)


async def test_container_that_does_not_listen_yet_refuses(room: Room) -> None:
    async with room.dialled() as dialler:
        with pytest.raises(ConnectionRefusedError):
            await connect_through(str(room.folder / "i.sock"))
        with pytest.raises(NoAnswer, match="Errno 111"):
            await ping(dialler.address, 5)
        assert room.tell(8080) == "listening"
        assert await ping(dialler.address, 5) == 200


async def test_container_that_has_ended_refuses(room: Room) -> None:
    assert room.tell(8080) == "listening"
    async with room.dialled() as dialler:
        room.end()
        with pytest.raises(NoAnswer, match="Errno 111"):
            await ping(dialler.address, 5)


async def test_nothing_is_served_and_no_file_left_after_the_close(room: Room) -> None:
    async with room.dialled():
        pass
    assert not (room.folder / "i.sock").exists()
    with pytest.raises(FileNotFoundError):
        await connect_through(str(room.folder / "i.sock"))


async def test_callers_do_not_wait_for_one_who_never_reads(room: Room) -> None:
    assert room.tell(8080) == "listening"
    async with room.dialled() as dialler:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as idle:
            idle.connect(str(room.folder / "i.sock"))
            assert await asyncio.gather(*(ping(dialler.address, 10) for _ in range(50))) == [200] * 50


async def test_process_that_is_gone_cannot_be_dialled(room: Room) -> None:
    room.end()
    with pytest.raises(OSError, match="No such"):
        await Dialler.open(room.process.pid, room.folder / "i.sock")
    assert not (room.folder / "i.sock").exists()


@pytest.mark.skipif(AS_ROOT, reason="root serves by a thread")
async def test_helper_of_an_ordinary_user_ends_with_whoever_started_it(room: Room) -> None:
    async with room.dialled() as dialler:
        assert dialler._helper is not None
        assert dialler._helper.stdin is not None
        dialler._helper.stdin.close()
        dialler._helper.stdin = None
        assert await asyncio.to_thread(dialler._helper.wait, 5) == 0


class Dialled(FakeServer):
    """A server of the gateway's world that is reached through a dialler."""

    @property
    def address(self) -> str:
        return f"dial:{self.path}"


async def start(made: World, room: Room) -> None:
    server = Dialled(room.folder / "i.sock", answers(b""))
    await made.start(endpoint("ep", variant("v1", server)))


async def test_gateway_invokes_through_it_and_keeps_the_connection(room: Room) -> None:
    assert room.tell(8080) == "listening"
    async with room.dialled(), world() as made:
        await start(made, room)
        said = {(await made.invoke("ep")).body.decode() for _ in range(3)}
        room.end()  # and with it the connection that the gateway keeps
    assert len(said) == 1  # the same client's port each time
    assert said.pop().startswith("localhost ")


async def test_gateway_takes_a_refusal_for_an_instance_that_is_not_there(room: Room) -> None:
    async with room.dialled(), world() as made:
        await start(made, room)
        assert (await made.invoke("ep")).status == 424
        assert made.control.said("unreachable")


@pytest.mark.skipif(not AS_ROOT, reason="is run by root, as another user")
def test_all_this_holds_for_an_ordinary_user(tmp_path: Path) -> None:
    run_again_as_ordinary_user(__file__, tmp_path / "home")
