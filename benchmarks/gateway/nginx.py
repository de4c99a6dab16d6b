"""nginx, one worker: as the server behind, and as the proxy to compare with."""

import contextlib
import getpass
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.gateway.machine import Server, free_port, started
from benchmarks.gateway.tools import find

_CONFIGURATION = """
{user} daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log warn;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  client_max_body_size 64m; client_body_buffer_size 64m; keepalive_requests 1000000000;
  {upstream}
  server {{ listen 127.0.0.1:{port} backlog=4096; {locations} }}
}}
"""
# Bodies are kept in memory (client_body_buffer_size), as the gateway keeps them: a file would slow nginx down.

_ANSWERS = """
    location / { default_type text/csv; return 200 "0\\n"; }
    location = /status { stub_status; }
"""
_PROXY = """
    location / { proxy_pass http://behind; proxy_http_version 1.1; proxy_set_header Connection ""; BUFFERING }
"""


@contextlib.contextmanager
def upstream(core: int, name: str = "upstream") -> Iterator[Server]:
    """Have a server that answers every request at once, without reading what it says."""
    with _nginx(name, core, "", _ANSWERS) as server:
        yield server


@contextlib.contextmanager
def proxy(core: int, behind: Server, *, buffering: bool = True) -> Iterator[Server]:
    """Have a proxy that keeps its connections to the server behind."""
    keeping = f"upstream behind {{ server 127.0.0.1:{behind.port}; keepalive 64; keepalive_requests 1000000000; }}"
    location = _PROXY.replace("BUFFERING", "" if buffering else "proxy_buffering off;")
    with _nginx("nginx", core, keeping, location) as server:
        yield server


@contextlib.contextmanager
def _nginx(name: str, core: int, upstream: str, locations: str) -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="bench-nginx-") as folder:
        port, path = free_port(), Path(folder)
        user = f"user {getpass.getuser()};" if os.getuid() == 0 else ""
        text = _CONFIGURATION.format(user=user, folder=folder, upstream=upstream, port=port, locations=locations)
        (path / "nginx.conf").write_text(text)
        command = [find("nginx"), "-p", folder, "-c", str(path / "nginx.conf"), "-e", str(path / "error.log")]
        with started(name, command, core=core, port=port, log=path / "log") as server:
            yield server
