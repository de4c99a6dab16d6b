"""The warm process of an environment: has imported the framework, never a model's code, and forks instances.

It talks with the node agent over the socket that it inherits (``SOCK_SEQPACKET``: one message, one answer). It says
``{"ready": true}`` when it is warm. Then each order is a JSON object with three descriptors (``SCM_RIGHTS``): the
instance's listening socket, its log, and its gate; and a fourth, its disk, if that is to be mounted, or the namespaces
of the container that it is to be in. The answer is the new process's id, or an error in words.

The instance is born as the child of a middle process that ends at once. So the node agent, which adopts orphans,
becomes its parent, hears of its end from the kernel, and a zygote that dies harms no instance. The instance waits at
its gate, a pipe, until the node agent has put it under its limits and watches it. Only then does it let its parent's
death kill it (before, its parent was another), and a gate that is closed by then says that the node agent is gone.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import json
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from . import isolation, seccomp
from .isolation import MODEL_FOLDER, View

MESSAGE_BYTES = 256 * 1024
"""Larger than any order: a user's environment variables have at most 32 KB (data-plane.md section 7.2)."""

_MOST_DESCRIPTORS = 16
_SETUP_FAILED = 70
_STANDARD_STREAMS = 3


@dataclass(frozen=True)
class Order:
    """One instance to be forked."""

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
    """User and group id in the container whose namespaces come with the order; None: it enters none."""

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
    gate: int
    others: Sequence[int]
    """The namespaces of a guest's container; or a mount of the instance's disk that is nowhere yet (open_tree(2)),
    unless it has none, or sees it already."""


def main(arguments: Sequence[str]) -> None:
    """Serve the node agent at the inherited socket, or with ``check`` say whether the sandbox can be had here."""
    isolation.die_with_parent()
    if arguments[0] == "check":
        check(View.from_message(json.loads(arguments[1])))
        return
    channel = socket.socket(fileno=int(arguments[0]))
    channel.set_inheritable(False)
    importlib.import_module(".instance", __package__)
    for module in arguments[1:]:
        importlib.import_module(module)
    # What lives now is shared by all instances: never looked at by their collectors, so that it stays shared.
    gc.collect()
    gc.freeze()
    channel.send(b'{"ready": true}')
    while True:
        message, descriptors, _flags, _address = socket.recv_fds(channel, MESSAGE_BYTES, _MOST_DESCRIPTORS)
        if not message:
            return
        channel.send(json.dumps(_answer(message, descriptors)).encode())


def _answer(message: bytes, descriptors: Sequence[int]) -> dict[str, Any]:
    try:
        listener, log, gate, *others = descriptors
        given = Given(listener, log, gate, others)
        return {"pid": _fork_instance(Order.from_message(json.loads(message)), given)}
    except (OSError, ValueError, TypeError, KeyError) as fault:
        return {"error": str(fault)}
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _fork_instance(order: Order, given: Given) -> int:
    """Fork an instance by way of a middle process; gives its process id, raises OSError."""
    reader, writer = os.pipe()
    middle = os.fork()
    if middle == 0:
        _be_the_middle(order, given, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        said = answers.readline()
    os.waitpid(middle, 0)
    if not said.strip().isdigit():
        raise OSError(said.decode().strip() or "the instance could not be forked")
    return int(said)


def _be_the_middle(order: Order, given: Given, writer: int) -> NoReturn:
    try:
        if order.view is not None:
            isolation.separate(isolated=order.view.isolated)
        if order.guest_uid is not None:
            isolation.enter(given.others)
        # Until the instance can hear it, a SIGTERM has to wait: the kernel drops those that process 1 of its list does
        # not handle, and nobody sends another.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        child = os.fork()
    except OSError as fault:
        os.write(writer, f"{fault}\n".encode())
        os._exit(1)
    if child == 0:
        _be_the_instance(order, given)
    os.write(writer, f"{child}\n".encode())
    os._exit(0)


def _be_the_instance(order: Order, given: Given) -> NoReturn:
    code = _SETUP_FAILED
    try:
        _take_streams(given.log)
        if order.view is not None:
            isolation.build_view(order.view, *given.others)
        if order.guest_uid is not None:
            isolation.name_the_user(order.guest_uid)
        _pass(given.gate, order)
        _forget_the_zygote(order, keep=given.listener)
        code = _run(given.listener, order)
    except BaseException:  # noqa: BLE001 - the last frame of this process: whatever it is, the log gets it
        traceback.print_exc()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _take_streams(log: int) -> None:
    """Print to the log, which may be a pipe; the zygote's own streams stay for what took hold of them in an import."""
    os.setsid()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]  # TextIO
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    # New objects, because the zygote's know that one can seek in its file: in a pipe ``reconfigure`` would fail.
    sys.stdout = sys.__stdout__ = _stream(1)  # type: ignore[misc]  # the true one
    sys.stderr = sys.__stderr__ = _stream(2)  # type: ignore[misc]


def _stream(descriptor: int) -> io.TextIOWrapper:
    return open(descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _pass(gate: int, order: Order) -> None:
    """Wait until the node agent opens the gate, give up all privileges, and tie this life to the node agent's."""
    if os.read(gate, 1) != b"1":
        os._exit(_SETUP_FAILED)
    if order.view is not None:
        isolation.show_groups(order.view.groups)
    isolation.give_up_privileges(order.guest_uid if order.view is None else order.view.uid)
    if order.filtered:
        seccomp.install()
    if order.guest_uid is None:  # else they are the container's first process's
        isolation.adopt_orphans()
    isolation.die_with_parent()
    poll = select.poll()
    poll.register(gate, 0)
    if poll.poll(0):
        os._exit(_SETUP_FAILED)


def _forget_the_zygote(order: Order, keep: int) -> None:
    """Close what was inherited, and take this instance's variables, limits and signals."""
    os.closerange(_STANDARD_STREAMS, keep)
    os.closerange(keep + 1, os.sysconf("SC_OPEN_MAX"))
    isolation.limit_resources(order.memory_bytes, order.core_bytes)
    isolation.set_process_name("moorage-model")
    os.environ.clear()
    os.environ.update(order.environment)
    os.chdir(order.working_dir)
    sys.argv = ["serve"]
    sys.path[:0] = [path for path in order.environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    shuffle_anew()
    # The node agent ignores SIGINT, and what it ignores is ignored by all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Until the server has a handler of its own. As process 1 of its list it would not be ended by the default.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def shuffle_anew() -> None:
    """Give numpy's global generator a new seed: a fork has its parent's (Python's own is seeded anew by Python)."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def _run(listener: int, order: Order) -> int:
    instance = importlib.import_module(".instance", __package__)
    try:
        instance.serve(socket.socket(fileno=listener), order.model_dir, order.toolkit)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def check(view: View) -> None:
    """Do once what each instance does before the model's code runs; says what could not be had and exits with 1."""
    try:
        isolation.separate(isolated=view.isolated)
    except OSError as fault:
        sys.exit(str(fault))
    child = os.fork()
    if child == 0:
        _check_inside(view)
    _pid, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status))


def _check_inside(view: View) -> NoReturn:
    try:
        isolation.build_view(view)
        isolation.show_groups(view.groups)
        isolation.give_up_privileges(view.uid)
        Path(MODEL_FOLDER, "check").touch()
        alone = [path.name for path in Path("/proc").iterdir() if path.name.isdigit()] == ["1"]
    except OSError as fault:
        sys.stderr.write(f"{fault}\n")
        sys.stderr.flush()
        os._exit(1)
    os._exit(0 if alone else 1)
