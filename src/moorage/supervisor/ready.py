"""When a server is ready: when each process that answers clients answers one as it should.

Control plane up is not enough. The gateway and the neighbours learn the keys from it a moment later, and a client that
is quick would be told that its key does not exist. So each is asked something, signed with the first key.
"""

import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from moorage.aws.credentials import Credential
from moorage.aws.sigv4 import HttpRequest, sign
from moorage.base.clock import Clock

_ASK_AGAIN_SECONDS = 0.01
_ANSWER_WITHIN_SECONDS = 5.0
_NOT_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_EMPTY_SHA256 = sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class Question:
    """A request, made anew each time it is asked, and the statuses that mean ready."""

    make: Callable[[], bytes]
    ready: frozenset[int]


def make_questions(key: Mapping[str, str], region: str, clock: Clock) -> list[Question]:
    """Give what is asked, in order: the control plane, the neighbours, the gateway itself."""
    credential = Credential(key["access_key_id"], key["secret_access_key"], key["account"], key["user_name"])

    def signed(method: str, path: str, service: str) -> Callable[[], bytes]:
        def make() -> bytes:
            headers = [("host", "localhost"), ("x-amz-content-sha256", _EMPTY_SHA256)]
            request = HttpRequest(method, path, "", headers)
            now = clock.now()
            headers += sign(request, _EMPTY_SHA256, credential, region=region, service=service, timestamp=now)
            return _request(method, path, headers)

        return make

    return [
        Question(lambda: _request("GET", "/_moorage/health", [("host", "localhost")]), frozenset({200})),
        Question(signed("GET", "/", "s3"), frozenset({200})),
        # There is no such endpoint (400): who says so has accepted the signature.
        Question(signed("POST", "/endpoints/is-it-ready/invocations", "sagemaker"), frozenset({200, 400})),
    ]


def _request(method: str, path: str, headers: Sequence[tuple[str, str]]) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "content-length: 0", "connection: close", "", ""]).encode()


class ReadyProbe:
    """Asks the questions, one after the other, each until it is answered well; never blocks."""

    def __init__(self, listener: socket.socket, questions: Sequence[Question], *, tls: bool = False) -> None:
        host, self._port = listener.getsockname()[:2]
        self._host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        self._family = listener.family
        self._questions = list(questions)
        self._tls = _trust_ourselves() if tls else None
        self._connection: socket.socket | None = None
        self._unsent = b""
        self._asked_at = float("-inf")

    def __call__(self, now: float) -> bool:
        """Take the next look; True once every question is answered well."""
        if self._connection is None:
            if now - self._asked_at >= _ASK_AGAIN_SECONDS:
                self._asked_at = now
                self._ask()
            return False
        try:
            if self._unsent:
                self._connection.sendall(
                    self._unsent
                )  # with TLS the handshake, as far as it comes, and then the request
                self._unsent = b""
            head = self._connection.recv(64)
        except _NOT_YET:
            if now - self._asked_at < _ANSWER_WITHIN_SECONDS:
                return False
            head = b""
        except OSError:
            head = b""
        self._connection.close()
        self._connection = None
        status = head.partition(b" ")[2][:3]
        if status.isdigit() and int(status) in self._questions[0].ready:
            del self._questions[0]
            self._asked_at = float("-inf")
        return not self._questions

    def _ask(self) -> None:
        connection = socket.socket(self._family, socket.SOCK_STREAM)
        try:
            connection.connect((self._host, self._port))  # on this machine: the backlog takes it at once
            connection.setblocking(False)
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, do_handshake_on_connect=False)
        except OSError:
            connection.close()
            return
        self._connection, self._unsent = connection, self._questions[0].make()


def _trust_ourselves() -> ssl.SSLContext:
    """Make a context that verifies nothing: whether the server answers is asked at the socket that it has opened."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
