"""The process: told what to do on its channel, it answers at the listening socket until the channel is closed."""

import asyncio
import contextlib
import gc
import importlib
import logging
import socket
from collections.abc import Sequence

from moorage.base import link
from moorage.base.clock import Clock, SystemClock
from moorage.base.descriptors import allow_most_files
from moorage.base.link import Link, LinkClosed
from moorage.base.process import run_process
from moorage.base.tasks import Tasks
from moorage.front.question import Askable
from moorage.front.server import Front
from moorage.front.spec import FrontContainer, FrontSpec
from moorage.front.station import Station

log = logging.getLogger(__name__)

GARBAGE_THRESHOLD = 50_000
"""A call leaves no cycles: the collector would only look, again and again, at what is under way."""


def run(channel: socket.socket, listener: socket.socket) -> None:
    """Be the front of one instance until SIGTERM, or until the other end of the channel is closed."""
    gc.set_threshold(GARBAGE_THRESHOLD, 50, 100)
    allow_most_files()
    run_process("front", lambda stop: serve(channel, listener, stop, SystemClock()))


async def serve(channel: socket.socket, listener: socket.socket, stop: asyncio.Event, clock: Clock) -> None:
    """Wait for the specification, then answer until told to stop."""
    tasks = Tasks()
    node = await link.take(channel)
    try:
        serving = tasks.start("serve", _serve(node, listener, tasks, clock))
        stopping = tasks.start("stop", stop.wait())
        await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
    finally:
        await tasks.close()
        await node.close()


async def _serve(node: Link, listener: socket.socket, tasks: Tasks, clock: Clock) -> None:
    """Answer until the node agent has closed its end."""
    front: Front | None = None
    try:
        async for message in node.messages():
            if message["op"] == "serve" and front is None:
                spec = FrontSpec.from_message(message["spec"])
                front = Front(spec, make_stations(spec, node, tasks, clock), tasks, clock)
                await front.open(listener)
                gc.collect()
                gc.freeze()
                await node.send({"op": "serving"})
    except LinkClosed:
        pass
    finally:
        if front is not None:
            front.close()


def make_stations(spec: FrontSpec, node: Link, tasks: Tasks, clock: Clock) -> Sequence[Askable]:
    """Make what talks to each container."""
    return [_make_station(container, spec, node, tasks, clock) for container in spec.containers]


def _make_station(container: FrontContainer, spec: FrontSpec, node: Link, tasks: Tasks, clock: Clock) -> Askable:
    station = Station(container.name, container.address, tasks, clock)
    if container.models is None or spec.settings is None:
        return station

    async def send(count: int) -> None:
        with contextlib.suppress(LinkClosed):
            await node.send({"op": "models", "container": container.name, "loaded": count})

    def tell(count: int) -> None:
        tasks.start("tell of models", send(count))

    # Imported only here: most fronts need neither a store nor keys.
    opening = importlib.import_module("moorage.front.models.opening")
    made: Askable = opening.open_models(container.models, station, spec.settings, tasks, clock, tell_count=tell)
    return made
