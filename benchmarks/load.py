"""A client that is never the limit: requests signed beforehand, sent over a few connections that stay open."""

import selectors
import socket
import statistics
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from urllib.parse import urlsplit

import orjson
from tests.support.product import Moorage

from moorage.aws.credentials import Credential
from moorage.aws.sigv4 import HttpRequest, sign

_PATIENCE_SECONDS = 30.0


@dataclass
class Outcome:
    """What came of a load."""

    seconds: float
    latencies: list[float] = field(repr=False)
    statuses: Counter[int]

    @property
    def rate(self) -> float:
        """Answers in a second."""
        return len(self.latencies) / self.seconds

    @property
    def p50_ms(self) -> float:
        """Median latency in milliseconds."""
        return statistics.median(self.latencies) * 1000

    @property
    def p99_ms(self) -> float:
        """Latency in milliseconds that one request in a hundred exceeds."""
        return sorted(self.latencies)[len(self.latencies) * 99 // 100] * 1000


@dataclass
class Signer:
    """Makes whole requests of the SageMaker API."""

    authority: str
    credential: Credential
    region: str

    @classmethod
    def of(cls, moorage: Moorage) -> "Signer":
        """Sign with a server's first key."""
        exports, server = moorage.exports(), moorage.server()
        key = Credential(exports["AWS_ACCESS_KEY_ID"], exports["AWS_SECRET_ACCESS_KEY"], server["account"], "admin")
        return cls(urlsplit(server["url"]).netloc, key, server["region"])

    def request(self, operation: str, members: object) -> bytes:
        """Make the bytes of one request, good for five minutes."""
        body = orjson.dumps(members)
        headers = [
            ("host", self.authority),
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-target", f"SageMaker.{operation}"),
        ]
        digest, now = sha256(body).hexdigest(), time.time()
        unsigned = HttpRequest("POST", "/", "", headers)
        headers += sign(unsigned, digest, self.credential, region=self.region, service="sagemaker", timestamp=now)
        lines = ["POST / HTTP/1.1", *(f"{name}: {value}" for name, value in headers), f"content-length: {len(body)}"]
        return "\r\n".join([*lines, "", ""]).encode() + body


class _Connection:
    """One request at a time."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=_PATIENCE_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""
        self._sent_at = 0.0

    def ask(self, request: bytes, since: float | None = None) -> None:
        self._received = b""
        self._sent_at = time.perf_counter() if since is None else since
        self.socket.sendall(request)

    def receive(self) -> tuple[int, bytes, float] | None:
        """Give status, body and latency once the answer is whole."""
        piece = self.socket.recv(262_144)
        if not piece:
            raise RuntimeError("the server has closed a connection")
        self._received += piece
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return None
        lines = head.lower().split(b"\r\n")
        length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
        if len(body) < length:
            return None
        return int(head[9:12]), body, time.perf_counter() - self._sent_at


@dataclass
class Load:
    """Connections to one server."""

    authority: str

    def _connect(self) -> _Connection:
        host, port = self.authority.rsplit(":", 1)
        return _Connection((host, int(port)))

    def run(self, requests: Iterable[bytes], connections: int) -> Outcome:
        """Send all, at most so many at once."""
        waiting, outcome = iter(requests), Outcome(0.0, [], Counter())
        with selectors.DefaultSelector() as selector:
            open_ones = [self._connect() for _ in range(connections)]
            started = time.perf_counter()
            busy = 0
            for connection in open_ones:
                selector.register(connection.socket, selectors.EVENT_READ, connection)
                busy += _ask_next(connection, waiting)
            while busy:
                ready = selector.select(_PATIENCE_SECONDS)
                if not ready:
                    raise RuntimeError(f"no answer in {_PATIENCE_SECONDS:g} s")
                for chosen, _ in ready:
                    if (answer := chosen.data.receive()) is not None:
                        outcome.statuses[answer[0]] += 1
                        outcome.latencies.append(answer[2])
                        busy += _ask_next(chosen.data, waiting) - 1
            outcome.seconds = time.perf_counter() - started
            for connection in open_ones:
                connection.socket.close()
        return outcome

    def pace(self, requests: Iterable[bytes], rate: float, connections: int) -> Outcome:
        """Send one at each tick of a clock, whatever becomes of those before; latency counts from the tick."""
        waiting, outcome = iter(requests), Outcome(0.0, [], Counter())
        idle = deque(self._connect() for _ in range(connections))
        # Not the best selector, but the one that waits for microseconds.
        with selectors.SelectSelector() as selector:
            for connection in idle:
                selector.register(connection.socket, selectors.EVENT_READ, connection)
            due = started = time.perf_counter()
            request = next(waiting, None)
            while request is not None or len(idle) < connections:
                now = time.perf_counter()
                if request is not None and idle and now >= due:
                    idle.popleft().ask(request, due)
                    due, request = due + 1 / rate, next(waiting, None)
                    continue
                until_due = due - now if request is not None and idle else _PATIENCE_SECONDS
                ready = selector.select(until_due)
                if not ready and until_due == _PATIENCE_SECONDS:
                    raise RuntimeError(f"no answer in {_PATIENCE_SECONDS:g} s")
                for chosen, _ in ready:
                    if (answer := chosen.data.receive()) is not None:
                        outcome.statuses[answer[0]] += 1
                        outcome.latencies.append(answer[2])
                        idle.append(chosen.data)
            outcome.seconds = time.perf_counter() - started
        for connection in idle:
            connection.socket.close()
        return outcome

    def converse(self) -> "Conversation":
        """Have one connection for requests that follow from the answers."""
        return Conversation(self._connect())


@dataclass
class Conversation:
    """One connection."""

    _connection: _Connection

    def ask(self, request: bytes) -> tuple[bytes, float]:
        """Give the body of a success, and how long it took in seconds."""
        self._connection.ask(request)
        while (answer := self._connection.receive()) is None:
            pass
        status, body, seconds = answer
        if status != 200:
            raise RuntimeError(f"{status}: {body[:500]!r}")
        return body, seconds

    def close(self) -> None:
        """Close it."""
        self._connection.socket.close()


def _ask_next(connection: _Connection, waiting: Iterator[bytes]) -> int:
    if (request := next(waiting, None)) is None:
        return 0
    connection.ask(request)
    return 1
