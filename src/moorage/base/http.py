"""HTTP/1.1 at a Unix socket, for the processes that the gateway relays requests to: uvicorn, tamed."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import uvicorn

from moorage.base.tasks import Tasks

_BACKLOG = 1024
_KEEP_ALIVE_SECONDS = 75
"""Longer than the gateway keeps an idle connection, so that it never sends into one that is being closed."""


def open_socket(path: Path) -> socket.socket:
    """Listen at a Unix socket, replacing what a dead process has left there."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    # From now on callers wait instead of being refused.
    listener.listen(_BACKLOG)
    return listener


class _Server(uvicorn.Server):
    """uvicorn without signal handlers: the process has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


@contextlib.asynccontextmanager
async def answering(
    app: Any, listener: socket.socket, stop: asyncio.Event, *, finish_seconds: int
) -> AsyncIterator[None]:
    """Answer at a listening socket; at the end, finish what has been begun.

    ``app`` is an ASGI application. A server that ends by itself sets ``stop``: its process is of no use any more.
    """
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level=logging.WARNING,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=finish_seconds,
    )
    server = _Server(config)
    serving = Tasks().start("answer HTTP", server.serve(sockets=[listener]))
    serving.add_done_callback(lambda _: stop.set())
    try:
        yield
    finally:
        server.should_exit = True
        await serving
