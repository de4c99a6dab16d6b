"""Memory of a gateway per idle connection: fresh, after a request, with TLS."""

import contextlib
import http.client
import resource
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.certificates import make_certificate, trusting
from tests.support.product import Moorage, running

from benchmarks.measures import Measure

CONNECTIONS = 10_000
TLS_CONNECTIONS = 2_000
"""Fewer, because each takes a handshake on both sides."""

REQUEST = b"GET /_moorage/health HTTP/1.1\r\nHost: localhost\r\n\r\n"


def measure() -> Iterator[Measure]:
    """Open many connections to one gateway and look at its memory."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    count = min(CONNECTIONS, most // 2 - 200)  # a gateway leaves half of its files for connections to instances
    note = f"{count:,} connections"
    yield Measure("memory per idle connection", "<= 10 kB", f"{_plain(count, asks=False) / 1000:.1f} kB", note)
    yield Measure("the same after a request", "<= 10 kB", f"{_plain(count, asks=True) / 1000:.1f} kB", note)
    yield Measure("the same with TLS", "", f"{_with_tls() / 1000:.1f} kB", f"{TLS_CONNECTIONS:,} connections")


def _plain(count: int, *, asks: bool) -> float:
    with _server() as moorage, contextlib.ExitStack() as stack:
        pid = moorage.pids("gateway")[0]
        _settle(moorage)
        before = _private_bytes(pid)
        for _ in range(count):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", moorage.port)))
            if asks:
                _ask(connection)
        _settle(moorage)
        return (_private_bytes(pid) - before) / count


def _with_tls() -> float:
    with contextlib.ExitStack() as stack:
        files = make_certificate(Path(stack.enter_context(tempfile.TemporaryDirectory())), "server")
        moorage = stack.enter_context(_server("--tls-cert", str(files.cert), "--tls-key", str(files.key)))
        pid, trusted = moorage.pids("gateway")[0], trusting(files.cert)
        before = _private_bytes(pid)
        for _ in range(TLS_CONNECTIONS):
            raw = socket.create_connection(("127.0.0.1", moorage.port))
            _ask(stack.enter_context(trusted.wrap_socket(raw, server_hostname="127.0.0.1")))
        return (_private_bytes(pid) - before) / TLS_CONNECTIONS


def _ask(connection: socket.socket) -> None:
    connection.sendall(REQUEST)
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    answer.read()


def _settle(moorage: Moorage) -> None:
    """Wait until the gateway has accepted whoever came before."""
    with contextlib.closing(socket.create_connection(("127.0.0.1", moorage.port))) as last:
        _ask(last)


def _private_bytes(pid: int) -> int:
    """Give the memory that a process shares with nobody."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return 1024 * sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_"))


@contextlib.contextmanager
def _server(*options: str) -> Iterator[Moorage]:
    with tempfile.TemporaryDirectory() as folder, running(Path(folder) / "data", *options) as moorage:
        yield moorage
