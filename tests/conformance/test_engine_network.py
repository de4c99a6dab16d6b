"""What a model reaches by the network, tried from inside; and from the machine first, where each address answers."""

import asyncio
import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from tests.support.any_engine import AnyBench
from tests.support.engines import OBEDIENT, Bench, bench, is_living, processes_that_say, until
from tests.support.machine import MACHINE
from tests.support.product import descendants

from moorage.base.clock import SystemClock
from moorage.engine.launch import LaunchFailed
from moorage.engine.machine import Need
from moorage.engine.network import OutsideNetwork, SharedNetwork, resolver_settings
from moorage.engine.trees import read_processes

INTERNET = ("1.1.1.1", 443)
METADATA = ("169.254.169.254", 80)
NAME = "pypi.org"

QUESTION = b"ab\1\0\0\1\0\0\0\0\0\0\4pypi\3org\0\0\1\0\1"
"""For the address of that name."""

UNREACHABLE = "[Errno 101] Network is unreachable"

needs_pasta = pytest.mark.skipif(
    Need.OUTSIDE_NETWORK in MACHINE.lacks, reason=f"no pasta: {MACHINE.lacks.get(Need.OUTSIDE_NETWORK)}"
)


def reached_from_here(address: tuple[str, int]) -> bool:
    """Look whether the machine itself reaches an address: without that, not to reach it from inside says nothing."""
    try:
        socket.create_connection(address, 3).close()
    except OSError:
        return False
    return True


def attempt(address: tuple[str, int]) -> str:
    """Make the expression that a model tries to connect with."""
    return f"socket.create_connection({address!r}, 3).close()"


@contextmanager
def listening(family: socket.AddressFamily, address: tuple[str, int] | str) -> Iterator[socket.socket]:
    with closing(socket.socket(family, socket.SOCK_STREAM)) as listener:
        listener.bind(address)
        listener.listen()
        yield listener


DELETE_RULE = """
import struct
def delete_rule():
    rule = struct.pack("=BBBBBBBBI", socket.AF_INET, 16, 0, 0, 0, 0, 0, 7, 0)
    body = rule + struct.pack("=HH", 8, 1) + bytes([169, 254, 0, 0])
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as kernel:
        kernel.send(struct.pack("=IHHII", 16 + len(body), 33, 5, 1, 0) + body)
        return struct.unpack_from("=i", kernel.recv(4096), 16)[0]
"""


# --- isolated: EnableNetworkIsolation


@pytest.mark.promise("no-network")
async def test_isolated_model_reaches_nothing_and_answers(any_engine: AnyBench) -> None:
    instance = await any_engine.ready(isolated=True)
    for address in (INTERNET, METADATA):
        if not reached_from_here(address):
            pytest.skip(f"{address} is not reached from this machine either")
        assert UNREACHABLE in await instance.ask(attempt(address))
    assert "gaierror" in await instance.ask(f"socket.getaddrinfo({NAME!r}, 443)")
    assert await instance.ask("socket.if_nameindex()") == "[(1, 'lo')]"


@pytest.mark.promise("no-network")
async def test_isolated_model_does_not_reach_what_listens_on_the_machine(any_engine: AnyBench) -> None:
    instance = await any_engine.ready(isolated=True)
    with listening(socket.AF_INET, ("0.0.0.0", 0)) as listener, closing(socket.socket(type=socket.SOCK_DGRAM)) as any_:
        port = listener.getsockname()[1]
        any_.connect(INTERNET)  # sends nothing: says by which address the machine would be reached
        for host in ("127.0.0.1", any_.getsockname()[0]):
            assert reached_from_here((host, port))
            assert "Error" in await instance.ask(attempt((host, port)))


@pytest.mark.promise("no-network")
async def test_isolated_model_has_a_loopback_of_its_own(any_engine: AnyBench) -> None:
    first, second = (
        await any_engine.ready(name="first", isolated=True),
        await any_engine.ready(name="second", isolated=True),
    )
    for instance in (first, second):  # the same port, twice
        assert await instance.ask("globals().update(own=socket.create_server(('127.0.0.1', 4711)))") == "None"
        assert await instance.ask(attempt(("127.0.0.1", 4711))) == "None"


async def test_loopback_of_an_isolated_model_is_there_in_both_versions(sandbox: Bench) -> None:
    if sandbox.engine.name == "docker":
        pytest.skip("docker: a daemon without IPv6 gives its containers none")
    instance = await sandbox.ready(isolated=True)
    assert await instance.ask("socket.create_server(('::1', 4712), family=socket.AF_INET6).close()") == "None"


@pytest.mark.promise("no-network")
@pytest.mark.promise("privileges")
async def test_isolated_model_cannot_join_another_network_or_make_a_device(any_engine: AnyBench) -> None:
    instance = await any_engine.ready(isolated=True)
    assert "Error" in await instance.ask("open('/dev/net/tun', 'r+b')")
    assert await instance.ask("(lambda f: ctypes.CDLL(None).setns(f.fileno(), 0))(open('/proc/self/ns/net'))") == "-1"
    assert "Error" in await instance.ask("socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)")


async def test_engine_that_cannot_isolate_refuses_to_start_an_instance_that_is_to_be(tmp_path: Path) -> None:
    async with bench("process", tmp_path) as made:
        with pytest.raises(LaunchFailed, match="the engine process cannot take the network away"):
            await made.ready(isolated=True)


# --- not isolated


@needs_pasta
async def test_model_with_network_reaches_the_outside_by_name(sandbox: Bench) -> None:
    instance = await sandbox.ready()
    if not reached_from_here(INTERNET) or not reached_from_here((NAME, 443)):
        pytest.skip("the outside is not reached from this machine either")
    assert await instance.ask(attempt(INTERNET)) == "None"
    assert await instance.ask(attempt((NAME, 443))) == "None"


@pytest.mark.promise("loopback")
@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
async def test_model_does_not_reach_the_machines_loopback(
    any_engine: AnyBench, family: socket.AddressFamily, host: str
) -> None:
    instance = await any_engine.ready()
    with listening(family, (host, 0)) as listener:
        address = (host, listener.getsockname()[1])
        assert reached_from_here(address)
        # Where there is no IPv6 at all, that is what the answer says.
        assert "Error" in (said := await instance.ask(attempt(address)))
        assert "refused" in said or family is socket.AF_INET6


@pytest.mark.promise("loopback")
async def test_model_does_not_reach_unix_sockets_without_a_file(any_engine: AnyBench) -> None:
    instance = await any_engine.ready()
    name = f"\0moorage-test-{os.getpid()}"
    with listening(socket.AF_UNIX, name), closing(socket.socket(socket.AF_UNIX)) as control:
        control.connect(name)
        assert "ConnectionRefusedError" in await instance.ask(f"socket.socket(socket.AF_UNIX).connect({name!r})")


@pytest.mark.promise("link-local")
async def test_model_does_not_reach_the_metadata_service_of_a_cloud(any_engine: AnyBench) -> None:
    instance = await any_engine.ready()
    if not reached_from_here(METADATA):
        pytest.skip("nothing answers at the address of the metadata service on this machine either")
    said = await instance.ask(attempt(METADATA))
    assert UNREACHABLE in said or "No route to host" in said


@pytest.mark.promise("link-local")
@pytest.mark.parametrize("address", ["169.254.0.1", "169.254.170.2", "fd00:ec2::254"])
async def test_model_does_not_reach_link_local_addresses(any_engine: AnyBench, address: str) -> None:
    instance = await any_engine.ready()
    said = await instance.ask(attempt((address, 80)))
    assert any(f"[Errno {number}]" in said for number in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL))


@pytest.mark.promise("link-local")
async def test_model_does_not_reach_the_neighbours_on_the_wire(engine: Bench) -> None:
    instance = await engine.ready()
    tried = (
        "[socket.socket(socket.AF_INET6).connect(('fe80::1', 80, 0, number)) for number, _ in socket.if_nameindex()]"
    )
    said = await instance.ask(tried)
    assert any(f"[Errno {number}]" in said for number in (errno.ENETUNREACH, errno.EADDRNOTAVAIL))


@pytest.mark.promise("link-local")
@pytest.mark.promise("privileges")
async def test_model_cannot_take_back_what_refuses_link_local_addresses(engine: Bench) -> None:
    instance = await engine.ready(OBEDIENT + DELETE_RULE)
    asked = await instance.ask("delete_rule()")
    assert asked == "-1"  # EPERM


# --- what carries it


def pastas() -> set[int]:
    """Give the processes of pasta that this one has started, without what they start themselves."""
    children = {entry.pid for entry in read_processes() if entry.parent == os.getpid()}
    return set(processes_that_say("--no-map-gw")) & children


@needs_pasta
async def test_network_is_made_anew_when_pasta_is_killed() -> None:
    others = pastas()
    network = await asyncio.to_thread(SharedNetwork, SystemClock(), as_root=MACHINE.as_root)
    (pasta,) = pastas() - others
    anew = asyncio.Event()

    async def made_anew() -> None:
        anew.set()

    network.tell(made_anew)
    keeping = asyncio.get_running_loop().create_task(network.keep())
    try:
        before = network.enter()
        os.kill(pasta, signal.SIGKILL)
        async with asyncio.timeout(20):
            await anew.wait()
        assert network.enter() != before
        said = subprocess.run([*network.enter(), "cat", "/proc/net/dev"], capture_output=True, text=True, check=True)
        assert len(said.stdout.splitlines()) > 3
    finally:
        keeping.cancel()
        await asyncio.to_thread(network.close)


@needs_pasta
async def test_nothing_of_the_network_is_left_when_its_maker_is_killed(tmp_path: Path) -> None:
    code = (
        "from moorage.base.clock import SystemClock; from moorage.engine.network import OutsideNetwork; import os\n"
        "network = OutsideNetwork.open(SystemClock(), as_root=os.getuid() == 0); print('made', flush=True); input()"
    )
    maker = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert maker.stdout is not None
    assert maker.stdin is not None
    with maker.stdin, maker.stdout:
        assert maker.stdout.readline() == b"made\n"
        family = descendants(maker.pid)
        assert len(family) >= 2
        maker.kill()
        maker.wait()
        await until(lambda: not any(map(is_living, family)), "pasta and what it runs have ended")


@needs_pasta
def test_pasta_asks_for_instances_where_the_name_server_is_out_of_their_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    if not reached_from_here((NAME, 443)):
        pytest.skip("names are not known on this machine either")
    monkeypatch.setattr("moorage.engine.network._RESOLVER_FILES", ())
    assert resolver_settings() == "nameserver 192.0.0.53\n"
    ask = (
        "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.settimeout(5); "
        f"s.sendto({QUESTION!r}, ('192.0.0.53', 53)); print(len(s.recv(512)))"
    )
    with closing(OutsideNetwork.open(SystemClock(), as_root=MACHINE.as_root)) as own:
        said = subprocess.run([*own.enter(), sys.executable, "-c", ask], capture_output=True, text=True, check=False)
    assert int(said.stdout or 0) > len(QUESTION), said.stderr
