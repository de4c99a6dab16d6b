"""A web server over TLS that breaks off, redirects and changes its mind as a test wants."""

import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.certificates import Files


@dataclass
class Page:
    """What is at a path."""

    content: bytes
    etag: str = '"v1"'
    modified: str = ""
    ranges: bool = True
    """It gives the rest of it when asked."""
    status: int = 200
    location: str = ""
    break_after: list[int] = field(default_factory=list)
    """After how many bytes of an answer's body each next answer breaks off, while there are any."""
    says_length: bool = True


@dataclass(frozen=True)
class Asked:
    """A request."""

    path: str
    headers: dict[str, str]


@dataclass
class WebServer:
    """The server, on a port of its own."""

    url: str
    certificate: Path
    """To be trusted by who asks it."""
    pages: dict[str, Page] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def page(self, path: str, content: bytes, **more: Any) -> str:
        """Put something at a path; gives its URL."""
        self.pages[path] = Page(content, **more)
        return self.url + path


@contextmanager
def web_server(certificate: Files) -> Iterator[WebServer]:
    """Have a server for the length of a test."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert, certificate.key)
    made = WebServer("", certificate.cert)

    class Handler(_Handler):
        server_ = made

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        made.url = f"https://127.0.0.1:{server.server_port}"
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        try:
            yield made
        finally:
            server.shutdown()
            serving.join()


class _Handler(BaseHTTPRequestHandler):
    server_: WebServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.close_connection = True
        self.server_.asked.append(Asked(self.path, {name.lower(): value for name, value in self.headers.items()}))
        page = self.server_.pages.get(self.path)
        if page is None:
            self.send_error(404)
            return
        if (wanted := self.headers.get("If-Match")) is not None and wanted != page.etag and not page.location:
            self.send_error(412)
            return
        start = 0
        if (
            page.ranges
            and not page.location
            and (match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")))
        ):
            start = int(match[1])
        self._answer(page, start)

    def _answer(self, page: Page, start: int) -> None:
        body = page.content[start:]
        self.send_response(206 if start else page.status)
        if page.location:
            self.send_header("Location", page.location)
        if page.etag:
            self.send_header("ETag", page.etag)
        if page.modified:
            self.send_header("Last-Modified", page.modified)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(page.content) - 1}/{len(page.content)}")
        if page.says_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: page.break_after.pop(0)] if page.break_after else body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the standard library
        """Say nothing."""
