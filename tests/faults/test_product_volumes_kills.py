"""Kill -9 of a whole server with disks of instances: nothing stays mounted, nothing fills the machine's disk."""

import contextlib
import os
import subprocess
from pathlib import Path

import pytest
from tests.support import models
from tests.support.fixtures import Deployment
from tests.support.machine import MACHINE
from tests.support.product import Moorage, wait_until
from tests.support.small_models import ECHO, a_variant, serve

from moorage.engine import mounts
from moorage.engine.machine import Need

WHY_NOT = MACHINE.sandbox_fault or MACHINE.lacks.get(Need.VOLUME, "")
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)


def with_a_disk(moorage: Moorage) -> Path:
    """Serve a model with a disk; gives the folder of the volumes."""
    deployment = Deployment(moorage)
    serve(deployment, "disk", a_variant("v", deployment.model("disk", models.code_only(ECHO)), VolumeSizeInGB=1))
    return moorage.data_dir / "volumes"


@pytest.mark.slow  # starts two servers
def test_disks_of_a_killed_server_go_with_the_next_start(tmp_path: Path, environment_python: str) -> None:
    assert environment_python
    moorage = Moorage(tmp_path / "data").start()
    volumes = with_a_disk(moorage)
    (before,) = volumes.iterdir()
    moorage.kill_everything()
    assert before / "disk" in mounts.mounted_below(volumes)
    again = Moorage(tmp_path / "data").start()
    try:
        wait_until(lambda: len(list(volumes.iterdir())) == 1, within=60, what="the old volume gone, the new one there")
        assert Deployment(again).settled("disk")["EndpointStatus"] == "InService"
        (after,) = volumes.iterdir()
        assert mounts.mounted_below(after) == [after / "disk"]
    finally:
        again.stop()
    assert mounts.mounted_below(volumes) == []
    assert list(volumes.iterdir()) == []


@pytest.mark.slow  # starts two servers
def test_disks_of_a_killed_ephemeral_server_go_with_the_next_one(tmp_path: Path, environment_python: str) -> None:
    assert environment_python
    first = Ephemeral(tmp_path / "first", environment={"TMPDIR": str(tmp_path)}).start()
    volumes = with_a_disk(first)
    assert len(mounts.mounted_below(volumes)) == 1
    first.kill_everything()
    second = Ephemeral(tmp_path / "second", environment={"TMPDIR": str(tmp_path)}).start()
    own = with_a_disk(second)
    assert mounts.mounted_below(volumes) == []
    assert not volumes.parent.exists()
    assert len(mounts.mounted_below(own)) == 1
    second.stop()
    assert mounts.mounted_below(own) == []
    assert not own.parent.exists()


class Ephemeral(Moorage):
    """A server that keeps everything in a temporary folder."""

    def start(self) -> "Ephemeral":
        """Start it and find its folder."""
        self.process = subprocess.Popen(
            [*self.command, "up", "--port", "0", "--ephemeral"],
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        wait_until(self._found, within=30, what="moorage up --ephemeral is ready")
        return self

    def _found(self) -> bool:
        assert self.process is not None
        for path in Path(self.environment["TMPDIR"]).glob("*/server.json"):
            self.data_dir = path.parent
            with contextlib.suppress(ValueError, OSError):
                if self.server()["pid"] == self.process.pid:
                    return True
        return False
