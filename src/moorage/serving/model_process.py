"""The process of one model of several: loads it, serves the connections that it is handed, hands back what is not its.

It is forked from the instance's base process (``models``), with which it talks over a pair of sockets
(``SOCK_SEQPACKET``). Each message begins with a letter; a connection's descriptor goes with it (``SCM_RIGHTS``):

    CONNECTION  both ways  the other is to go on with this connection; the bytes of the next request that have come
    READY       to base    the model is loaded
    SHORT       to base    there is too little memory to load it; then the process ends
    FAILED      to base    it cannot be loaded, and why; then the process ends

So a caller that keeps its connection to one model talks to this process with nobody in between.
"""

from __future__ import annotations

import gc
import os
import select
import socket
import traceback
from dataclasses import dataclass
from typing import NoReturn

from . import memory
from .batching import Batcher, Batching, make_batcher
from .embryo import shuffle_anew
from .forks import end_with, leave
from .handlers import Handlers, one_line
from .model import load
from .server import Connection, Server
from .wire import Answer, Request, plain

CONNECTION, READY, SHORT, FAILED = b"C", b"R", b"S", b"F"

MESSAGE_BYTES = 128 * 1024
"""Larger than any message: a connection's first bytes are what one read gives."""

_BACK_SECONDS = 10.0
_LONGEST_REASON_BYTES = 4096


def path_of(name: str) -> str:
    """Give the path at which a model is invoked."""
    return f"/models/{name}/invoke"


@dataclass(frozen=True)
class Kind:
    """What all models of an instance have in common."""

    toolkit: str
    batching: Batching


def be_the_model(name: str, model_dir: str, kind: Kind, channel: socket.socket, base: int) -> NoReturn:
    """Be the process of a model until the base process, whose id is ``base``, ends it."""
    code = 1
    try:
        end_with(base)
        memory.go_before(memory.OF_A_LOAD)
        shuffle_anew()
        server = _load(name, model_dir, kind, channel)
        memory.go_before(memory.OF_A_MODEL)
        server.run()
        code = 0
    except SystemExit:
        pass
    except BaseException:  # noqa: BLE001 - the last frame of this process: whatever it is, the log gets it
        traceback.print_exc()
    leave(code)


def _load(name: str, model_dir: str, kind: Kind, channel: socket.socket) -> ModelServer:
    """Load the model and say so; raises SystemExit when it cannot be loaded, which is said too."""
    try:
        handlers = load(model_dir, os.environ, kind.toolkit, multi_model=True)
    except MemoryError:
        traceback.print_exc()
        channel.send(SHORT)
        raise SystemExit(1) from None
    except BaseException as fault:  # noqa: BLE001 - the customer's code may raise anything, also SystemExit
        traceback.print_exc()
        channel.send(FAILED + one_line(fault).encode()[:_LONGEST_REASON_BYTES])
        raise SystemExit(1) from None
    gc.collect()
    gc.freeze()
    server = ModelServer(channel, name, handlers, make_batcher(handlers, kind.batching))
    channel.send(READY)
    return server


class ModelServer(Server):
    """Serves what it is handed instead of what connects to it."""

    def __init__(self, channel: socket.socket, name: str, handlers: Handlers, batcher: Batcher | None) -> None:
        super().__init__(channel, handlers.answer, handlers.pages, batcher=batcher)
        self._channel = channel
        self._path = path_of(name)
        self._start = f"POST {self._path} ".encode()

    def _accept(self) -> None:
        while True:
            try:
                message, descriptors, _flags, _address = socket.recv_fds(self._channel, MESSAGE_BYTES, 1)
            except BlockingIOError:
                return
            if not message:  # the base process has ended
                os._exit(0)
            connection = self._adopt(socket.socket(fileno=descriptors[0]))
            connection.reader.feed(message[1:])
            self._take_request(connection)

    def _take_request(self, connection: Connection) -> None:
        if connection.reader.begins_with(self._start) is False:
            self._hand_back(connection)
        else:
            super()._take_request(connection)

    def _hand_back(self, connection: Connection) -> None:
        """Let the base process go on with a connection: the next request is not for this model."""
        message = CONNECTION + connection.reader.take_back()
        with self._give_away(connection) as connected:
            while not self._sent_back(message, connected):
                if not select.select([], [self._channel], [], _BACK_SECONDS)[1]:
                    return

    def _sent_back(self, message: bytes, connected: socket.socket) -> bool:
        """Send a connection to the base process; False when that has no room for it now."""
        try:
            socket.send_fds(self._channel, [message], [connected.fileno()])
        except BlockingIOError:
            return False
        except OSError:  # it is ending: so is this process, and the connection
            pass
        return True

    def _own_answer(self, request: Request) -> Answer | None:
        return None if request.path == self._path else plain(404, "Not Found")
