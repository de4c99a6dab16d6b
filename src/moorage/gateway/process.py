"""The gateway process: everything put together, and taken apart again."""

import asyncio
import os
import socket
from functools import partial

from moorage.base.chance import system_chance
from moorage.base.clock import Clock, SystemClock
from moorage.base.ids import QuickIds
from moorage.base.process import run_process
from moorage.base.settings import Settings
from moorage.base.tasks import Tasks
from moorage.gateway.familiar import Familiar
from moorage.gateway.access_log import AccessLog
from moorage.gateway.instances import Instances
from moorage.gateway.listener import Listener
from moorage.gateway.mirror import Mirror
from moorage.gateway.owners import Owner
from moorage.gateway.reports import Reports
from moorage.gateway.recorder import Recorder
from moorage.gateway.shared import Shared
from moorage.gateway.snapshots import SnapshotLink, read_routing
from moorage.gateway.upstream import Pool
from moorage.objects.folder import FolderStore
from moorage.routing.decide import Routing
from moorage.telemetry.meters import Meters

OWNER_SECONDS = 5.0
"""For how long a request waits for an owner that is being restarted."""


LAST_REPORT_SECONDS = 1.0
"""For the control plane to take what was counted last."""


def run(settings: Settings, listener: socket.socket) -> None:
    """Run a gateway at a listening socket until SIGTERM."""
    run_process("gateway", lambda stop: serve(settings, listener, stop, SystemClock()))


async def serve(settings: Settings, listening: socket.socket, stop: asyncio.Event, clock: Clock) -> None:
    """Answer clients until told to stop; then finish what is in flight."""
    tasks, ids, meters = Tasks(), SystemIds(), Meters()
    reports = Reports(meters, gateway=ids.request_id(), name=str(os.getpid()))
    snapshots = SnapshotLink(
        settings.run_dir / "snapshots.sock", clock, lambda routing: apply(shared, routing), reports
    )
    shared = Shared(
        limits=settings.limits,
        clock=clock,
        chance=system_chance(),
        ids=QuickIds(),
    tasks = Tasks()
    snapshots = SnapshotLink(settings.run_dir / "snapshots.sock", clock, lambda routing: apply(shared, routing))
    chance, ids = system_chance(), SystemIds()
    instances = Instances(tasks, clock, drained=snapshots.drained, unreachable=snapshots.unreachable)
    store = FolderStore(settings.data_dir / "objects", clock, ids)
    recorder = Recorder(settings, clock, chance, ids, store)
    shared = Shared(
        limits=settings.limits,
        clock=clock,
        chance=chance,
        ids=ids,
        tasks=tasks,
        instances=instances,
        owners=_owners(settings, tasks, clock),
        meters=meters,
        access_log=_open_access_log(settings, meters),
        recorder=recorder,
        mirror=Mirror(instances, recorder, settings.limits, clock, chance),
    )
    listener = Listener(shared)
    try:
        last = await read_routing(settings.data_dir / "snapshot.json")
        if last is not None:
            apply(shared, last)
        recorder.start(tasks)
        tasks.start("snapshots", snapshots.run())
        tasks.start("metrics", snapshots.report())
        await listener.open(listening)
        await stop.wait()
        await listener.close()
        await snapshots.report_last(LAST_REPORT_SECONDS)
    finally:
        await shared.mirror.close()
        await recorder.close()
        await tasks.close()
        if shared.access_log is not None:
            await asyncio.to_thread(shared.access_log.close)
        await asyncio.to_thread(store.close)


def apply(shared: Shared, routing: Routing) -> None:
    """Route by a new snapshot: invocations that are decided from now on see it, and nothing of the old one."""
    shared.routing = routing
    shared.familiar = Familiar()
    shared.instances.apply(routing.instances)
    shared.meters.serve(
        (*key, variant.name)
        for key, routes in routing.endpoints.items()
        for variant in (*routes.endpoint.variants, *routes.endpoint.shadows)
    )


def _open_access_log(settings: Settings, meters: Meters) -> AccessLog | None:
    if settings.access_log is None:
        return None
    limits = settings.limits
    made = AccessLog(settings.access_log, most_bytes=limits.access_log_bytes, most_files=limits.access_log_files)
    meters.tell("moorage_access_log_dropped_total", lambda: made.dropped)
    return made
    shared.recorder.apply(routing)
    shared.mirror.apply(routing)


def _owners(settings: Settings, tasks: Tasks, clock: Clock) -> dict[Owner, Pool]:
    make = partial(
        Pool,
        tasks=tasks,
        clock=clock,
        dial_seconds=OWNER_SECONDS,
        dial_again=(ConnectionRefusedError, FileNotFoundError, BlockingIOError),
    )
    return {
        Owner.CONTROL: make(f"unix:{settings.run_dir / 'control.sock'}"),
        Owner.NEIGHBOURS: make(f"unix:{settings.run_dir / 'neighbours.sock'}"),
    }
