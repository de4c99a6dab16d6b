"""A container registry of its own for a test: Debian's ``docker-registry`` in a process, with a password or without."""

import base64
import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.product import wait_until

USER, PASSWORD = "moorage", "open sesame"
_HTPASSWD = f"{USER}:$2b$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy\n"

needs_registry = pytest.mark.skipif(
    shutil.which("docker-registry") is None, reason="docker-registry is not installed (Debian: docker-registry)"
)


@dataclass
class Registry:
    """A running registry on the loopback, which docker takes without TLS."""

    host: str
    """``127.0.0.1:PORT``."""
    protected: bool
    """It wants ``USER`` and ``PASSWORD``."""
    log: Path

    @property
    def authorization(self) -> str:
        """Give ``user:password`` as docker's configuration file and HTTP have it."""
        return base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

    def put_blob(self, repository: str, digest: str, content: Callable[[], bytes]) -> None:
        """Upload a blob, unless it is there."""
        if self._request("HEAD", f"/v2/{repository}/blobs/{digest}") == 200:
            return
        body = content()
        place = f"/v2/{repository}/blobs/uploads/?digest={digest}"
        with contextlib.closing(http.client.HTTPConnection(self.host, timeout=60)) as connection:
            connection.request("POST", place, headers=self._headers())
            answer = connection.getresponse()
            answer.read()
            location = answer.headers["Location"]
            separator = "&" if "?" in location else "?"
            headers = {**self._headers(), "Content-Type": "application/octet-stream"}
            connection.request("PUT", f"{location}{separator}digest={digest}", body, headers)
            status = connection.getresponse().status
        assert status == 201, f"the registry answered {status}; {self.log.read_text()[-2000:]}"

    def put_manifest(self, repository: str, tag: str, content: bytes, kind: str) -> None:
        """Give a manifest a tag."""
        status = self._request("PUT", f"/v2/{repository}/manifests/{tag}", content, kind)
        assert status == 201, f"the registry answered {status}; {self.log.read_text()[-2000:]}"

    def _request(self, method: str, path: str, body: bytes | None = None, kind: str = "") -> int:
        headers = {**self._headers(), **({"Content-Type": kind} if kind else {})}
        with contextlib.closing(http.client.HTTPConnection(self.host, timeout=60)) as connection:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Basic {self.authorization}"} if self.protected else {}

    def answers(self) -> bool:
        """Look whether it is up."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self._request("GET", "/v2/") == 200
        return False


@contextlib.contextmanager
def registry(folder: Path, *, protected: bool = False) -> Iterator[Registry]:
    """Have a registry with its data in a folder; what it kept goes with the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        host = f"127.0.0.1:{free.getsockname()[1]}"
    (folder / "htpasswd").write_text(_HTPASSWD, encoding="utf-8")
    auth = f"auth: {{htpasswd: {{realm: tests, path: {folder / 'htpasswd'}}}}}\n" if protected else ""
    (folder / "config.yml").write_text(
        f"version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {folder / 'data'}}}}}\n"
        f"http: {{addr: '{host}'}}\n{auth}",
        encoding="utf-8",
    )
    log = folder / "registry.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(folder / "config.yml")],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
        )
    made = Registry(host, protected, log)
    try:
        wait_until(made.answers, within=20, what=f"the registry answers; {log.read_text()}")
        yield made
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
