"""TLS on the public port: what clients get, and what becomes of bad certificates and bad clients."""

import asyncio
import json
import logging
import socket
import ssl
import time
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.certificates import (
    Files,
    encrypt_key,
    make_certificate,
    make_expired_certificate,
    make_issued_certificate,
    trusting,
)
from tests.support.gateway import (
    KEY,
    World,
    answers,
    endpoint,
    on_uvloop,
    read_answer,
    signed,
    snapshot,
    until,
    variant,
    world,
)

from moorage.base.settings import Settings
from moorage.gateway import listener
from moorage.gateway.certificate import Certificate, UnusableCertificate, certificate_of
from moorage.supervisor.trust import examine


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Files, Files]:
    folder = tmp_path_factory.mktemp("certificates")
    return make_certificate(folder, "first"), make_certificate(folder, "second")


@pytest.fixture
def files(made_once: tuple[Files, Files], tmp_path: Path) -> Files:
    """A pair of files that may be changed."""
    own = Files(tmp_path / "server.pem", tmp_path / "server.key")
    own.replace(made_once[0])
    return own


@asynccontextmanager
async def speaking_tls(files: Files, *, answer: bytes = b"ok", **settings: Any) -> AsyncIterator[World]:
    async with world(**settings) as made:
        made.certificate = Certificate(files.cert, files.key)
        server = await made.instance("a", answers(answer))
        await made.start(endpoint("ep", variant("v1", server)))
        yield made


def name_of(writer: asyncio.StreamWriter) -> str:
    """Give the common name of the certificate that the server has shown."""
    return str(dict(pair[0] for pair in writer.get_extra_info("peercert")["subject"])["commonName"])


@on_uvloop
async def test_invocations_are_answered_over_tls(files: Files) -> None:
    async with speaking_tls(files) as made, made.connected(trusting(files.cert)) as (reader, writer):
        for _ in range(3):
            writer.write(made.invocation("ep", b"x" * 300_000))
            assert (await read_answer(reader)).body == b"ok"
        assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"


@pytest.mark.parametrize(("offered", "chosen"), [(["h2", "http/1.1"], "http/1.1"), (["h2"], None), ([], None)])
@on_uvloop
async def test_http_1_1_is_what_is_agreed_on(files: Files, offered: list[str], chosen: str | None) -> None:
    client = trusting(files.cert)
    if offered:
        client.set_alpn_protocols(offered)
    async with speaking_tls(files) as made, made.connected(client) as (reader, writer):
        writer.write(made.invocation("ep"))
        assert (await read_answer(reader)).status == 200
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == chosen


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@on_uvloop
async def test_a_session_is_resumed(files: Files, version: ssl.TLSVersion) -> None:
    client = trusting(files.cert)
    client.minimum_version = client.maximum_version = version

    def reused(port: int) -> tuple[bool, bool]:
        def visit(session: ssl.SSLSession | None) -> tuple[bool, ssl.SSLSession | None]:
            raw = socket.create_connection(("127.0.0.1", port), timeout=10)
            with client.wrap_socket(raw, server_hostname="127.0.0.1", session=session) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n")
                while connection.recv(1000):  # the tickets of TLS 1.3 come with the answer
                    pass
                return bool(connection.session_reused), connection.session

        first, session = visit(None)
        return first, visit(session)[0]

    async with speaking_tls(files) as made:
        assert await asyncio.to_thread(reused, made.port) == (False, True)


def test_nothing_older_than_tls_1_2_is_spoken(files: Files) -> None:
    assert Certificate(files.cert, files.key).context.minimum_version == ssl.TLSVersion.TLSv1_2


CAREFUL = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": "*", "Resource": "*"},
            {
                "Effect": "Deny",
                "Action": "*",
                "Resource": "*",
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            },
        ],
    }
)


@pytest.mark.parametrize(("tls", "status"), [(True, 200), (False, 403)])
@on_uvloop
async def test_policies_see_whether_an_invocation_came_through_tls(files: Files, *, tls: bool, status: int) -> None:
    key = replace(KEY, access_key_id="AKIACAREFUL000000000", policies=(CAREFUL,))
    async with world() as made:
        made.certificate = Certificate(files.cert, files.key) if tls else None
        server = await made.instance("a", answers(b"ok"))
        await made.start()
        known = snapshot(2, endpoint("ep", variant("v1", server)))
        await made.control.publish(replace(known, keys={key.access_key_id: key}))
        async with made.connected(trusting(files.cert) if tls else None) as (reader, writer):
            writer.write(signed("/endpoints/ep/invocations", b"", [], made.port, key=key))
            assert (await read_answer(reader)).status == status


@on_uvloop
async def test_a_new_certificate_is_for_new_connections(
    files: Files, made_once: tuple[Files, Files], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    old, new = (trusting(pair.cert) for pair in made_once)
    async with speaking_tls(files, speed=20) as made, made.connected(old) as (reader, writer):
        writer.write(made.invocation("ep"))
        await read_answer(reader)
        files.replace(made_once[1])
        await until(lambda: "the new certificate" in caplog.text)
        async with made.connected(new) as (new_reader, new_writer):
            new_writer.write(made.invocation("ep"))
            assert (await read_answer(new_reader)).status == 200
            assert name_of(new_writer) == "second"
        writer.write(made.invocation("ep"))
        assert (await read_answer(reader)).status == 200
        assert name_of(writer) == "first"
        with pytest.raises(ssl.SSLCertVerificationError):
            async with made.connected(old):
                pass


@pytest.mark.parametrize("damage", ["garbage", "gone", "other key"])
@on_uvloop
async def test_a_broken_new_file_leaves_the_old_certificate_in_use(
    files: Files, made_once: tuple[Files, Files], caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    async with speaking_tls(files, speed=20) as made:
        match damage:
            case "garbage":
                files.cert.write_text("-----BEGIN CERTIFICATE-----\n?\n")
            case "gone":
                files.cert.unlink()
            case _:
                files.key.write_bytes(made_once[1].key.read_bytes())
        await until(lambda: "stays in use" in caplog.text)
        async with made.connected(trusting(made_once[0].cert)) as (_, writer):
            assert name_of(writer) == "first"
        seen = caplog.text.count("stays in use")
        files.replace(made_once[1])
        await until(lambda: made.certificate and made.certificate.context is not made.certificate._present)
    assert seen == 1


def test_files_that_are_being_written_are_not_looked_into(files: Files, made_once: tuple[Files, Files]) -> None:
    certificate = Certificate(files.cert, files.key)
    files.cert.write_bytes(made_once[1].cert.read_bytes())
    assert not certificate.renew()
    files.key.write_bytes(made_once[1].key.read_bytes())
    assert not certificate.renew()
    assert certificate.renew()
    assert not certificate.renew()


async def all_that_comes(reader: asyncio.StreamReader) -> bytes:
    """Read to the end; what was not read by the server makes a reset of it."""
    try:
        return await asyncio.wait_for(reader.read(), 5)
    except ConnectionResetError:
        return b""


@pytest.fixture
def handshakes(monkeypatch: pytest.MonkeyPatch) -> "weakref.WeakSet[asyncio.Protocol]":
    """The handshakes that somebody still holds."""
    held: weakref.WeakSet[asyncio.Protocol] = weakref.WeakSet()

    class Seen(listener._Handshake):
        def __init__(self, owner: listener.Listener) -> None:
            super().__init__(owner)
            held.add(self)

    monkeypatch.setattr(listener, "_Handshake", Seen)
    return held


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x16\x03\x01\x00\x05abcde", b"\x00" * 10_000])
@on_uvloop
async def test_who_does_not_speak_tls_is_closed_quietly(
    files: Files, sent: bytes, handshakes: "weakref.WeakSet[asyncio.Protocol]", caplog: pytest.LogCaptureFixture
) -> None:
    async with speaking_tls(files) as made:
        async with made.connected() as (reader, writer):
            writer.write(sent)
            assert not (await all_that_comes(reader)).startswith(b"HTTP")
        await until(lambda: not handshakes)
        async with made.connected(trusting(files.cert)) as (reader, writer):
            writer.write(made.invocation("ep"))
            assert (await read_answer(reader)).status == 200
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01"])
@on_uvloop
async def test_a_handshake_that_stalls_is_ended(
    files: Files,
    sent: bytes,
    handshakes: "weakref.WeakSet[asyncio.Protocol]",
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(listener, "HANDSHAKE_SECONDS", 0.1)
    async with speaking_tls(files) as made:
        async with made.connected() as (reader, writer):
            writer.write(sent)
            assert await asyncio.wait_for(reader.read(), 5) == b""
        await until(lambda: not handshakes)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@on_uvloop
async def test_clients_that_do_not_say_goodbye_do_not_hold_up_the_stop(files: Files) -> None:
    def ask(port: int, request: bytes) -> ssl.SSLSocket:
        raw = socket.create_connection(("127.0.0.1", port), timeout=10)
        connection = trusting(files.cert).wrap_socket(raw, server_hostname="127.0.0.1")
        connection.sendall(request)
        assert connection.recv(10_000).startswith(b"HTTP/1.1 200")
        return connection  # and nobody reads from it any more, as in a pool

    async with speaking_tls(files) as made:
        with await asyncio.to_thread(ask, made.port, made.invocation("ep")):
            begun = time.monotonic()
            await made.stop_gateway()
            assert time.monotonic() - begun < 5


@on_uvloop
async def test_the_last_answer_reaches_a_client_that_reads_slowly(files: Files) -> None:
    size = 3_000_000
    async with (
        speaking_tls(files, answer=b"x" * size) as made,
        made.connected(trusting(files.cert)) as (reader, writer),
    ):
        writer.write(made.invocation("ep").replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
        head = await reader.readuntil(b"\r\n\r\n")
        body = b""
        while piece := await reader.read(100_000):
            body += piece
            await asyncio.sleep(0)
    assert b"Connection: close" in head
    assert len(body) == size


@on_uvloop
async def test_an_early_answer_reaches_a_client_that_goes_on_sending(files: Files) -> None:
    async with speaking_tls(files) as made, made.connected(trusting(files.cert)) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 3000000\r\n\r\n")
        for _ in range(30):
            writer.write(b"x" * 100_000)
            await asyncio.sleep(0)
        answer = await asyncio.wait_for(read_answer(reader), 5)
        rest = await asyncio.wait_for(reader.read(), 5)
    assert (answer.status, answer.headers["connection"], rest) == (400, "close", b"")


SETTINGS = Settings(Path("/data"), Path("/run"))


def test_certificate_and_key_are_given_together(files: Files) -> None:
    assert certificate_of(SETTINGS) is None
    with pytest.raises(UnusableCertificate, match="--tls-key is missing"):
        certificate_of(replace(SETTINGS, tls_cert=files.cert))
    with pytest.raises(UnusableCertificate, match="--tls-cert is missing"):
        certificate_of(replace(SETTINGS, tls_key=files.key))


def test_what_cannot_be_used_is_said_in_words(files: Files, made_once: tuple[Files, Files], tmp_path: Path) -> None:
    def refusal(cert: Path, key: Path) -> str:
        with pytest.raises(UnusableCertificate) as refused:
            Certificate(cert, key)
        return str(refused.value)

    gone = tmp_path / "gone"
    assert refusal(gone, files.key) == f"{gone} cannot be read: No such file or directory."
    assert refusal(files.cert, gone) == f"{gone} cannot be read: No such file or directory."
    assert refusal(files.key, files.key) == f"{files.key} holds no certificate in PEM form."
    assert refusal(files.cert, files.cert) == f"{files.cert} holds no private key in PEM form."
    other = made_once[1].key
    assert refusal(files.cert, other) == f"The key in {other} does not belong to the certificate in {files.cert}."
    locked = encrypt_key(files, tmp_path / "locked.key")
    assert "is encrypted" in refusal(locked.cert, locked.key)


def test_a_certificate_that_verifies_itself_can_be_a_bundle(files: Files) -> None:
    found = examine(Certificate(files.cert, files.key), "127.0.0.1")
    assert (found.is_own_authority, found.doubts) == (True, "")


def test_a_certificate_that_was_issued_is_no_bundle_without_its_authority(tmp_path: Path) -> None:
    issued, authority = make_issued_certificate(tmp_path, "issued")
    alone = examine(Certificate(issued.cert, issued.key), "127.0.0.1")
    issued.cert.write_bytes(issued.cert.read_bytes() + authority.read_bytes())
    whole = examine(Certificate(issued.cert, issued.key), "127.0.0.1")
    assert (alone.is_own_authority, alone.doubts) == (False, "")
    assert (whole.is_own_authority, whole.doubts) == (True, "")


def test_a_certificate_that_clients_will_refuse_is_doubted(files: Files, tmp_path: Path) -> None:
    named = examine(Certificate(files.cert, files.key), "example.com")
    expired = make_expired_certificate(tmp_path, "expired")
    old = examine(Certificate(expired.cert, expired.key), "127.0.0.1")
    assert named.doubts == (
        f"The certificate in {files.cert} does not name example.com: clients that use this name will refuse it."
    )
    assert named.is_own_authority
    assert old.doubts == f"The certificate in {expired.cert} has expired."
