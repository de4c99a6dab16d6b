"""Runs the program that makes containers (``room``), and tries whether it can on this machine. Blocks."""

import contextlib
import json
import os
import subprocess
import tempfile
from dataclasses import asdict
from pathlib import Path

from moorage.engine.programs import program
from moorage.engine.rootfs.room import Order

_MAKE_SECONDS = 30.0
_TRIAL_ID = 0x7FFE_0000
"""First of the user ids of a container that is only tried."""


def make_room(order: Order, output: int, gate: int) -> int:
    """Run the program that makes a container; gives the process that waits at the gate. Raises OSError."""
    said = subprocess.run(
        program("moorage.engine.rootfs.room", output, gate),
        input=json.dumps(asdict(order)).encode(),
        capture_output=True,
        pass_fds=(output, gate),
        timeout=_MAKE_SECONDS,
        check=False,
    )
    try:
        answer = json.loads(said.stdout)
    except ValueError:
        lines = said.stderr.decode(errors="replace").strip().splitlines()
        raise OSError(lines[-1] if lines else f"it ended with exit code {said.returncode}") from None
    if "pid" not in answer:
        raise OSError(answer["error"])
    return int(answer["pid"])


def try_rooms(*, as_root: bool) -> str:
    """Make a container of nothing, as far as to its gate; gives why that cannot be done, empty when it can."""
    with tempfile.TemporaryDirectory(prefix="moorage-probe-") as folder, Path(os.devnull).open("wb") as nowhere:
        Path(folder).chmod(0o755)
        layer, stage = Path(folder, "layer"), Path(folder, "stage")
        layer.mkdir()
        stage.mkdir()
        reader, gate = os.pipe()
        try:
            pid = make_room(_order_of_nothing(layer, stage, as_root=as_root), nowhere.fileno(), reader)
        except (OSError, subprocess.TimeoutExpired) as fault:
            return str(fault)
        finally:
            os.close(reader)
            os.close(gate)
        with contextlib.suppress(ChildProcessError):  # ours only if this process adopts orphans
            os.waitpid(pid, 0)
    return ""


def _order_of_nothing(layer: Path, stage: Path, *, as_root: bool) -> Order:
    return Order(
        stage=str(stage),
        layers=(str(layer),),
        disk=None,
        memory_bytes=2**20,
        limit_bytes=None,
        model=None,
        first_id=_TRIAL_ID if as_root else None,
        uid=0,
        gid=0,
        groups=(),
        hostname="trial",
        files={},
        arguments=("/nothing",),
        environment={},
        folder="/",
        core_bytes=0,
        control_groups={},
    )
