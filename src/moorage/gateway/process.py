"""The gateway process: everything put together, and taken apart again."""

import asyncio
import socket
from functools import partial

from moorage.base.chance import system_chance
from moorage.base.clock import Clock, SystemClock
from moorage.base.ids import SystemIds
from moorage.base.process import run_process
from moorage.base.settings import Settings
from moorage.base.tasks import Tasks
from moorage.gateway.certificate import Certificate
from moorage.gateway.instances import Instances
from moorage.gateway.listener import Listener
from moorage.gateway.owners import Owner
from moorage.gateway.shared import Shared
from moorage.gateway.snapshots import SnapshotLink, read_routing
from moorage.gateway.upstream import Pool
from moorage.routing.decide import Routing

OWNER_SECONDS = 5.0
"""For how long a request waits for an owner that is being restarted."""

FIRST_SNAPSHOT_SECONDS = 1.0
"""For a control plane that has taken our call and does not speak; then the last snapshot on disk must do."""


def run(settings: Settings, listener: socket.socket, certificate: Certificate | None = None) -> None:
    """Run a gateway at a listening socket until SIGTERM; with a certificate it speaks TLS."""
    run_process("gateway", lambda stop: serve(settings, listener, stop, SystemClock(), certificate))


async def serve(
    settings: Settings,
    listening: socket.socket,
    stop: asyncio.Event,
    clock: Clock,
    certificate: Certificate | None = None,
) -> None:
    """Answer clients until told to stop; then finish what is in flight."""
    tasks = Tasks()
    snapshots = SnapshotLink(settings.run_dir / "snapshots.sock", clock, lambda routing: apply(shared, routing))
    shared = Shared(
        limits=settings.limits,
        clock=clock,
        chance=system_chance(),
        ids=SystemIds(),
        tasks=tasks,
        instances=Instances(tasks, clock, drained=snapshots.drained, unreachable=snapshots.unreachable),
        owners=_owners(settings, tasks, clock),
        secure=certificate is not None,
    )
    listener = Listener(shared, certificate)
    try:
        tasks.start("snapshots", snapshots.run())
        # The control plane shall know that we use its instances before we do (control/publish.py).
        await snapshots.first(FIRST_SNAPSHOT_SECONDS)
        last = None if shared.routing else await read_routing(settings.data_dir / "snapshot.json")
        if last is not None and shared.routing is None:
            apply(shared, last)
        await listener.open(listening)
        await stop.wait()
        await listener.close()
    finally:
        await tasks.close()


def apply(shared: Shared, routing: Routing) -> None:
    """Route by a new snapshot: invocations that are decided from now on see it, and nothing of the old one."""
    shared.routing = routing
    shared.instances.apply(routing.instances)


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
