"""Objects at web servers, over ``https://`` only, read in threads by the standard library; proxies as it knows them.

The server's certificate is checked against the authorities that this machine trusts. A redirection is followed to
``https://`` alone, and not for ever. What breaks off is continued where it broke off, by a request for the rest of the
very same version: the server must give that version a name, an ETag or a Last-Modified.
"""

import asyncio
import contextlib
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from functools import partial
from http.client import HTTPException, HTTPMessage, HTTPResponse, HTTPSConnection
from typing import IO, Any, TypeVar, cast

T = TypeVar("T")

_SILENCE_SECONDS = 20.0
"""Of a server, from which on it counts as gone."""

_PIECE_BYTES = 2**20
_OK, _PARTIAL, _PRECONDITION_FAILED = 200, 206, 412
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})


class WebRefused(Exception):
    """A web server does not give it; the text is one sentence for people, without the URL."""


class WebBroken(ConnectionError):
    """A server could not be reached, or a connection broke off: it may work at another time."""


class WebChanged(Exception):
    """The server has another version than the one that was begun."""


class WebReader:
    """What a server has at a URL, in one version of it. Use it in one task."""

    def __init__(self, url: str, context: ssl.SSLContext) -> None:
        self._url = url
        self._exchange = _Exchange(context)
        self._answer: HTTPResponse | None = None
        self._at = 0
        self.size: int | None = None
        """None: the server does not say."""
        self.etag = ""
        """Without quotes; empty when the server gives none."""
        self._quoted_etag = ""
        self._modified = ""

    @property
    def version(self) -> str:
        """What names this version of it; empty when the server gives it no name."""
        if self.etag or self._modified:
            return f"{self._quoted_etag}\n{self._modified}\n{self.size}"
        return ""

    async def begin(self) -> None:
        """Ask for all of it; raises WebRefused, WebBroken."""
        answer = await self._ask({})
        if answer.status != _OK:
            raise WebRefused(f"the server answered {answer.status} {answer.reason}")
        self.size = answer.length
        self._quoted_etag, self._modified = _named(answer)
        self.etag = self._quoted_etag.removeprefix("W/").strip('"')

    async def chunks(self, start: int = 0) -> AsyncIterator[bytes]:
        """Give the bytes from ``start`` on, a bounded piece at a time; raises WebRefused, WebBroken, WebChanged."""
        if self._answer is None or start != self._at:
            await self._continue(start)
        while piece := await self._in_thread(self._read):
            self._at += len(piece)
            yield piece
        if self.size is not None and self._at < self.size:
            self._drop()
            raise WebBroken(f"the connection broke off after {self._at} of {self.size} bytes")

    async def close(self) -> None:
        """Let the connection go."""
        self._exchange.interrupt()
        self._drop()

    async def _continue(self, start: int) -> None:
        if not self.version:
            raise WebRefused("the connection broke off, and the server does not say whether the rest is of the same")
        headers = {"Range": f"bytes={start}-"}
        if self._quoted_etag and not self._quoted_etag.startswith("W/"):
            headers["If-Match"] = self._quoted_etag
        elif self._modified:
            headers["If-Unmodified-Since"] = self._modified
        answer = await self._ask(headers)
        if answer.status not in {_OK, _PARTIAL} or _named(answer) != (self._quoted_etag, self._modified):
            raise WebChanged
        self._at = start
        if answer.status == _OK:  # a server that gives no rests
            self._at = 0
            while self._at < start:
                self._at += len(await self._in_thread(partial(self._read, start - self._at), needed=True))
        elif not (answer.getheader("Content-Range") or "").startswith(f"bytes {start}-"):
            raise WebRefused(f"the server gave other bytes than those from {start} on")

    async def _ask(self, headers: dict[str, str]) -> HTTPResponse:
        self._drop()
        self._answer = await self._in_thread(partial(self._exchange.open, self._url, headers))
        return self._answer

    def _read(self, most: int = _PIECE_BYTES) -> bytes:
        if self._answer is None:
            raise WebBroken("the connection was closed")
        try:
            return self._answer.read(min(most, _PIECE_BYTES))
        except (OSError, HTTPException) as fault:
            self._drop()
            raise WebBroken(f"the connection broke off after {self._at} bytes: {_said(fault)}") from fault

    def _drop(self) -> None:
        """Close the answer; of a connection that was cut, or has given all: nothing to wait for."""
        if self._answer is not None:
            self._answer.close()
            self._answer = None

    async def _in_thread(self, work: Callable[[], T], *, needed: bool = False) -> T:
        """Do it in a thread, whose connection is cut when this is cancelled, so that it ends at once."""
        running = asyncio.get_running_loop().run_in_executor(None, work)
        try:
            done = await asyncio.shield(running)
        except asyncio.CancelledError:
            self._exchange.interrupt()
            await asyncio.gather(running, return_exceptions=True)
            raise
        if needed and not done:
            raise WebBroken("the connection broke off again")
        return done


class Web:
    """Opens what web servers have."""

    def __init__(self) -> None:
        self._context: ssl.SSLContext | None = None

    async def open(self, url: str) -> WebReader:
        """Begin to read an ``https://`` URL; raises WebRefused, WebBroken. The caller closes it."""
        if self._context is None:  # reads the certificates that are trusted
            self._context = await asyncio.to_thread(ssl.create_default_context)
        reader = WebReader(url, self._context)
        try:
            await reader.begin()
        except BaseException:
            await reader.close()
            raise
        return reader


class _Exchange:
    """Sends requests one after the other, each over a connection of its own, and can cut what is under way. Blocks."""

    def __init__(self, context: ssl.SSLContext) -> None:
        handlers = [_Connections(context, self._keep), _Redirections()]
        self._opener = urllib.request.build_opener(*handlers)
        self._sockets: list[socket.socket] = []

    def open(self, url: str, headers: dict[str, str]) -> HTTPResponse:
        """Ask, and give the answer's head; raises WebRefused, WebBroken, WebChanged."""
        self.interrupt()
        asked = {"User-Agent": "moorage", "Accept-Encoding": "identity", **headers}
        request = urllib.request.Request(url, headers=asked)  # noqa: S310 - https, see parse_place
        try:
            return cast("HTTPResponse", self._opener.open(request, timeout=_SILENCE_SECONDS))
        except urllib.error.HTTPError as fault:
            with fault:
                raise _explain(fault) from fault
        except (OSError, HTTPException, ValueError) as fault:
            reason = getattr(fault, "reason", fault)
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise WebRefused(f"the server's certificate is not trusted: {reason.verify_message}") from fault
            if isinstance(reason, str):  # urllib's own words: of a redirection, say
                raise WebRefused(reason) from fault
            raise WebBroken(f"the server cannot be reached: {_said(reason)}") from fault

    def interrupt(self) -> None:
        """Cut the connections: who reads from one has come to its end."""
        while self._sockets:
            with contextlib.suppress(OSError):
                # Not that of TLS, which another thread may be using: what is below it.
                socket.socket.shutdown(self._sockets.pop(), socket.SHUT_RDWR)

    def _keep(self, connected: socket.socket) -> None:
        self._sockets.append(connected)


class _Connections(urllib.request.HTTPSHandler):
    """Opens connections that are told to somebody."""

    def __init__(self, context: ssl.SSLContext, told: Callable[[socket.socket], None]) -> None:
        super().__init__(context=context)
        self._trusting = context
        self._told = told

    def https_open(self, req: urllib.request.Request) -> HTTPResponse:
        """(urllib) Send a request."""
        made = partial(_Connection, self._told)
        return self.do_open(cast("Any", made), req, context=self._trusting)


class _Connection(HTTPSConnection):
    """A connection that is told to somebody once it is there."""

    def __init__(self, told: Callable[[socket.socket], None], host: str, **more: Any) -> None:
        super().__init__(host, **more)
        self._told = told

    def connect(self) -> None:
        """(http.client) Connect."""
        super().connect()
        self._told(self.sock)


class _Redirections(urllib.request.HTTPRedirectHandler):
    """Follows redirections, as many as urllib does, to https only."""

    def redirect_request(  # noqa: PLR0913, PLR0917 - urllib's
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        """(urllib) Make the request that follows."""
        if not newurl.startswith("https://"):
            fp.close()
            raise urllib.error.URLError("the server leads to what is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _named(answer: HTTPResponse) -> tuple[str, str]:
    return answer.getheader("ETag") or "", answer.getheader("Last-Modified") or ""


def _explain(fault: urllib.error.HTTPError) -> Exception:
    if fault.code == _PRECONDITION_FAILED:
        return WebChanged()
    if 300 <= fault.code < 400:
        endless = "infinite loop" in str(fault.msg)  # urllib's words
        where = "from one place to another without an end" if endless else "to what is not https"
        return WebRefused(f"the server leads {where} ({fault.code})")
    kind = WebBroken if fault.code in _AGAIN else WebRefused
    return kind(f"the server answered {fault.code} {fault.reason}")


def _said(fault: object) -> str:
    return " ".join(str(fault).split()) or type(fault).__name__
