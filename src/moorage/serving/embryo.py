"""A process that was forked from the zygote and is an instance once it has its order.

It may be forked long before anybody knows of the instance: what costs time and is the same for all is done by then.
It waits at its channel to the node agent (``SOCK_SEQPACKET``) for one message: a JSON object with descriptors
(``SCM_RIGHTS``), the instance's listening socket, its log, and its disk if that is to be mounted. It answers that it
has it. Before, the node agent has put it into its control groups. A channel that is closed without an order says that
it is not needed, or that the node agent is gone: then it ends. With its order it lets its parent's death kill it, and
looks once more.

Each is used for one instance, and none has ever heard of another.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from . import isolation, seccomp
from .forks import leave
from .isolation import View

NAME = "moorage-embryo"
"""Of its process until it has its order (15 bytes at most)."""

_MESSAGE_BYTES = 256 * 1024
"""Larger than any order: a user's environment variables have at most 32 KB (data-plane.md section 7.2)."""

_MOST_DESCRIPTORS = 3
_SETUP_FAILED = 70
_STANDARD_STREAMS = 3


@dataclass(frozen=True)
class Order:
    """The instance to become."""

    environment: Mapping[str, str]
    toolkit: str
    """Which container the server behaves like (``model.load``)."""
    model_dir: str
    """As the instance will see it."""
    working_dir: str
    """Where the model's code starts, and where a crash leaves its core file."""
    core_bytes: int
    """Largest core file; 0: none."""
    memory_bytes: int | None
    """Limit for each process, where there is no cgroup to limit them all."""
    view: View | None
    """None: no namespaces of its own making (the engines ``process`` and ``docker``)."""
    filtered: bool
    """Refuse the system calls that no model needs."""
    guest_uid: int | None = None
    """User and group id in the container whose namespaces it is in; None: it is in none."""

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Order:
        """Read the JSON form."""
        view = message["view"]
        return cls(**{**message, "view": None if view is None else View.from_message(view)})


@dataclass(frozen=True)
class Given:
    """The descriptors that come with an order."""

    listener: int
    log: int
    disk: int | None
    """A mount that is nowhere yet (open_tree(2)); None: there is no disk, or it is seen already."""


def live(channel: int, *, has_room: bool) -> NoReturn:
    """Get ready, wait for the order, be the instance; ``has_room``: in namespaces of its own, still as they came."""
    code = _SETUP_FAILED
    try:
        _forget_the_zygote(keep=channel)
        if has_room:
            isolation.furnish_room()
        order, given = _take_order(channel)
        _take_streams(given.log)
        _become(order, given)
        _pass(channel)
        code = _run(given.listener, order)
    except BaseException:  # noqa: BLE001 - the last frame of this process: whatever it is, the log gets it
        traceback.print_exc()
    leave(code)


def _forget_the_zygote(keep: int) -> None:
    """Close what was inherited, and do what needs no order: a session, a place in the queue of those to be killed."""
    os.setsid()
    os.closerange(_STANDARD_STREAMS, keep)
    os.closerange(keep + 1, os.sysconf("SC_OPEN_MAX"))
    isolation.set_process_name(NAME)
    isolation.go_first_when_memory_ends()
    shuffle_anew()


def shuffle_anew() -> None:
    """Give numpy's global generator a new seed: a fork has its parent's (Python's own is seeded anew by Python)."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def _take_order(channel: int) -> tuple[Order, Given]:
    """Wait for the order; ends the process when there will be none."""
    orders = socket.socket(fileno=channel)
    message, descriptors, _flags, _address = socket.recv_fds(orders, _MESSAGE_BYTES, _MOST_DESCRIPTORS)
    orders.detach()
    if not message:
        os._exit(0)
    os.write(channel, b"1")
    listener, log, *disk = descriptors
    return Order.from_message(json.loads(message)), Given(listener, log, disk[0] if disk else None)


def _take_streams(log: int) -> None:
    """Print to the log, which may be a pipe; the zygote's own streams stay for what took hold of them in an import."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]  # TextIO
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, number in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, number)
    os.close(nothing)
    os.close(log)
    # New objects, because the zygote's know that one can seek in its file: in a pipe ``reconfigure`` would fail.
    sys.stdout = sys.__stdout__ = _stream(1)  # type: ignore[misc]  # the true one
    sys.stderr = sys.__stderr__ = _stream(2)  # type: ignore[misc]


def _stream(descriptor: int) -> io.TextIOWrapper:
    return open(descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _become(order: Order, given: Given) -> None:
    """See what the instance sees, with its variables and limits, and give up all privileges."""
    if order.view is not None:
        isolation.build_view(order.view, given.disk)
        isolation.show_groups(order.view.groups)
    if given.disk is not None:
        os.close(given.disk)
    if order.guest_uid is not None:
        isolation.name_the_user(order.guest_uid)
    isolation.limit_resources(order.memory_bytes, order.core_bytes)
    isolation.give_up_privileges(order.guest_uid if order.view is None else order.view.uid)
    if order.filtered:
        seccomp.install()
    if order.guest_uid is None:  # else they are the container's first process's
        isolation.adopt_orphans()
    isolation.set_process_name("moorage-model")
    os.environ.clear()
    os.environ.update(order.environment)
    os.chdir(order.working_dir)
    sys.argv = ["serve"]
    sys.path[:0] = [path for path in order.environment.get("PYTHONPATH", "").split(os.pathsep) if path]


def _pass(channel: int) -> None:
    """Tie this life to the node agent's, unless that is over, and hear signals."""
    isolation.die_with_parent()  # now that the user does not change any more
    poll = select.poll()
    poll.register(channel, 0)
    if poll.poll(0):
        os._exit(_SETUP_FAILED)
    os.close(channel)
    # The node agent ignores SIGINT, and what it ignores is ignored by all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Until the server has a handler of its own. As process 1 of its list it would not be ended by the default.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _run(listener: int, order: Order) -> int:
    instance = importlib.import_module(".instance", __package__)
    try:
        instance.serve(socket.socket(fileno=listener), order.model_dir, order.toolkit)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0
