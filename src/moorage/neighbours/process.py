"""The neighbours process: answers at ``run_dir/neighbours.sock`` until SIGTERM."""

import asyncio
import logging
import socket

from moorage.base.clock import Clock, SystemClock
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
from moorage.neighbours.sqs.app import sqs_app
from moorage.neighbours.sqs.desk import Desk
from moorage.neighbours.sqs.rows import STEPS, sweep
from moorage.neighbours.sts.app import StsApp
from moorage.objects.folder import FolderStore, open_store
from moorage.state.store import FileStore, Store

_SWEEP_SECONDS = 60.0
"""Between two looks for messages that nobody has taken."""

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
    messages = FileStore(settings.data_dir / "messages.db", STEPS)
    desk = Desk(messages, clock, ids)
    app = Front(
        {
            "s3": S3App(store, ring, keys, clock, ids, region=settings.region),
            "sts": StsApp(keys, clock, ids),
            "kms": kms_app(ring, keys, clock, ids),
            "logs": logs_app(settings, keys, clock, ids),
            "sqs": sqs_app(desk, keys),
        }
    )
    try:
        await keys.load()
        tasks.start("follow snapshots", keys.follow())
        tasks.start("sweep objects", _sweep(store))
        tasks.start("sweep messages", _sweep_messages(messages, clock))
        async with answering(app, listener, stop, finish_seconds=_FINISH_SECONDS):
            await stop.wait()
    finally:
        await tasks.close()
        await asyncio.to_thread(store.close)
        await asyncio.to_thread(messages.close)


async def _sweep(store: FolderStore) -> None:
    if swept := await store.sweep():
        log.info("removed %d files that unfinished uploads had left", swept)


async def _sweep_messages(store: Store, clock: Clock) -> None:
    while True:
        await store.transact(lambda connection: sweep(connection, clock.now()))
        await clock.sleep_until(clock.monotonic() + _SWEEP_SECONDS)
