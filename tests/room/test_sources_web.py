"""Model data at web servers: certificates, redirections, what breaks off and what changes meanwhile."""

import asyncio
import contextlib
import os
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.certificates import Files, make_certificate
from tests.support.models import pack
from tests.support.objects import store_in
from tests.support.web import WebServer, web_server

from moorage.base.settings import Limits
from moorage.engine.artifacts import ArtifactFailure, Artifacts
from moorage.engine.contract import ModelSource
from moorage.objects.web import Web, WebRefused

CONTENT = os.urandom(3_000_000)
ARCHIVE = pack({"weights": CONTENT})


class Unhurried:
    """A clock that waits for nothing, and remembers how long it should have."""

    def __init__(self) -> None:
        self.waited: list[float] = []

    def now(self) -> float:
        return 0.0

    def monotonic(self) -> float:
        return 0.0

    async def sleep_until(self, deadline: float) -> None:
        self.waited.append(deadline)
        await asyncio.sleep(0)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return make_certificate(tmp_path_factory.mktemp("certificate"), "web")


@pytest.fixture
def server(certificate: Files, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.cert))
    with web_server(certificate) as made:
        yield made


@pytest.fixture
def clock() -> Unhurried:
    return Unhurried()


@pytest.fixture
def artifacts(tmp_path: Path, clock: Unhurried) -> Iterator[Artifacts]:
    with contextlib.closing(store_in(tmp_path)) as store:
        yield Artifacts(store, tmp_path / "models", Limits(), clock)


async def test_archive_and_file_are_downloaded_and_kept_by_their_version(
    server: WebServer, artifacts: Artifacts
) -> None:
    url = server.page("/m/model.tar.gz?token=1", ARCHIVE)
    folder = await artifacts.fetch(ModelSource(url), print)
    assert folder.joinpath("weights").read_bytes() == CONTENT
    assert await artifacts.fetch(ModelSource(url), print) == folder
    plain = await artifacts.fetch(ModelSource(server.page("/m/my%20model.bin", b"1"), compression="None"), print)
    assert [path.name for path in plain.iterdir()] == ["my model.bin"]
    server.page("/m/model.tar.gz?token=1", pack({"weights": b"2"}), etag='"v2"')
    assert (await artifacts.fetch(ModelSource(url), print)).joinpath("weights").read_bytes() == b"2"


@pytest.mark.parametrize(
    ("named", "conditions"),
    [
        ({"etag": '"v1"'}, {"if-match": '"v1"'}),
        (
            {"etag": 'W/"v1"', "modified": "Fri, 27 Nov 2026 10:00:00 GMT"},
            {"if-unmodified-since": "Fri, 27 Nov 2026 10:00:00 GMT"},
        ),
        ({"etag": "", "modified": "Fri, 27 Nov 2026 10:00:00 GMT"}, {}),
        ({"ranges": False}, {}),
    ],
)
async def test_what_breaks_off_is_continued_where_it_broke_off(
    server: WebServer, artifacts: Artifacts, named: dict[str, object], conditions: dict[str, str]
) -> None:
    url = server.page(
        "/model.tar.gz", ARCHIVE, break_after=[1_000_000, 0 if "ranges" not in named else 1_500_000], **named
    )
    folder = await artifacts.fetch(ModelSource(url), print)
    assert folder.joinpath("weights").read_bytes() == CONTENT
    assert [asked.headers.get("range") for asked in server.asked][:2] == [None, "bytes=1000000-"]
    assert len(server.asked) == 3
    assert conditions.items() <= server.asked[1].headers.items()


async def test_server_that_always_breaks_off_is_given_up_and_progress_begins_the_count_anew(
    server: WebServer, artifacts: Artifacts, clock: Unhurried
) -> None:
    breaks = [1000, 0, 0, 0, 1000, 0, 0, 0, 0]
    url = server.page("/model.bin", CONTENT, break_after=breaks)
    with pytest.raises(ArtifactFailure, match=r"cannot be downloaded: the connection broke off after 2000 "):
        await artifacts.fetch(ModelSource(url, compression="None"), print)
    assert clock.waited == [0.2, 1.0, 3.0, 10.0, 0.2, 1.0, 3.0, 10.0]


async def test_version_that_changes_meanwhile_is_never_mixed_with_the_first(
    server: WebServer, artifacts: Artifacts, tmp_path: Path
) -> None:
    for number, ranges in enumerate((True, False)):
        url = server.page(f"/{number}", CONTENT, break_after=[1_000_000], ranges=ranges)

        def change(_line: str, path: str = f"/{number}", *, ranges: bool = ranges) -> None:
            server.pages[path].etag = '"v2"'
            server.pages[path].content = CONTENT[::-1]

        with pytest.raises(ArtifactFailure, match="replaced by another while it was downloaded"):
            await artifacts.fetch(ModelSource(url, compression="None"), change)
    assert _left(tmp_path) == []


async def test_nameless_version_is_fetched_each_time_and_not_continued(server: WebServer, artifacts: Artifacts) -> None:
    url = server.page("/model.tar.gz", ARCHIVE, etag="")
    folders = [await artifacts.fetch(ModelSource(url), print) for _ in range(2)]
    assert folders[0] != folders[1]
    server.pages["/model.tar.gz"].break_after = [1000]
    with pytest.raises(ArtifactFailure, match="does not say whether the rest is of the same"):
        await artifacts.fetch(ModelSource(url), print)


async def test_answer_without_a_length_is_taken_to_its_end(server: WebServer, artifacts: Artifacts) -> None:
    url = server.page("/model.tar.gz", ARCHIVE, says_length=False)
    assert (await artifacts.fetch(ModelSource(url), print)).joinpath("weights").read_bytes() == CONTENT
    server.pages["/model.tar.gz"].break_after = [1_000_000]
    server.pages["/model.tar.gz"].etag = '"v2"'
    with pytest.raises(ArtifactFailure, match="damaged"):
        await artifacts.fetch(ModelSource(url), print)


async def test_redirections_are_followed_to_https_and_not_for_ever(server: WebServer, artifacts: Artifacts) -> None:
    server.page("/model.tar.gz", ARCHIVE, break_after=[1_000_000])
    url = server.page("/moved", b"", status=302, location="/model.tar.gz", etag="")
    assert (await artifacts.fetch(ModelSource(url), print)).joinpath("weights").exists()
    plain = server.page("/plain", b"", status=302, location="http://127.0.0.1:1/model.tar.gz")
    with pytest.raises(ArtifactFailure, match="leads to what is not https"):
        await artifacts.fetch(ModelSource(plain), print)
    file = server.page("/file", b"", status=301, location="file:///etc/passwd")
    with pytest.raises(ArtifactFailure, match="leads to what is not https"):
        await artifacts.fetch(ModelSource(file), print)
    endless = server.page("/endless", b"", status=307, location="/endless")
    with pytest.raises(ArtifactFailure, match="without an end"):
        await artifacts.fetch(ModelSource(endless), print)
    assert len([asked for asked in server.asked if asked.path == "/endless"]) <= 11


@pytest.mark.parametrize(("status", "tries"), [(404, 1), (403, 1), (503, 5)])
async def test_refusal_is_told_and_one_that_may_pass_is_tried_again(
    server: WebServer, artifacts: Artifacts, status: int, tries: int
) -> None:
    url = server.page("/model.tar.gz", b"secret of somebody else", status=status)
    with pytest.raises(ArtifactFailure, match=f"cannot be downloaded: the server answered {status}") as failure:
        await artifacts.fetch(ModelSource(url), print)
    assert "secret" not in str(failure.value)
    assert len(server.asked) == tries


async def test_certificate_that_nobody_trusts_is_refused(
    server: WebServer, artifacts: Artifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(make_certificate(tmp_path, "other").cert))
    with pytest.raises(ArtifactFailure, match="certificate is not trusted: self-signed certificate"):
        await artifacts.fetch(ModelSource(server.page("/model.tar.gz", ARCHIVE)), print)
    assert server.asked == []


async def test_certificate_of_another_host_is_refused(
    artifacts: Artifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = make_certificate(tmp_path, "elsewhere", "DNS:elsewhere")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.cert))
    with web_server(certificate) as server, pytest.raises(ArtifactFailure, match="certificate is not trusted"):
        await artifacts.fetch(ModelSource(server.page("/model.tar.gz", ARCHIVE)), print)


async def test_server_that_is_not_there_is_told(artifacts: Artifacts, clock: Unhurried) -> None:
    with pytest.raises(ArtifactFailure, match="cannot be downloaded: the server cannot be reached: "):
        await artifacts.fetch(ModelSource("https://127.0.0.1:1/model.tar.gz"), print)
    assert clock.waited == [0.2, 1.0, 3.0, 10.0]


async def test_pin_is_held_against_the_servers_etag(server: WebServer, artifacts: Artifacts) -> None:
    url = server.page("/model.tar.gz", ARCHIVE)
    assert await artifacts.fetch(ModelSource(url, etag="v1"), print)
    with pytest.raises(ArtifactFailure, match="has the ETag v1, and the model wants the one with the ETag v2"):
        await artifacts.fetch(ModelSource(url, etag='"v2"'), print)
    server.pages["/model.tar.gz"].etag = ""
    with pytest.raises(ArtifactFailure, match="has no ETag"):
        await artifacts.fetch(ModelSource(url, etag="v1"), print)


async def test_cancelled_download_ends_at_once_and_leaves_nothing(
    certificate: Files, tmp_path: Path, artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.cert))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert, certificate.key)
    begun = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 OK\r\nETag: "v1"\r\nContent-Length: 100\r\n\r\nx')
        await writer.drain()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/model.bin"
        fetching = asyncio.ensure_future(artifacts.fetch(ModelSource(url, compression="None"), lambda _: begun.set()))
        await asyncio.wait_for(begun.wait(), 10)
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(fetching, 10)
    assert _left(tmp_path) == []


async def test_prefix_needs_a_bucket(artifacts: Artifacts) -> None:
    source = ModelSource("https://127.0.0.1:1/p/", "S3Prefix", "None")
    with pytest.raises(ArtifactFailure, match="S3Prefix needs an S3Uri of S3"):
        await artifacts.fetch(source, print)


async def test_answer_that_is_not_http_is_told(certificate: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.cert))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert, certificate.key)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SSH-2.0-hello\r\n" * 10)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises((ConnectionError, WebRefused)):
            await Web().open(f"https://127.0.0.1:{port}/")


def _left(folder: Path) -> list[str]:
    return [path.name for path in (folder / "models").iterdir() if not path.name.endswith(".lock")]
