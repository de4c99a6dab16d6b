"""The base process of an instance of many models: loads and unloads them, and knows which there are.

It speaks the contract of multi-model containers (data-plane.md section 8.1):

    POST   /models                {"model_name": ..., "url": ...}   200; 409 it is there already; 507 too little memory;
                                                                    500 it cannot be loaded
    GET    /models                next_page_token, limit            200
    GET    /models/{name}                                           200; 404
    DELETE /models/{name}                                           200; 404
    POST   /models/{name}/invoke                                    the model's answer; 404 it is not loaded
    GET    /ping                                                    200

Each model is a process of its own, forked from this one, which has the framework and runs no code of a customer: so a
model's memory is free when it is unloaded, and its crash is nobody else's. A connection that asks for a model is handed
to that model's process (``model_process``), and comes back when it asks for something else.

There is one thread, because it forks. A model that leaves less memory free than is to be, is not kept (507), unless it
is the only one. One that the kernel ends while it loads has found too little memory as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from typing import Any, NoReturn
from urllib.parse import parse_qs

from .batching import Batching
from .forks import ended_children, sigterm_waits
from .memory import Memory, private_bytes
from .model_process import CONNECTION, FAILED, MESSAGE_BYTES, READY, SHORT, Kind, be_the_model
from .pages import HEALTHY
from .wire import Answer, Refused, Request, RequestReader, head_of, plain

MODELS_OF_A_PAGE = 100
"""As in AWS's multi-model-server."""

END_SECONDS = 28.0
"""For what is under way in a model that is to be unloaded, or in all after SIGTERM; then they are killed."""

_BACKLOG_OF_A_TURN = 64
_READ_BYTES = 16 * 1024
_LARGE_READ_BYTES = 2**20
_JSON = "application/json"
_STANDARD_STREAMS = 3
_MOST_COSTS = 10_000


class State(Enum):
    """Where a model is."""

    LOADING = auto()
    LOADED = auto()
    UNLOADING = auto()


class Peer:
    """A connection that is not in a model's hands."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.reader = RequestReader()
        self.out = b""
        self.waits = False
        """For the end of a load or of an unload."""
        self.keep_alive = True


class Model:
    """A model and its process."""

    def __init__(self, name: str, url: str, pid: int, channel: socket.socket) -> None:
        self.name = name
        self.url = url
        self.pid = pid
        self.channel = channel
        self.state = State.LOADING
        self.loaders: list[Peer] = []
        """They wait for the end of its load; the first has begun it."""
        self.unloaders: list[Peer] = []
        self.handed: deque[tuple[bytes, socket.socket]] = deque()
        """Connections that its process has not taken yet."""
        self.failure: Answer | None = None
        """Why its load has failed, as soon as that is known."""
        self.kill_at = float("inf")
        self.deaf = False
        """Its process has closed its end."""

    def described(self) -> dict[str, str]:
        """Give the form of the contract."""
        return {"modelName": self.name, "modelUrl": self.url}


class Models:
    """The base process's work."""

    def __init__(self, listener: socket.socket, toolkit: str, batching: Batching, memory: Memory) -> None:
        self._listener = listener
        self._batching = batching
        self._toolkit = toolkit
        self._memory = memory
        self._epoll = select.epoll()
        self._peers: dict[int, Peer] = {}
        self._models: dict[str, Model] = {}
        self._channels: dict[int, Model] = {}
        self._costs: dict[str, int] = {}
        """Bytes that each model has been seen to take, whether it is loaded now or not."""
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._stopping = False
        self._pid = os.getpid()
        self._routes: Mapping[tuple[str, bool], Callable[[Peer, Request, str], None]] = {
            ("GET", False): self._list,
            ("POST", False): self._load,
            ("GET", True): self._describe,
            ("DELETE", True): self._unload,
        }

    def run(self) -> None:
        """Serve until SIGTERM; then end all models, after what they have begun."""
        self._listener.setblocking(False)
        self._epoll.register(self._listener, select.EPOLLIN)
        self._epoll.register(self._wake_read, select.EPOLLIN)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while not (self._stopping and not self._models):
            self._turn()

    def _stop(self, _number: int, _frame: object) -> None:
        self._stopping = True

    def _turn(self) -> None:
        patient = min((model.kill_at for model in self._models.values()), default=float("inf"))
        seconds = None if patient == float("inf") else max(0.0, patient - time.monotonic())
        for number, event in self._epoll.poll(seconds):
            if number in self._peers:
                self._progress(self._peers[number], event)
            elif number in self._channels:
                self._hear(self._channels[number], event)
            elif number == self._wake_read:
                self._look_at_signals()
            else:
                self._accept()
        for model in self._models.values():
            if model.kill_at <= time.monotonic():
                os.kill(model.pid, signal.SIGKILL)
                model.kill_at = float("inf")

    def _look_at_signals(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        if self._stopping and self._listener.fileno() >= 0:
            self._epoll.unregister(self._listener)
            self._listener.close()
            for model in self._models.values():
                self._end(model)
        self._bury()

    # Connections

    def _accept(self) -> None:
        for _ in range(_BACKLOG_OF_A_TURN):
            try:
                connected, _address = self._listener.accept()
            except OSError:  # none is left, or it has gone already
                return
            self._adopt(connected, b"")

    def _adopt(self, connected: socket.socket, data: bytes) -> None:
        connected.setblocking(False)
        if connected.family != socket.AF_UNIX:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = self._peers[connected.fileno()] = Peer(connected)
        self._epoll.register(connected, select.EPOLLIN)
        if data:
            peer.reader.feed(data)
            self._go_on(peer)

    def _progress(self, peer: Peer, event: int) -> None:
        if peer.out:
            self._flush(peer)
        elif peer.waits:
            if event & (select.EPOLLHUP | select.EPOLLERR):
                self._close(peer)
            else:  # it has said something before its answer: not to be looked at until then
                self._epoll.modify(peer.socket, 0)
        else:
            self._receive(peer)

    def _receive(self, peer: Peer) -> None:
        try:
            data = peer.socket.recv(_LARGE_READ_BYTES if peer.reader.in_body else _READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(peer)
            return
        peer.reader.feed(data)
        self._go_on(peer)

    def _go_on(self, peer: Peer) -> None:
        """See to a connection's requests, as far as they have come and can be answered."""
        while not peer.waits and not peer.out and peer.socket.fileno() >= 0:
            if (model := self._model_wanted(peer)) is not None:
                self._hand_over(peer, model)
                return
            try:
                request = peer.reader.next()
            except Refused as refusal:
                peer.keep_alive = False
                self._answer(peer, plain(refusal.status, refusal.message))
                return
            if request is None:
                if peer.reader.wants_continue:
                    peer.reader.wants_continue = False
                    with contextlib.suppress(OSError):
                        peer.socket.send(b"HTTP/1.1 100 Continue\r\n\r\n")
                return
            peer.keep_alive = request.keep_alive
            self._do(peer, request)

    def _answer(self, peer: Peer, answer: Answer) -> None:
        if peer.socket.fileno() < 0:  # it has gone meanwhile
            return
        peer.out = head_of(answer, keep_alive=peer.keep_alive) + answer.body
        self._flush(peer)

    def _flush(self, peer: Peer) -> None:
        try:
            sent = peer.socket.send(peer.out)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._close(peer)
            return
        peer.out = peer.out[sent:]
        if not peer.out and not peer.keep_alive:
            self._close(peer)
        else:
            self._epoll.modify(peer.socket, select.EPOLLOUT if peer.out else select.EPOLLIN)

    def _resume(self, peer: Peer, answer: Answer) -> None:
        """Answer one who has waited, and go on with what has come meanwhile."""
        peer.waits = False
        self._answer(peer, answer)
        self._go_on(peer)

    def _close(self, peer: Peer) -> None:
        self._peers.pop(peer.socket.fileno(), None)
        peer.socket.close()

    # Handing over

    def _model_wanted(self, peer: Peer) -> Model | None:
        """Give the loaded model that a connection's next request is for."""
        start = peer.reader.peek_line()
        if not start.startswith(b"POST /models/"):
            return None
        name, _, rest = start[len(b"POST /models/") :].partition(b"/")
        model = self._models.get(name.decode("latin-1")) if rest.startswith(b"invoke ") else None
        return model if model is not None and model.state is State.LOADED and not model.deaf else None

    def _hand_over(self, peer: Peer, model: Model) -> None:
        """Let a model's process go on with a connection."""
        del self._peers[peer.socket.fileno()]
        self._epoll.unregister(peer.socket)
        model.handed.append((CONNECTION + peer.reader.take_back(), peer.socket))
        self._send_handed(model)

    def _send_handed(self, model: Model) -> None:
        while model.handed:
            message, connected = model.handed[0]
            try:
                socket.send_fds(model.channel, [message], [connected.fileno()])
            except BlockingIOError:
                break
            except OSError:
                self._lose(model)
                return
            model.handed.popleft()
            connected.close()
        if not model.deaf:
            self._epoll.modify(model.channel, select.EPOLLIN | (select.EPOLLOUT if model.handed else 0))

    def _hear(self, model: Model, event: int) -> None:
        if event & select.EPOLLOUT:
            self._send_handed(model)
        if not event & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            return
        try:
            message, descriptors, _flags, _address = socket.recv_fds(model.channel, MESSAGE_BYTES, 1)
        except BlockingIOError:
            return
        except OSError:
            message, descriptors = b"", []
        if message:
            self._take(model, message, descriptors)
        else:
            self._lose(model)

    def _lose(self, model: Model) -> None:
        """End a model whose process has closed its end; one that is to be unloaded may finish its work first."""
        self._epoll.unregister(model.channel)
        model.deaf = True
        if model.state is not State.UNLOADING:
            with contextlib.suppress(ProcessLookupError):
                os.kill(model.pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                _pid, status = os.waitpid(model.pid, 0)
                self._gone(model, os.waitstatus_to_exitcode(status))

    def _take(self, model: Model, message: bytes, descriptors: Sequence[int]) -> None:
        """Do what a model's process says."""
        kind = message[:1]
        if kind == CONNECTION:
            self._adopt(socket.socket(fileno=descriptors[0]), message[1:])
        elif kind == READY:
            self._ready(model)
        elif kind == SHORT:
            model.failure = _short(model.name)
        elif kind == FAILED:
            model.failure = fault(500, "InternalServerException", message[1:].decode("utf-8", "replace"))

    # Requests

    def _do(self, peer: Peer, request: Request) -> None:
        path = request.path.removesuffix("/") or "/"
        if path == "/ping":
            self._answer(peer, HEALTHY)
            return
        _, _, below = path.partition("/models")
        route = self._routes.get((request.method, bool(below)))
        name = below.removeprefix("/")
        if path.startswith("/models/") and name.endswith("/invoke") and request.method == "POST":
            self._answer(peer, _unknown(name.removesuffix("/invoke")))
        elif route is None or not (path == "/models" or path.startswith("/models/")) or "/" in name:
            self._answer(peer, fault(404, "ResourceNotFoundException", "Requested resource is not found."))
        else:
            route(peer, request, name)

    def _list(self, peer: Peer, request: Request, _name: str) -> None:
        wishes = parse_qs(request.query)
        try:
            first = int(wishes.get("next_page_token", ["0"])[0])
            limit = int(wishes.get("limit", [str(MODELS_OF_A_PAGE)])[0])
        except ValueError:
            first = limit = -1
        if first < 0 or limit < 1:
            self._answer(peer, fault(400, "BadRequestException", "next_page_token and limit are whole numbers."))
            return
        there = [model for model in self._models.values() if model.state is State.LOADED]
        page: dict[str, Any] = {"models": [model.described() for model in there[first : first + limit]]}
        if len(there) > first + limit:
            page["nextPageToken"] = str(first + limit)
        self._answer(peer, _json(200, page))

    def _describe(self, peer: Peer, _request: Request, name: str) -> None:
        model = self._models.get(name)
        known = model is not None and model.state is State.LOADED
        self._answer(peer, _json(200, model.described()) if model is not None and known else _unknown(name))

    def _load(self, peer: Peer, request: Request, _name: str) -> None:
        try:
            wish = json.loads(request.body)
            name, url = wish["model_name"], wish["url"]
        except (ValueError, TypeError, KeyError):
            name = url = None
        if not (isinstance(name, str) and isinstance(url, str) and name.isascii() and name and "/" not in name):
            message = "The body is JSON with model_name, which has no slash, and url."
            self._answer(peer, fault(400, "BadRequestException", message))
            return
        known = self._models.get(name)
        if known is not None and known.state is State.LOADED:
            self._answer(peer, _registered(name))
        elif known is not None and known.state is State.LOADING:
            peer.waits = True
            known.loaders.append(peer)
        elif known is not None or self._stopping:
            self._answer(peer, fault(503, "ServiceUnavailableException", f"Model {name} is being unloaded."))
        elif self._models and self._memory.is_short(self._loaded_costs(), self._costs.get(name, 0)):
            self._answer(peer, _short(name))
        else:
            self._begin_loading(peer, name, url)

    def _begin_loading(self, peer: Peer, name: str, url: str) -> None:
        try:
            model = self._fork(name, url)
        except OSError as failure:  # the number of processes is bounded too
            self._answer(peer, fault(507, "InsufficientStorageException", f"Model {name}: {failure.strerror}."))
            return
        self._models[name] = self._channels[model.channel.fileno()] = model
        self._epoll.register(model.channel, select.EPOLLIN)
        peer.waits = True
        model.loaders.append(peer)

    def _ready(self, model: Model) -> None:
        self._note_cost(model)
        others = len(self._models) > 1
        if others and self._memory.is_short(self._loaded_costs()):
            model.failure = _short(model.name)
            os.kill(model.pid, signal.SIGKILL)
            return
        if model.state is State.LOADING:  # else it is to be unloaded already: everything ends
            model.state = State.LOADED
            first, *others_waiting = model.loaders
            model.loaders = []
            self._resume(first, _json(200, {"status": f"Model {model.name} is loaded."}))
            for peer in others_waiting:
                self._resume(peer, _registered(model.name))

    def _unload(self, peer: Peer, _request: Request, name: str) -> None:
        model = self._models.get(name)
        if model is None or model.state is State.LOADING:
            self._answer(peer, _unknown(name))
            return
        peer.waits = True
        model.unloaders.append(peer)
        if model.state is State.LOADED:
            self._note_cost(model)
            self._end(model)

    # Processes

    def _fork(self, name: str, url: str) -> Model:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with sigterm_waits():
                pid = os.fork()
                if pid == 0:
                    self._become(name, url, theirs)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        return Model(name, url, pid, ours)

    def _become(self, name: str, url: str, channel: socket.socket) -> NoReturn:
        """Be the model's process: of the base process only what was imported is left."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        kept = channel.fileno()
        os.closerange(_STANDARD_STREAMS, kept)
        os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))
        be_the_model(name, url, Kind(self._toolkit, self._batching), channel, self._pid)

    def _end(self, model: Model) -> None:
        model.state = State.UNLOADING
        with contextlib.suppress(ProcessLookupError):
            os.kill(model.pid, signal.SIGTERM)
        model.kill_at = time.monotonic() + END_SECONDS

    def _bury(self) -> None:
        """Take note of all processes that have ended."""
        by_pid = {model.pid: model for model in self._models.values()}
        for pid, status in ended_children():
            if pid in by_pid:  # else it is an orphan of a model's process
                self._gone(by_pid[pid], os.waitstatus_to_exitcode(status))

    def _gone(self, model: Model, code: int) -> None:
        self._take_last_words(model)
        del self._models[model.name]
        del self._channels[model.channel.fileno()]
        model.channel.close()
        for message, connected in model.handed:
            self._adopt(connected, message[1:])
        loaders, unloaders = model.loaders, model.unloaders
        if loaders and model.failure is None:
            model.failure = _short(model.name) if code == -signal.SIGKILL else _ended(model.name, code)
        elif model.state is State.LOADED:
            print(f"[moorage] The process of the model {model.name} has ended: {_how(code)}.", flush=True)  # noqa: T201
        for peer in loaders:
            self._resume(peer, model.failure or _ended(model.name, code))
        for peer in unloaders:
            self._resume(peer, _json(200, {"status": f"Model {model.name} is unloaded."}))

    def _take_last_words(self, model: Model) -> None:
        """Hear what a process has said before its end, and what it had not taken up."""
        while not model.deaf:
            try:
                message, descriptors, _flags, _address = socket.recv_fds(model.channel, MESSAGE_BYTES, 1)
            except OSError:
                return
            if not message:
                return
            if message[:1] != READY:
                self._take(model, message, descriptors)

    def _note_cost(self, model: Model) -> None:
        if len(self._costs) >= _MOST_COSTS:
            self._costs = {name: self._costs[name] for name in self._models if name in self._costs}
        self._costs[model.name] = private_bytes(model.pid)

    def _loaded_costs(self) -> list[int]:
        return [self._costs.get(name, 0) for name in self._models]


def serve_models(listener: socket.socket, toolkit: str, batching: Batching) -> None:
    """Serve many models on a listening socket until SIGTERM."""
    Models(listener, toolkit, batching, Memory.of_this_instance()).run()


def fault(status: int, kind: str, message: str) -> Answer:
    """Make an error in the form of AWS's multi-model-server."""
    return _json(status, {"code": status, "type": kind, "message": message})


def _json(status: int, document: Mapping[str, Any]) -> Answer:
    return Answer(status, _JSON, json.dumps(document, indent=2).encode() + b"\n")


def _unknown(name: str) -> Answer:
    return fault(404, "ModelNotFoundException", f"Model not found: {name}")


def _registered(name: str) -> Answer:
    return fault(409, "ConflictStatusException", f"Model {name} is already registered.")


def _short(name: str) -> Answer:
    return fault(507, "InsufficientStorageException", f"There is not enough memory to load the model {name}.")


def _ended(name: str, code: int) -> Answer:
    return fault(500, "InternalServerException", f"The process of the model {name} has ended: {_how(code)}.")


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
