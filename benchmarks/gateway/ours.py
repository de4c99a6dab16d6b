"""One gateway process alone: routed by a snapshot on disk, no control plane, no supervisor.

Run as a program it is that process: ``python -m benchmarks.gateway.ours FOLDER PORT``.
"""

import contextlib
import json
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.gateway.compiled import compiled
from benchmarks.gateway.machine import Server, free_port, started
from benchmarks.gateway.requests import ACCOUNT, ENDPOINT, KEY, REGION
from moorage.base.settings import Settings
from moorage.gateway.process import run
from moorage.routing.snapshot import Capture, Endpoint, Instance, Snapshot, Variant


def make_snapshot(*, behind: Server, shadow: Server | None = None, capture: Capture | None = None) -> Snapshot:
    """Make the routing of one endpoint with one instance."""
    arn = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:endpoint/{ENDPOINT}"
    variants = (_variant("AllTraffic", behind),)
    shadows = () if shadow is None else (_variant("Shadow", shadow),)
    endpoint = Endpoint(ACCOUNT, REGION, ENDPOINT, arn, variants, shadows, capture)
    return Snapshot(1, {KEY.access_key_id: KEY}, {(ACCOUNT, REGION, ENDPOINT): endpoint})


@contextlib.contextmanager
def gateway(
    core: int, snapshot: Snapshot, folder: Path | None = None, *, name: str = "moorage", code: Path | None = None
) -> Iterator[Server]:
    """Have a gateway process on one core, its files in a folder that may be given.

    ``code`` is where its modules are: by default those that are compiled.
    """
    with tempfile.TemporaryDirectory(prefix="bench-gateway-") as own:
        place, port = folder or Path(own), free_port()
        (place / "data").mkdir(exist_ok=True)
        (place / "data/snapshot.json").write_text(json.dumps(snapshot.to_message()))
        command = [sys.executable, "-m", "benchmarks.gateway.ours", str(place), str(port)]
        environment = {"PYTHONPATH": str(code or compiled())}
        with started(name, command, core=core, port=port, log=place / "log", environment=environment) as server:
            yield server


def _variant(name: str, behind: Server) -> Variant:
    return Variant(name, 1.0, "primary", (Instance(f"i-{name.lower()}", f"127.0.0.1:{behind.port}"),))


def _serve(folder: Path, port: int) -> None:
    settings = Settings(data_dir=folder / "data", run_dir=folder, port=port)
    run(settings, socket.create_server(("127.0.0.1", port), backlog=4_096))


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), int(sys.argv[2]))
