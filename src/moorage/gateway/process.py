"""The gateway process: everything put together, and taken apart again."""

import asyncio
import gc
import os
import socket
from functools import partial

from moorage.base.chance import system_chance
from moorage.base.clock import Clock, SystemClock
from moorage.base.ids import QuickIds, SystemIds
from moorage.base.process import run_process
from moorage.base.settings import Settings
from moorage.base.tasks import Tasks
from moorage.gateway.access_log import AccessLog
from moorage.gateway.capture.recorder import Recorder
from moorage.gateway.certificate import Certificate
from moorage.gateway.heap import keep_memory, keep_trimmed
from moorage.gateway.hold import Hold
from moorage.gateway.instances import Instances
from moorage.gateway.listener import Listener
from moorage.gateway.owners import Owner
from moorage.gateway.reports import Reports
from moorage.gateway.sessions import Sessions
from moorage.gateway.shadow.mirror import Metered, Mirror
from moorage.gateway.shared import Shared
from moorage.gateway.snapshots import SnapshotLink, read_routing
from moorage.gateway.upstream import Pool
from moorage.objects.folder import open_store
from moorage.objects.store import ObjectStore
from moorage.telemetry.meters import Meters

OWNER_SECONDS = 5.0
"""For how long a request waits for an owner that is being restarted."""

GARBAGE_THRESHOLD = 50_000
"""Objects that are made and not yet let go of, before the collector looks at the youngest."""

LAST_REPORT_SECONDS = 2.0
"""For the last numbers to reach the control plane, at the end."""

FIRST_SNAPSHOT_SECONDS = 1.0
"""For a control plane that has taken our call and does not speak; then the last snapshot on disk must do."""


def run(settings: Settings, listener: socket.socket, certificate: Certificate | None = None) -> None:
    """Run a gateway at a listening socket until SIGTERM; with a certificate it speaks TLS."""
    # An invocation leaves no cycles: the collector would only look, again and again, at what is in flight.
    gc.set_threshold(GARBAGE_THRESHOLD, 50, 100)
    keep_memory()
    run_process("gateway", lambda stop: serve(settings, listener, stop, SystemClock(), certificate))


async def serve(
    settings: Settings,
    listening: socket.socket,
    stop: asyncio.Event,
    clock: Clock,
    certificate: Certificate | None = None,
) -> None:
    """Answer clients until told to stop; then finish what is in flight."""
    tasks, meters = Tasks(), Meters()
    store = open_store(settings, clock, SystemIds())
    reports = Reports(meters, gateway=SystemIds().request_id(), name=str(os.getpid()))
    snapshots = SnapshotLink(
        settings.run_dir / "snapshots.sock",
        clock,
        lambda routing: shared.apply(routing),  # noqa: PLW0108 - it is made from this link
        reports,
    )
    shared = _make_shared(settings, clock, tasks, meters, store=store, snapshots=snapshots)
    shared.secure = certificate is not None
    listener = Listener(shared, certificate)
    try:
        tasks.start("snapshots", snapshots.run())
        # The control plane shall know that we use its instances before we do (control/publish.py).
        await snapshots.first(FIRST_SNAPSHOT_SECONDS)
        last = None if shared.routing else await read_routing(settings.data_dir / "snapshot.json")
        if last is not None and shared.routing is None:
            shared.apply(last)
        shared.recorder.start(tasks)
        tasks.start("metrics", snapshots.report())
        tasks.start("heap", keep_trimmed(shared, clock))
        tasks.start("sessions", shared.sessions.keep_swept(clock))
        await listener.open(listening)
        await stop.wait()
        await listener.close()
        await snapshots.report_last(LAST_REPORT_SECONDS)
    finally:
        await shared.mirror.close()
        await shared.recorder.close()
        await tasks.close()
        if shared.access_log is not None:
            await asyncio.to_thread(shared.access_log.close)
        await asyncio.to_thread(store.close)


def _make_shared(  # noqa: PLR0913 - a gateway is made of this much
    settings: Settings, clock: Clock, tasks: Tasks, meters: Meters, *, store: ObjectStore, snapshots: SnapshotLink
) -> Shared:
    limits, chance = settings.limits, system_chance()
    hold = Hold(limits.held_invocations)
    instances = Instances(
        tasks,
        clock,
        drained=snapshots.drained,
        unreachable=snapshots.unreachable,
        recovered=hold.release_all,
        most_outstanding=limits.invocations_per_instance,
    )
    recorder = Recorder(settings, clock, chance, SystemIds(), store, event_ids=QuickIds())

    mirror = Mirror(instances, recorder, limits, clock, chance, observe=Metered(meters).note)
    _tell_losses(meters, recorder, mirror)
    return Shared(
        limits=limits,
        clock=clock,
        chance=chance,
        ids=QuickIds(),
        tasks=tasks,
        instances=instances,
        owners=_owners(settings, tasks, clock),
        sessions=Sessions(
            settings.data_dir / "sessions",
            per_endpoint=limits.sessions_per_endpoint,
            session_seconds=limits.session_seconds,
        ),
        hold=hold,
        meters=meters,
        recorder=recorder,
        mirror=mirror,
        access_log=_open_access_log(settings, meters),
    )


def _tell_losses(meters: Meters, recorder: Recorder, mirror: Mirror) -> None:
    """Tell what goes on beside the invocations, and what of it was dropped."""

    def skipped() -> int:
        return sum(count for name, count in mirror.counts().items() if name.startswith("skipped_"))

    meters.tell("moorage_mirror_sent_total", lambda: mirror.counts()["copied"])
    meters.tell("moorage_mirror_dropped_total", skipped)
    meters.tell("moorage_capture_records_total", lambda: recorder.counts()["recorded"])
    meters.tell("moorage_capture_dropped_total", lambda: recorder.dropped)


def _open_access_log(settings: Settings, meters: Meters) -> AccessLog | None:
    if settings.access_log is None:
        return None
    limits = settings.limits
    made = AccessLog(settings.access_log, most_bytes=limits.access_log_bytes, most_files=limits.access_log_files)
    meters.tell("moorage_access_log_dropped_total", lambda: made.dropped)
    return made


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
