"""The life of an instance's process: load the model, serve, end."""

import gc
import io
import os
import signal
import socket
import sys
import traceback

from .model import load
from .models import serve_models
from .server import Server

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
    if os.environ.get(MULTI_MODEL) == "true":
        _settle()
        serve_models(listener, toolkit)
        return
    try:
        handlers = load(model_dir, os.environ, toolkit)
    except BaseException:  # noqa: BLE001 - the customer's code may raise anything, also SystemExit
        traceback.print_exc()
        raise SystemExit(1) from None
    _settle()
    Server(listener, handlers.answer, handlers.pages).run()
    sys.stdout.flush()
    sys.stderr.flush()


def _settle() -> None:
    """Let what was loaded stay: later collections need not look at it, and shared pages stay shared."""
    gc.collect()
    gc.freeze()


def _end_at_once(_number: int, _frame: object) -> None:
    """End while the model loads: nothing is under way."""
    os._exit(0)
