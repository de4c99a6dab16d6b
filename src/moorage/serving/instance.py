"""The life of an instance's process: load the model, serve, alone or by workers, end."""

from __future__ import annotations

import gc
import io
import os
import signal
import socket
import sys
import traceback

from .batching import Batching, make_batcher
from .crew import Seat
from .handlers import Handlers
from .model import load
from .models import serve_models
from .numbers import WrongNumber
from .server import Server
from .workers import LOAD_PER_WORKER, Foreman, Plan, other_threads

MULTI_MODEL = "SAGEMAKER_MULTI_MODEL"
"""Environment variable that is ``true`` in a container of many models (data-plane.md section 7.2)."""


def serve(listener: socket.socket, model_dir: str, toolkit: str) -> None:
    """Serve a model on a listening socket until SIGTERM; the process's environment is the container's.

    ``toolkit`` names the container that it behaves like.

    Nothing is answered before the model is loaded: a client may connect at once and just wait. A model that cannot be
    loaded leaves its traceback in the log and ends the process with SystemExit(1).
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    signal.signal(signal.SIGTERM, _end_at_once)
    try:
        plan, batching = Plan.of(os.environ), Batching.of(os.environ)
    except WrongNumber as fault:
        print(fault, flush=True)  # noqa: T201 - the container's log
        raise SystemExit(1) from None
    if os.environ.get(MULTI_MODEL) == "true":  # each model has one worker, whatever the plan is
        _settle()
        serve_models(listener, toolkit, batching)
        return

    def load_model() -> Handlers:
        return _load(model_dir, toolkit)

    if plan.most == 1:
        _serve(listener, load_model(), batching)
        return
    if plan.load_each:
        code = Foreman(plan, lambda seat: _serve(listener, load_model(), batching, seat)).run()
        raise SystemExit(code)
    handlers = load_model()
    if (threads := other_threads()) > 0:
        text = f"Loading the model has started {threads} threads, so that its process cannot be multiplied"
        print(f"[moorage] {text}: there is one worker. {LOAD_PER_WORKER}=true allows more.", flush=True)  # noqa: T201
        _serve(listener, handlers, batching)
        return
    raise SystemExit(Foreman(plan, lambda seat: _serve(listener, handlers, batching, seat)).run())


def _load(model_dir: str, toolkit: str) -> Handlers:
    """Load the model; raises SystemExit when it cannot be loaded, and the log has why."""
    try:
        handlers = load(model_dir, os.environ, toolkit)
    except BaseException:  # noqa: BLE001 - the customer's code may raise anything, also SystemExit
        traceback.print_exc()
        raise SystemExit(1) from None
    _settle()
    return handlers


def _serve(listener: socket.socket, handlers: Handlers, batching: Batching, seat: Seat | None = None) -> None:
    """Serve a loaded model until SIGTERM."""
    batcher = make_batcher(handlers, batching)
    Server(listener, handlers.answer, handlers.pages, seat=seat, batcher=batcher).run()
    sys.stdout.flush()
    sys.stderr.flush()


def _settle() -> None:
    """Let what was loaded stay: later collections need not look at it, and shared pages stay shared."""
    gc.collect()
    gc.freeze()


def _end_at_once(_number: int, _frame: object) -> None:
    """End while the model loads: nothing is under way."""
    os._exit(0)
