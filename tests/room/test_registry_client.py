"""What the client does with registries that want to know who asks, lead elsewhere, break off or lie."""

import base64
import contextlib
import hashlib
import io
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from moorage.engine.interrupts import Interrupt, Interrupted
from moorage.engine.references import parse_reference
from moorage.engine.registry import client as client_module
from moorage.engine.registry.client import CannotReach, NotThere, RegistryClient, RegistryFault
from moorage.engine.registry.manifests import Blob

CONTENT = b"a layer, packed" * 1000
BLOB = Blob(f"sha256:{hashlib.sha256(CONTENT).hexdigest()}", len(CONTENT))
PLACE = f"/v2/team/model/blobs/{BLOB.digest}"

Script = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Server"

    def do_GET(self) -> None:
        self.server.seen.append((self.path, dict(self.headers)))
        scripts = self.server.scripts
        (scripts.pop(0) if len(scripts) > 1 else scripts[0])(self)

    do_POST = do_GET  # noqa: N815 - the name that http.server looks for

    def say(self, status: int, body: bytes = b"", claims: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) if claims is None else claims))
        self.end_headers()
        self.wfile.write(body)
        if claims is not None:
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    scripts: list[Script]
    seen: list[tuple[str, dict[str, str]]]

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


@contextlib.contextmanager
def server(*scripts: Script) -> Iterator[Server]:
    made = Server(("127.0.0.1", 0), Handler)
    made.scripts, made.seen = list(scripts), []
    thread = threading.Thread(target=made.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield made
    finally:
        made.shutdown()
        made.server_close()
        thread.join()


def says(status: int, body: bytes = b"", claims: int | None = None, **headers: str) -> Script:
    return lambda handler: handler.say(status, body, claims, **headers)


def challenges(kind: str) -> Script:
    def script(handler: Handler) -> None:
        realm = f'Bearer realm="http://{handler.server.host}/token",service="here",scope="repository:team/model:pull"'
        handler.say(401, WWW_Authenticate=realm if kind == "bearer" else 'Basic realm="here"')

    return script


@dataclass
class Asking:
    folder: Path
    credentials: dict[str, Any] = field(default_factory=dict)
    interrupt: Interrupt = field(default_factory=Interrupt)

    def log_in(self, registry: str, user: str = "me", password: str = "secret") -> None:
        packed = base64.b64encode(f"{user}:{password}".encode()).decode()
        (self.folder / "config.json").write_text(json.dumps({"auths": {registry: {"auth": packed}}}), encoding="utf-8")

    @property
    def client(self) -> RegistryClient:
        return RegistryClient(self.folder / "config.json")

    def blob(self, host: str, blob: Blob = BLOB, told: Callable[[int], None] = lambda _: None) -> bytes:
        file = io.BytesIO()
        self.client.blob(parse_reference(f"{host}/team/model:1"), blob, file, self.interrupt, told)
        return file.getvalue()

    def manifest(self, host: str, version: str = "1") -> bytes:
        return self.client.manifest(parse_reference(f"{host}/team/model:1"), version, self.interrupt).content


@pytest.fixture
def asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asking:
    monkeypatch.setattr(client_module, "_PAUSES", (0.0, 0.0))
    return Asking(tmp_path)


def test_blob_is_fetched_and_its_progress_told(asking: Asking) -> None:
    told: list[int] = []
    with server(says(200, CONTENT)) as registry:
        assert asking.blob(registry.host, told=told.append) == CONTENT
    assert sum(told) == len(CONTENT)


def test_token_is_fetched_with_the_password_and_shown_to_the_registry(asking: Asking) -> None:
    with server(challenges("bearer"), says(200, b'{"token": "t0"}'), says(200, CONTENT)) as registry:
        asking.log_in(registry.host)
        assert asking.blob(registry.host) == CONTENT
        (_, first), (token_path, token), (_, last) = registry.seen
    assert "Authorization" not in first
    assert token_path == "/token?scope=repository%3Ateam%2Fmodel%3Apull&service=here"
    assert token["Authorization"] == "Basic " + base64.b64encode(b"me:secret").decode()
    assert last["Authorization"] == "Bearer t0"


def test_token_is_fetched_without_a_password_where_there_is_none(asking: Asking) -> None:
    with server(challenges("bearer"), says(200, b'{"access_token": "t0"}'), says(200, CONTENT)) as registry:
        assert asking.blob(registry.host) == CONTENT
        assert "Authorization" not in registry.seen[1][1]


def test_password_goes_to_a_registry_that_wants_it_itself(asking: Asking) -> None:
    with server(challenges("basic"), says(200, CONTENT)) as registry:
        asking.log_in(registry.host)
        assert asking.blob(registry.host) == CONTENT
        assert registry.seen[1][1]["Authorization"] == "Basic " + base64.b64encode(b"me:secret").decode()


@pytest.mark.parametrize("kind", ["basic", "bearer"])
def test_refusal_says_how_to_log_in(asking: Asking, kind: str) -> None:
    with server(challenges(kind), says(401)) as registry, pytest.raises(RegistryFault, match="docker login 127"):
        asking.blob(registry.host)


def test_password_is_not_sent_to_an_unsafe_place_for_tokens(asking: Asking) -> None:
    elsewhere = says(401, WWW_Authenticate='Bearer realm="http://tokens.example/",service="x"')
    with server(elsewhere) as registry:
        asking.log_in(registry.host)
        with pytest.raises(RegistryFault, match="not safe"):
            asking.blob(registry.host)


def test_redirection_to_another_host_is_followed_without_the_password(asking: Asking) -> None:
    with server(says(200, CONTENT)) as storage:
        leads = says(307, Location=f"http://{storage.host}/elsewhere")
        with server(challenges("basic"), leads) as registry:
            asking.log_in(registry.host)
            assert asking.blob(registry.host) == CONTENT
        ((path, headers),) = storage.seen
    assert path == "/elsewhere"
    assert "Authorization" not in headers


def test_download_that_breaks_off_goes_on_where_it_did(asking: Asking) -> None:
    half = len(CONTENT) // 2

    def rest(handler: Handler) -> None:
        handler.say(206, CONTENT[half:])

    with server(says(200, CONTENT[:half], claims=len(CONTENT)), rest) as registry:
        assert asking.blob(registry.host) == CONTENT
        assert registry.seen[1][1]["Range"] == f"bytes={half}-"


def test_download_begins_anew_where_the_registry_gives_no_ranges(asking: Asking) -> None:
    with server(says(200, CONTENT[:100], claims=len(CONTENT)), says(200, CONTENT)) as registry:
        assert asking.blob(registry.host) == CONTENT


def test_registry_that_cannot_just_now_is_asked_again(asking: Asking) -> None:
    with server(says(503), says(200, CONTENT)) as registry:
        assert asking.blob(registry.host) == CONTENT


def test_blob_of_other_content_is_fetched_once_more_and_then_refused(asking: Asking) -> None:
    wrong = CONTENT[:-1] + b"!"
    with server(says(200, wrong)) as registry:
        with pytest.raises(RegistryFault, match="something else than sha256"):
            asking.blob(registry.host)
        assert len(registry.seen) == 2


def test_blob_that_does_not_end_is_refused(asking: Asking) -> None:
    with server(says(200, CONTENT + b"x" * 2**21)) as registry, pytest.raises(RegistryFault, match="something else"):
        asking.blob(registry.host)


def test_manifest_of_a_digest_must_be_that(asking: Asking) -> None:
    with server(says(200, b"{}")) as registry, pytest.raises(RegistryFault, match="something else"):
        asking.manifest(registry.host, f"sha256:{'0' * 64}")


def test_manifest_of_any_size_is_refused(asking: Asking) -> None:
    flood = says(200, b"x" * (client_module.MOST_MANIFEST_BYTES + 1))
    with server(flood) as registry, pytest.raises(RegistryFault, match="more than"):
        asking.manifest(registry.host)


def test_what_is_not_there_is_told_apart_from_what_cannot_be_reached(asking: Asking) -> None:
    with server(says(404)) as registry, pytest.raises(NotThere, match="has no team/model:1"):
        asking.manifest(registry.host)
    with pytest.raises(CannotReach, match="cannot be reached"):
        asking.manifest(registry.host)


def test_registry_of_another_machine_is_spoken_to_with_tls_unless_it_is_named(tmp_path: Path) -> None:
    careful, careless = RegistryClient(tmp_path / "none"), RegistryClient(tmp_path / "none", ["plain.example:5000"])
    assert careful._origin("plain.example:5000") == "https://plain.example:5000"
    assert careless._origin("plain.example:5000") == "http://plain.example:5000"
    assert careful._origin("docker.io") == "https://registry-1.docker.io"
    assert careful._origin("[::1]:5000") == "http://[::1]:5000"


def test_interrupted_download_ends(asking: Asking) -> None:
    asking.interrupt.set()
    with server(says(200, CONTENT)) as registry, pytest.raises(Interrupted):
        asking.blob(registry.host)
