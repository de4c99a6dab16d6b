"""The warm process of an environment: has imported the framework, never a model's code, and forks instances.

It talks with the node agent over the socket that it inherits (``SOCK_SEQPACKET``: one message, one answer). It says
``{"ready": true}`` when it is warm. Then each message asks for a process and says what of it is known already
(``Birth``); with it come descriptors (``SCM_RIGHTS``): the new process's own channel to the node agent and, if it is
to be in a container, that one's namespaces. The answer is the new process's id, or an error in words.

The new process, a child of a middle process that ends at once, waits at its channel for its order (``embryo``). So
the node agent, which adopts orphans, becomes its parent, hears of its end from the kernel, and a zygote that dies
harms no instance; and the zygote, from which the next ones are forked, never learns anything of an instance.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from . import embryo, isolation
from .isolation import MODEL_FOLDER, View

_MESSAGE_BYTES = 4096
_MOST_DESCRIPTORS = 16


@dataclass(frozen=True)
class Birth:
    """What is known of a process when it is forked."""

    room: bool
    """It gets namespaces of its own."""
    guest: bool
    """It enters the namespaces of a container, whose descriptors come with the message."""


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
        message, descriptors, _flags, _address = socket.recv_fds(channel, _MESSAGE_BYTES, _MOST_DESCRIPTORS)
        if not message:
            return
        channel.send(json.dumps(_answer(message, descriptors)).encode())


def _answer(message: bytes, descriptors: Sequence[int]) -> dict[str, Any]:
    try:
        channel, *namespaces = descriptors
        return {"pid": _fork(Birth(**json.loads(message)), channel, namespaces)}
    except (OSError, ValueError, TypeError) as fault:
        return {"error": str(fault)}
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _fork(birth: Birth, channel: int, namespaces: Sequence[int]) -> int:
    """Fork a process by way of a middle process; gives its process id, raises OSError."""
    reader, writer = os.pipe()
    middle = os.fork()
    if middle == 0:
        _be_the_middle(birth, channel, namespaces, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        said = answers.readline()
    os.waitpid(middle, 0)
    if not said.strip().isdigit():
        raise OSError(said.decode().strip() or "the instance could not be forked")
    return int(said)


def _be_the_middle(birth: Birth, channel: int, namespaces: Sequence[int], writer: int) -> NoReturn:
    try:
        if birth.room:
            isolation.separate()
        if birth.guest:
            isolation.enter(namespaces)
        # Until the instance can hear it, a SIGTERM has to wait: the kernel drops those that process 1 of its list does
        # not handle, and nobody sends another.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        child = os.fork()
    except OSError as fault:
        os.write(writer, f"{fault}\n".encode())
        os._exit(1)
    if child == 0:
        embryo.live(channel, has_room=birth.room)
    os.write(writer, f"{child}\n".encode())
    os._exit(0)


def check(view: View) -> None:
    """Do once what each instance does before the model's code runs; says what could not be had and exits with 1."""
    try:
        isolation.separate()
    except OSError as fault:
        sys.exit(str(fault))
    child = os.fork()
    if child == 0:
        _check_inside(view)
    _pid, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status))


def _check_inside(view: View) -> NoReturn:
    try:
        isolation.furnish_room()
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
