"""InvokeEndpointWithResponseStream: how much later the first piece of an answer comes through the gateway."""

import socket
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from benchmarks.gateway import nginx, ours
from benchmarks.gateway.behind import behind
from benchmarks.gateway.cpu import added
from benchmarks.gateway.machine import Server, cores, on_core
from benchmarks.gateway.plan import Plan
from benchmarks.gateway.requests import ENDPOINT, Signer, csv_bodies, signed, unsigned
from benchmarks.measures import Measure, NotMeasured

PATH = f"/endpoints/{ENDPOINT}/invocations-response-stream"
IN_A_ROW, PATIENCE_SECONDS = 200, 10.0


def measure(plan: Plan) -> Iterator[Measure]:
    """Take turns between the ways, one request at a time."""
    first, second = cores()
    with (
        behind(second, "pieces") as direct,
        nginx.proxy(first, direct, buffering=False) as proxy,
        ours.gateway(first, ours.make_snapshot(behind=direct)) as gateway,
        on_core(second),
    ):
        ways = [_Way(server) for server in (direct, proxy, gateway)]
        rounds = [{way.server.name: way.first_piece_ms() for way in ways} for _ in range(plan.rounds)]
        for way in ways:
            way.close()
    pairs = [[turn["moorage"], turn["upstream"]] for turn in rounds]
    yield added("streaming: first chunk added, over direct, p50", "<= 0.3 ms", pairs)
    pairs = [[turn["nginx"], turn["upstream"]] for turn in rounds]
    yield added("streaming: first chunk added by nginx, over direct, p50", "", pairs)


@dataclass
class _Way:
    """One way to the model, on one connection."""

    server: Server
    _connection: socket.socket | None = field(default=None, repr=False)

    def first_piece_ms(self) -> float:
        """Give the median time to the first byte of the body."""
        bodies = csv_bodies(IN_A_ROW)
        is_signed = self.server.name == "moorage"
        requests = signed(Signer(path=PATH), bodies) if is_signed else unsigned("/invocations", bodies, "text/csv")
        return statistics.median(self._first_piece(request) for request in requests) * 1000

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _first_piece(self, request: bytes) -> float:
        if self._connection is None:
            self._connection = socket.create_connection(("127.0.0.1", self.server.port), timeout=PATIENCE_SECONDS)
            self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began = time.perf_counter()
        self._connection.sendall(request)
        received = b""
        while not received.partition(b"\r\n\r\n")[2]:
            received += self._receive()
        seconds = time.perf_counter() - began
        head = received.partition(b"\r\n\r\n")[0]
        if not head.startswith(b"HTTP/1.1 200"):
            raise NotMeasured(f"{self.server.name} says {received[:300].decode('latin-1')!r}")
        while not received.endswith(b"\r\n0\r\n\r\n"):
            if not (piece := self._connection.recv(65_536)):
                self.close()
                break
            received += piece
        return seconds

    def _receive(self) -> bytes:
        assert self._connection is not None
        if piece := self._connection.recv(65_536):
            return piece
        raise NotMeasured(f"{self.server.name} has closed the connection")
