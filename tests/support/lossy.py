"""A network that loses answers: a TCP relay before the product that swallows the first two answers to some requests.

The first time the connection is closed instead of an answer, the second time the client gets a 503 that the product
never sent. The product has done what was asked both times, and an SDK sends its request again.
"""

import contextlib
import socket
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

_MOST_LOST = 2
_UNAVAILABLE = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/x-amz-json-1.1\r\n"
    b"Content-Length: 0\r\nConnection: close\r\n\r\n"
)


@dataclass
class Lossy:
    """A relay to one server; requests whose body has ``marker`` lose their first answers."""

    server: tuple[str, int]
    marker: bytes
    seen: list[dict[str, str]] = field(default_factory=list)
    """The headers of each request that has the marker, by their names in lower case."""

    @property
    def url(self) -> str:
        """Give the address for clients."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def open(self) -> None:
        """Listen, and relay each connection in a thread of its own."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop listening; connections end with their clients."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, socket.create_connection(self.server) as server:
            threading.Thread(target=_pipe, args=(server, client), daemon=True).start()
            reader = client.makefile("rb")
            while request := _read(reader):
                head, body = request
                if self.marker in body:
                    self.seen.append(_headers(head))
                    if len(self.seen) <= _MOST_LOST:
                        self._lose(client, head + body)
                        return
                server.sendall(head + body)

    def _lose(self, client: socket.socket, request: bytes) -> None:
        """Have the request done, and keep the answer."""
        with socket.create_connection(self.server) as server:
            server.sendall(request)
            _read(server.makefile("rb"))
        if len(self.seen) == _MOST_LOST:
            client.sendall(_UNAVAILABLE)
        client.shutdown(socket.SHUT_RDWR)


def _pipe(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while content := source.recv(65_536):
            sink.sendall(content)
        sink.shutdown(socket.SHUT_WR)


def _read(reader: BinaryIO) -> tuple[bytes, bytes] | None:
    """Read one message of HTTP/1.1 with a Content-Length; None at the end of the connection."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = reader.readline()
        if not line:
            return None
        head += line
    return head, reader.read(int(_headers(head).get("content-length", "0"))) or b""


def _headers(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return {name.lower(): value.strip() for name, value in pairs}


@contextlib.contextmanager
def lossy(url: str, marker: bytes) -> Iterator[Lossy]:
    """Have a relay before the server at ``url`` for the length of a test."""
    address = urllib.parse.urlsplit(url)
    assert address.hostname is not None
    assert address.port is not None
    relay = Lossy((address.hostname, address.port), marker)
    relay.open()
    try:
        yield relay
    finally:
        relay.close()
