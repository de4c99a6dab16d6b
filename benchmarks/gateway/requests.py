"""Requests as boto3 sends them, signed beforehand, each another one.

A signature is good for five minutes. So many different ones are made that whoever remembered signatures it has verified
would gain nothing.
"""

import itertools
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from moorage.aws.credentials import Credential
from moorage.aws.sigv4 import HttpRequest, sign

COUNT = 8_000
FRESH_SECONDS = 150.0
"""Requests that are older are made anew, long before their five minutes are over."""

HOST = "sagemaker.bench.test"
REGION = "us-east-1"
ACCOUNT = "000000000000"
KEY = Credential("AKIABENCHBENCHBENCH0", "bench/secret/bench/secret", ACCOUNT, "bench")
ENDPOINT = "bench"
_USER_AGENT = (
    "Boto3/1.44.5 md/Botocore#1.44.5 ua/2.1 os/linux#6.18.0 md/arch#x86_64 lang/python#3.11.7 md/pyimpl#CPython "
    "m/N,Z,E,e,b cfg/retry-mode#standard Botocore/1.44.5"
)


@dataclass(frozen=True)
class Signer:
    """Signs invocations of one endpoint."""

    key: Credential = KEY
    host: str = HOST
    region: str = REGION
    path: str = f"/endpoints/{ENDPOINT}/invocations"

    def request(self, body: bytes, content_type: str, at: float) -> bytes:
        """Make the bytes of one request, its headers in boto3's order."""
        date_and_signature = sign(
            HttpRequest("POST", self.path, "", [("host", self.host), ("content-type", content_type)]),
            sha256(body).hexdigest(),
            self.key,
            region=self.region,
            service="sagemaker",
            timestamp=at,
        )
        (_, amz_date), (_, authorization) = date_and_signature
        return (
            f"POST {self.path} HTTP/1.1\r\n"
            f"Host: {self.host}\r\n"
            "Accept-Encoding: identity\r\n"
            f"Content-Type: {content_type}\r\n"
            f"User-Agent: {_USER_AGENT}\r\n"
            f"X-Amz-Date: {amz_date}\r\n"
            f"Authorization: {authorization}\r\n"
            f"amz-sdk-invocation-id: {uuid.uuid4()}\r\n"
            "amz-sdk-request: attempt=1; max=3\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body


def rows() -> Iterator[tuple[float, float, float, float]]:
    """Give flowers without end, each another one for the first 10,000."""
    for number in itertools.count():
        yield 4.5 + number % 10_000 / 4_000, 2.0 + number % 23 / 10, 1.0 + number % 57 / 10, 0.1 + number % 24 / 10


def csv_bodies(count: int = COUNT) -> Iterator[bytes]:
    """Give that many rows of CSV."""
    for row in itertools.islice(rows(), count):
        yield (",".join(f"{value:.5f}" for value in row) + "\n").encode()


def signed(signer: Signer | None = None, bodies: Iterable[bytes] | None = None, kind: str = "text/csv") -> list[bytes]:
    """Make a request for each body, signed now; without bodies, rows of CSV."""
    signer, now = signer or Signer(), time.time()
    return [signer.request(body, kind, now) for body in bodies or csv_bodies()]


def unsigned(path: str, bodies: Iterable[bytes], kind: str) -> list[bytes]:
    """Make a request for each body, as plain as can be."""
    head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {kind}\r\nContent-Length: "
    return [f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies]


def write(path: Path, requests: Iterable[bytes]) -> None:
    """Write a file for ``requests.lua``: before each request its length and a line feed."""
    path.write_bytes(b"".join(b"%d\n%s" % (len(request), request) for request in requests))


class RequestFile:
    """A file of signed requests that is always fresh."""

    def __init__(self, path: Path, make: Callable[[], list[bytes]] = signed) -> None:
        self._path = path
        self._make = make
        self._made_at = float("-inf")

    def fresh(self) -> Path:
        """Give the file; its signatures will be good for minutes."""
        if time.monotonic() - self._made_at > FRESH_SECONDS:
            self._made_at = time.monotonic()
            write(self._path, self._make())
        return self._path
