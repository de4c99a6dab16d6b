"""The neighbours process: answers at ``run_dir/neighbours.sock`` until SIGTERM."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from moorage.base.clock import SystemClock
from moorage.base.ids import SystemIds
from moorage.base.process import run_process
from moorage.base.settings import Settings
from moorage.base.tasks import Tasks
from moorage.neighbours.front import Front
from moorage.neighbours.keys import KeyRing
from moorage.neighbours.s3.app import S3App
from moorage.neighbours.sts.app import StsApp
from moorage.objects.folder import FolderStore

_BACKLOG = 1024
_KEEP_ALIVE_SECONDS = 75
"""Longer than the gateway keeps an idle connection, so that it never sends into one that is being closed."""

_GRACE_SECONDS = 10
"""For the requests in flight when the process is told to stop."""

log = logging.getLogger(__name__)


def run(settings: Settings) -> None:
    """Be the neighbours process until SIGTERM."""
    path = settings.run_dir / "neighbours.sock"

    async def main(stop: asyncio.Event) -> None:
        with _listen(path) as listener:
            await serve(settings, listener, stop)

    run_process("neighbours", main)


async def serve(settings: Settings, listener: socket.socket, stop: asyncio.Event) -> None:
    """Answer at a listening socket until told to stop."""
    clock = SystemClock()
    ids = SystemIds()
    tasks = Tasks()
    keys = KeyRing(settings, clock)
    store = FolderStore(settings.data_dir / "objects", clock, ids)
    app = Front(S3App(store, keys, clock, ids, region=settings.region), StsApp(keys, clock, ids))
    server = _Server(
        uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level=logging.WARNING,
            access_log=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
    )
    try:
        await keys.load()
        tasks.start("follow snapshots", keys.follow())
        tasks.start("sweep objects", _sweep(store))
        serving = tasks.start("serve S3 and STS", server.serve([listener]))
        stopped = tasks.start("wait for the end", stop.wait())
        await asyncio.wait([serving, stopped], return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await serving
    finally:
        await tasks.close()
        await asyncio.to_thread(store.close)


class _Server(uvicorn.Server):
    """A server that leaves signals to its process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _sweep(store: FolderStore) -> None:
    if swept := await store.sweep():
        log.info("removed %d files that unfinished uploads had left", swept)


@contextlib.contextmanager
def _listen(path: Path) -> Iterator[socket.socket]:
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
        yield listener
