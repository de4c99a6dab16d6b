"""HF_MODEL_ID: a model of the hub is fetched when the instance starts, by the hub's own client."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.support.golden import JSON
from tests.support.golden_models import MODELS
from tests.support.model_server import serving

pytestmark = [
    pytest.mark.slow,  # PyTorch and transformers take seconds to import; the first test of a machine installs them
    pytest.mark.timeout(900),
]

NAME, REVISION = "ours/boats", "v1"
COMMIT = "1" * 40


class Hub(ThreadingHTTPServer):
    """A hub of one private model."""

    def __init__(self, folder: Path, token: str) -> None:
        super().__init__(("127.0.0.1", 0), Asked)
        self._folder = folder
        self._token = token

    def find(self, path: str, authorization: str | None) -> tuple[int, dict[str, str], bytes]:
        """Give status, headers and body for a path."""
        if authorization != f"Bearer {self._token}":
            return 401, {}, b"{}"
        if path == f"/api/models/{NAME}/revision/{REVISION}":
            files = [{"rfilename": file.name} for file in self._folder.iterdir()]
            return 200, {"Content-Type": JSON}, json.dumps({"id": NAME, "sha": COMMIT, "siblings": files}).encode()
        file = self._folder / path.removeprefix(f"/{NAME}/resolve/{COMMIT}/").lstrip("/")
        if not file.is_file():
            return 404, {"X-Error-Code": "EntryNotFound"}, b"{}"
        body = file.read_bytes()
        return 200, {"ETag": f'"{hashlib.sha256(body).hexdigest()}"', "X-Repo-Commit": COMMIT}, body


class Asked(BaseHTTPRequestHandler):
    """A request to the hub."""

    protocol_version = "HTTP/1.1"
    server: Hub

    def do_GET(self) -> None:
        self.wfile.write(self._answer())

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> bytes:
        """Send the head of the answer; gives its body."""
        status, headers, body = self.server.find(self.path.partition("?")[0], self.headers["Authorization"])
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        return body

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""


@contextmanager
def hub(folder: Path, token: str) -> Iterator[str]:
    """Have a hub; gives its URL."""
    with Hub(folder, token) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_model_of_the_hub_is_fetched_with_its_revision_and_token(tmp_path: Path) -> None:
    model, shelf = MODELS["huggingface"], tmp_path / "shelf"
    for folder in (shelf, tmp_path / "model", tmp_path / "scratch"):
        folder.mkdir()
    model.make(shelf)
    with hub(shelf, "secret") as url:
        variables = {"HF_MODEL_ID": NAME, "HF_MODEL_REVISION": REVISION, "HF_API_TOKEN": "secret", "HF_ENDPOINT": url}
        variables["TMPDIR"] = str(tmp_path / "scratch")
        log = tmp_path / "log"
        with serving(tmp_path / "model", log, model.python(), model.toolkit, **variables) as instance:
            status, _type, body = instance.post(b'{"inputs": "ship"}', Content_Type=JSON)
    assert (status, [entry["label"] for entry in json.loads(body)]) == (200, ["FÄHRT"]), log.read_text()
    assert [path.name for path in (tmp_path / "scratch" / "huggingface").glob("models--*")] == ["models--ours--boats"]


def test_model_that_the_hub_does_not_give_ends_the_instance_with_the_reason(tmp_path: Path) -> None:
    model = MODELS["huggingface"]
    with hub(tmp_path, "secret") as url:
        variables = {"HF_MODEL_ID": NAME, "HF_ENDPOINT": url, "TMPDIR": str(tmp_path)}
        with serving(tmp_path, tmp_path / "log", model.python(), model.toolkit, **variables) as instance:
            assert instance.process.wait(60) == 1
    assert "401 Client Error" in (tmp_path / "log").read_text()
