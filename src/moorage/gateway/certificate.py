"""The certificate of the public port: read, checked, and read anew when its files change.

The supervisor makes it before it forks. So what cannot be used is said before anything starts, all gateways share the
key of their session tickets, and a gateway that is restarted while the files are broken still has the old certificate.
Each gateway then looks at the files by itself, off the event loop.

A new certificate is taken up when the files have stood still from one look to the next: whoever writes the two files
one after the other is not caught between them. It is loaded into a context of its own and handed to new connections
by the callback that TLS has for choosing a certificate by name; connections that are open keep the one they began with.
"""

import asyncio
import logging
import ssl
from pathlib import Path

from moorage.base.clock import Clock
from moorage.base.settings import Settings

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""Between two looks at the files: a new certificate is in use after at most twice that time."""

_FileState = tuple[int, int, int, int] | None
_State = tuple[_FileState, _FileState]


class UnusableCertificate(Exception):
    """The files cannot be used; the text is for people."""


class Certificate:
    """A certificate (with its chain) and its key, in two files in PEM form."""

    def __init__(self, path: Path, key_path: Path) -> None:
        """Read them; raises UnusableCertificate."""
        self.path = path
        self._key_path = key_path
        self._seen = self._loaded = self._state()
        self._present = self.context = load_context(path, key_path)
        """``context`` is what connections begin with."""
        self.context.sni_callback = self._choose

    def __repr__(self) -> str:
        return f"<Certificate: {self.path}{'' if self._present is self.context else ', renewed'}>"

    def renew(self) -> bool:
        """Look at the files, and say whether a new certificate has been taken up; raises UnusableCertificate.

        What cannot be used is said once; the present certificate stays.
        """
        state = self._state()
        before, self._seen = self._seen, state
        if state == self._loaded or state != before:
            return False
        self._loaded = state
        self._present = load_context(self.path, self._key_path)
        return True

    async def watch(self, clock: Clock) -> None:
        """Take up each new certificate, until cancelled."""
        await self._try_to_renew()  # what has changed before this gateway was started is to be taken up at once
        while True:
            await self._try_to_renew()
            await clock.sleep_until(clock.monotonic() + LOOK_SECONDS)

    async def _try_to_renew(self) -> None:
        try:
            if await asyncio.to_thread(self.renew):
                log.info("the new certificate in %s is in use", self.path)
        except (UnusableCertificate, RuntimeError) as fault:  # RuntimeError: no thread can be had at the moment
            log.warning("%s The certificate that was in use stays in use.", fault)

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        if self._present is not self.context:
            connection.context = self._present

    def _state(self) -> _State:
        return _look(self.path), _look(self._key_path)


def certificate_of(settings: Settings) -> Certificate | None:
    """Read the certificate that the settings name; None: the port speaks plain HTTP. Raises UnusableCertificate."""
    if settings.tls_cert is None and settings.tls_key is None:
        return None
    if settings.tls_cert is None or settings.tls_key is None:
        missing = "--tls-cert" if settings.tls_cert is None else "--tls-key"
        raise UnusableCertificate(f"TLS wants a certificate and its key: {missing} is missing. Give both, or neither.")
    return Certificate(settings.tls_cert, settings.tls_key)


def load_context(path: Path, key_path: Path) -> ssl.SSLContext:
    """Make what a server needs for TLS: 1.2 or newer, HTTP/1.1. Raises UnusableCertificate."""
    if b"-----BEGIN CERTIFICATE-----" not in _read(path):
        raise UnusableCertificate(f"{path} holds no certificate in PEM form.")
    key = _read(key_path)
    if b"PRIVATE KEY-----" not in key:
        raise UnusableCertificate(f"{key_path} holds no private key in PEM form.")
    if b"ENCRYPTED" in key:
        raise UnusableCertificate(
            f"The key in {key_path} is encrypted, and nobody is there to be asked for its password."
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(path, key_path, password="")  # never ask on the terminal
    except ssl.SSLError as fault:
        if fault.reason == "KEY_VALUES_MISMATCH":
            raise UnusableCertificate(f"The key in {key_path} does not belong to the certificate in {path}.") from fault
        raise UnusableCertificate(f"{path} and {key_path} cannot be used for TLS: {fault.reason or fault}.") from fault
    except OSError as fault:
        raise UnusableCertificate(f"{path} and {key_path} cannot be read: {fault.strerror}.") from fault
    return context


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as fault:
        raise UnusableCertificate(f"{path} cannot be read: {fault.strerror}.") from fault


def _look(path: Path) -> _FileState:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
