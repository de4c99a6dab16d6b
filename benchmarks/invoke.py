"""What the gateway and the signature add to an invocation.

The same bytes go to the same instance, once through the gateway, signed (one signature is good for five minutes), once
straight to the instance's socket, in turns. The client is a bare socket, so that it adds nothing to either.
"""

import socket
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import urlsplit

from tests.support.product import Moorage

from benchmarks.measures import Measure
from benchmarks.server import make_configuration, server, wait_in_service
from moorage.aws.credentials import Credential
from moorage.aws.sigv4 import HttpRequest, sign

BODY = b"5.1,3.5,1.4,0.2\n"
WARM_UP, ROUNDS, IN_A_ROW = 300, 40, 50


@dataclass
class Path:
    """One way to the model."""

    connection: socket.socket
    request: bytes

    def invoke(self) -> float:
        """Invoke once; gives the seconds to the end of the answer."""
        started = time.perf_counter()
        self.connection.sendall(self.request)
        head, _, rest = self._read_head()
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        while len(rest) < length:
            rest += self.connection.recv(65536)
        seconds = time.perf_counter() - started
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(head.decode("latin-1"))
        return seconds

    def _read_head(self) -> tuple[bytes, bytes, bytes]:
        received = b""
        while b"\r\n\r\n" not in received:
            piece = self.connection.recv(65536)
            if not piece:
                raise RuntimeError("the connection was closed")
            received += piece
        return received.partition(b"\r\n\r\n")


def measure() -> Iterator[Measure]:
    """Take turns between both ways and compare the medians."""
    with server() as moorage:
        sagemaker = make_configuration(moorage, variants=1, instances=1)
        sagemaker.create_endpoint(EndpointName="bench", EndpointConfigName="bench")
        wait_in_service(sagemaker, "bench")
        ways = {"gateway": through_gateway(moorage, "bench"), "direct": _direct(moorage)}
        times: dict[str, list[float]] = {name: [] for name in ways}
        for way in ways.values():
            for _ in range(WARM_UP):
                way.invoke()
        for _ in range(ROUNDS):
            for name, way in ways.items():
                times[name] += [way.invoke() for _ in range(IN_A_ROW)]
    p50 = {name: statistics.median(seconds) * 1000 for name, seconds in times.items()}
    note = f"gateway {p50['gateway']:.2f} ms, direct {p50['direct']:.2f} ms"
    added = p50["gateway"] - p50["direct"]
    yield Measure("InvokeEndpoint through the gateway, concurrency 1, p50 added", "<= 0.5 ms", f"{added:.2f} ms", note)


def through_gateway(moorage: Moorage, endpoint: str, *more: tuple[str, str]) -> Path:
    """Connect to the gateway for one endpoint, with one signature for all invocations; ``more`` are headers."""
    exports = moorage.exports()
    url = urlsplit(exports["AWS_ENDPOINT_URL"])
    credential = Credential(
        exports["AWS_ACCESS_KEY_ID"], exports["AWS_SECRET_ACCESS_KEY"], moorage.server()["account"], "admin"
    )
    path = f"/endpoints/{endpoint}/invocations"
    headers = [("host", url.netloc), ("content-type", "text/csv"), *more]
    headers += sign(
        HttpRequest("POST", path, "", headers),
        sha256(BODY).hexdigest(),
        credential,
        region=exports["AWS_DEFAULT_REGION"],
        service="sagemaker",
        timestamp=time.time(),
    )
    connection = socket.create_connection((url.hostname or "", url.port or 80))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Path(connection, _request(path, headers))


def _direct(moorage: Moorage) -> Path:
    (address,) = [row["address"] for row in moorage.ps() if row["role"] == "instance"]
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address.removeprefix("unix:"))
    return Path(connection, _request("/invocations", [("host", "instance"), ("content-type", "text/csv")]))


def _request(path: str, headers: list[tuple[str, str]]) -> bytes:
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), f"content-length: {len(BODY)}"]
    return "\r\n".join([*lines, "", ""]).encode() + BODY
