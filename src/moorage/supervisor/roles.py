"""The processes of a server, in the order in which they are stopped (docs/design/processes.md)."""

import functools
import socket
from collections.abc import Sequence

from moorage.base.settings import Settings
from moorage.control import process as control
from moorage.engine.machine import Need
from moorage.engine.probe import choose_engine, probe
from moorage.gateway import process as gateway
from moorage.gateway.certificate import Certificate
from moorage.neighbours import process as neighbours
from moorage.node import process as node
from moorage.supervisor.family import Role

_MARGIN_SECONDS = 5.0


def make_roles(settings: Settings, listeners: Sequence[socket.socket], certificate: Certificate | None) -> list[Role]:
    """Say what to run, and how long each may take to stop: one gateway for each listening socket."""
    grace = settings.limits.stop_grace_seconds
    return [
        # They drain: what is in flight is answered first.
        *(
            Role(
                "gateway",
                functools.partial(gateway.run, settings, listener, certificate),
                grace + _MARGIN_SECONDS,
                listener,
            )
            for listener in listeners
        ),
        Role("control", functools.partial(control.run, settings), 10.0),
        # Its instances get SIGTERM, after the grace SIGKILL.
        Role("node", functools.partial(node.run, settings), grace + _MARGIN_SECONDS),
        Role("neighbours", functools.partial(neighbours.run, settings), 10.0),
    ]


def tier(settings: Settings) -> str:
    """Say which engine runs instances here; raises EngineUnavailable when the one that was asked for does not work."""
    serving = choose_engine(settings.engine, probe(frozenset({Need.SANDBOX, Need.DOCKER})))
    return settings.engine if settings.engine == "docker" else serving
