"""The neighbours process: answers at ``run_dir/neighbours.sock`` until SIGTERM."""

import asyncio
import logging
import socket

from moorage.base.clock import SystemClock
from moorage.base.http import answering, open_socket
from moorage.base.ids import SystemIds
from moorage.base.process import run_process
from moorage.base.settings import Settings
from moorage.base.tasks import Tasks
from moorage.kms.ring import open_ring
from moorage.neighbours.front import Front
from moorage.neighbours.keys import AccessKeys
from moorage.neighbours.kms.app import kms_app
from moorage.neighbours.logs.app import logs_app
from moorage.neighbours.s3.app import S3App
from moorage.neighbours.sts.app import StsApp
from moorage.objects.folder import FolderStore, open_store

_FINISH_SECONDS = 10
"""For the requests in flight when the process is told to stop."""

log = logging.getLogger(__name__)


def run(settings: Settings) -> None:
    """Be the neighbours process until SIGTERM."""
    path = settings.run_dir / "neighbours.sock"

    async def main(stop: asyncio.Event) -> None:
        with open_socket(path) as listener:
            await serve(settings, listener, stop)

    run_process("neighbours", main)


async def serve(settings: Settings, listener: socket.socket, stop: asyncio.Event) -> None:
    """Answer at a listening socket until told to stop."""
    clock = SystemClock()
    ids = SystemIds()
    tasks = Tasks()
    keys = AccessKeys(settings, clock)
    store, ring = open_store(settings, clock, ids), open_ring(settings, clock, ids)
    app = Front(
        {
            "s3": S3App(store, ring, keys, clock, ids, region=settings.region),
            "sts": StsApp(keys, clock, ids),
            "kms": kms_app(ring, keys, clock, ids),
            "logs": logs_app(settings, keys, clock, ids),
        }
    )
    try:
        await keys.load()
        tasks.start("follow snapshots", keys.follow())
        tasks.start("sweep objects", _sweep(store))
        async with answering(app, listener, stop, finish_seconds=_FINISH_SECONDS):
            await stop.wait()
    finally:
        await tasks.close()
        await asyncio.to_thread(store.close)


async def _sweep(store: FolderStore) -> None:
    if swept := await store.sweep():
        log.info("removed %d files that unfinished uploads had left", swept)
