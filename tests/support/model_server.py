"""A built-in model server in a process of its own, started by the Python of an environment."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

import moorage.serving

LOAD = """
import importlib.util, pathlib, socket, sys
folder = pathlib.Path(sys.argv[1])
spec = importlib.util.spec_from_file_location(
    "moorage_serving", folder / "__init__.py", submodule_search_locations=[str(folder)])
package = importlib.util.module_from_spec(spec)
sys.modules["moorage_serving"] = package
spec.loader.exec_module(package)
"""
"""Loads the folder of the first argument as the package of the model server, as ``serving/__main__.py`` does."""

START = f"""{LOAD}
from moorage_serving.instance import serve
serve(socket.socket(fileno=int(sys.argv[2])), sys.argv[3], sys.argv[4])
"""

Whole = tuple[int, str | None, bytes]
"""Status, Content-Type and body."""


class Instance:
    """A model server, its socket and its log."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self.log = log
        self.path = "/invocations"
        """Where it is invoked."""

    def load(self, folder: Path) -> None:
        """Have a server of many models load one, which is invoked from then on."""
        order = json.dumps({"model_name": folder.name, "url": str(folder)}).encode()
        status, _, body = self._ask("POST", "/models", order, {"Content-Type": "application/json"})
        assert status == 200, body
        self.path = f"/models/{folder.name}/invoke"

    def connection(self) -> "contextlib.closing[HTTPConnection]":
        """Open a connection; a context."""
        return contextlib.closing(HTTPConnection("127.0.0.1", self.port, timeout=20))

    def get(self, path: str = "/ping") -> Whole:
        return self._ask("GET", path, b"", {})

    def post(self, body: bytes, **headers: str) -> Whole:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._ask("POST", self.path, body, named)

    def _ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Whole:
        with self.connection() as connection:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            return response.status, response.headers["Content-Type"], response.read()

    def wait_for_log(self, text: str) -> None:
        deadline = time.monotonic() + 10
        while text not in self.log.read_text():
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.01)

    def wait_for_state(self, state: str) -> None:
        """Wait until the main thread is in a state of proc(5)."""
        stat, deadline = Path(f"/proc/{self.process.pid}/stat"), time.monotonic() + 10
        while stat.read_text().rpartition(")")[2].split()[0] != state:
            assert time.monotonic() < deadline, stat.read_text()
            time.sleep(0.001)


Start = Callable[..., Instance]


@contextlib.contextmanager
def serving(
    model_dir: Path, log: Path, python: str | Path = sys.executable, toolkit: str = "sklearn", **variables: str
) -> Iterator[Instance]:
    """Have a server of a model's folder, which answers once the model is loaded."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener, log.open("wb") as output:
        serving_folder = moorage.serving.__path__[0]
        process = subprocess.Popen(
            [python, "-c", START, serving_folder, str(listener.fileno()), str(model_dir), toolkit],
            pass_fds=[listener.fileno()],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={"PATH": os.environ["PATH"], **variables},
        )
        port = listener.getsockname()[1]
    try:
        yield Instance(process, port, log)
    finally:
        process.kill()
        process.wait()


def write_code(model_dir: Path, code: str) -> None:
    """Put an ``inference.py`` into a model's folder."""
    model_dir.joinpath("code").mkdir(parents=True, exist_ok=True)
    model_dir.joinpath("code", "inference.py").write_text(textwrap.dedent(code))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start servers of a code text, in the plain Python of the tests unless another is named."""
    with contextlib.ExitStack() as started:

        def launch(code: str, model_dir: Path = tmp_path, python: str = sys.executable, **variables: str) -> Instance:
            write_code(model_dir, code)
            return started.enter_context(serving(model_dir, tmp_path / "log", python, **variables))

        yield launch
