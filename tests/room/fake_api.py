"""A server that answers what a test tells it to: what the command line's tests talk to."""

import contextlib
import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from moorage.aws.sigv4 import HttpRequest, read_signature, verify
from moorage.base.data_dir import try_lock

KEY = {"access_key_id": "AKIATEST", "secret_access_key": "secret", "account": "000000000000", "user_name": "admin"}


@dataclass
class Answer:
    """One answer of the fake."""

    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Api:
    """A fake server on a data folder."""

    data_dir: Path
    run_dir: Path
    url: str = ""
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    """By operation (X-Amz-Target) or by ``METHOD path``; the last of a list is given again and again."""
    asked: list[tuple[str, Any]] = field(default_factory=list)
    """What was asked, with its body."""
    unverified: list[str] = field(default_factory=list)
    """Requests whose signature is not right."""

    def will(self, what: str, *answers: Any) -> None:
        self.answers[what] = [one if isinstance(one, Answer) else Answer(one) for one in answers]

    def reply(self, method: str, path: str, headers: list[tuple[str, str]], body: bytes) -> Answer:
        given = dict(headers)
        path, _, query = path.partition("?")
        what = given.get("x-amz-target", "").removeprefix("SageMaker.") or f"{method} {path}"
        request = HttpRequest(method, path, query, headers)
        signature = read_signature(request)
        if signature is None or not verify(signature, request, hashlib.sha256(body).hexdigest(), "secret"):
            self.unverified.append(what)
        with contextlib.suppress(ValueError):
            body = json.loads(body)
        self.asked.append((what, body))
        answers = self.answers.get(what, [Answer({"Message": f"no answer for {what}"}, 500)])
        return answers.pop(0) if len(answers) > 1 else answers[0]


@contextlib.contextmanager
def fake_api(folder: Path) -> Iterator[Api]:
    """Have a fake server whose data folder says that it runs."""
    api = Api(folder / "data", folder / "run")

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = [(name.lower(), value) for name, value in self.headers.items()]
            answer = api.reply(self.command, self.path, headers, body)
            content = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
            self.send_response(answer.status)
            for name, value in {**answer.headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

    for method in ("GET", "POST", "PUT", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.answer)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    api.url = f"http://127.0.0.1:{server.server_port}"
    api.data_dir.mkdir()
    api.run_dir.mkdir()
    described = {
        "url": api.url,
        "pid": 4242,
        "region": "us-east-1",
        "engine": "process",
        "account": "000000000000",
        "version": "0.1.0",
        "run_dir": str(api.run_dir),
    }
    (api.data_dir / "server.json").write_text(json.dumps(described))
    (api.data_dir / "credentials.json").write_text(json.dumps(KEY))
    lock = try_lock(api.data_dir)
    assert lock is not None
    try:
        yield api
    finally:
        lock.release()
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def fake_node(api: Api, reports: list[dict[str, Any]]) -> Iterator[None]:
    """Have a node agent that tells its instances to whoever calls."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(api.run_dir / "node.sock"))
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(
                    json.dumps({"op": "report", "complete": True, "instances": reports}).encode() + b"\n"
                )

        thread = threading.Thread(target=answer)
        thread.start()
        yield
        thread.join()
