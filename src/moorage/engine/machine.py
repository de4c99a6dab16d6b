"""What was found of this machine, as far as instances have to do with it; ``probe`` finds it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from moorage.engine.docker.daemon import Daemon

ENGINES = ("docker", "sandbox", "process")
"""From the best to the one that works everywhere; ``auto`` runs built-in images in one of the last two."""


class Need(StrEnum):
    """What a promise can depend on; the values are words for tables: kept "with ..."."""

    DOCKER = "a Docker daemon"
    CONTAINER_NETWORKS = "root, or a rootless daemon"
    SANDBOX = "bubblewrap"
    ROOT = "root"
    ORDINARY_USER = "an ordinary user"
    MEMORY_GROUP = "the memory control group"
    CPU_GROUP = "the cpu control group"
    PIDS_GROUP = "the pids control group"
    ANY_GROUP = "control groups"
    OUTSIDE_NETWORK = "pasta"
    CALL_FILTER = "seccomp"
    VOLUME = "volumes"
    ENCRYPTION = "encryption of volumes"
    CORE_FILES = "core files in the working folder"


GROUP_NEEDS = {"memory": Need.MEMORY_GROUP, "cpu": Need.CPU_GROUP, "pids": Need.PIDS_GROUP}
"""By the kernel's names of the controllers."""


@dataclass(frozen=True, slots=True)
class Machine:
    """This machine as an engine sees it."""

    lacks: Mapping[Need, str]
    """What is not to be had here, and why, in words that go on after "because"."""
    bubblewrap: str | None
    """Version of bubblewrap, None when it is not installed."""
    uid: int
    python: str
    cpus: int
    memory_bytes: int
    docker: Daemon | None = None
    """The Docker daemon that answers."""
    gpus: int = 0
    """NVIDIA's, as their driver lists them."""
    gpu_driver: str = ""
    """Version of that driver; empty: there is none."""

    @property
    def engine(self) -> str:
        """The best engine of built-in images that works here: ``sandbox`` or ``process``."""
        return "process" if self.sandbox_fault else "sandbox"

    @property
    def sandbox_fault(self) -> str:
        """Why the sandbox does not work here; empty when it does."""
        return self.lacks.get(Need.SANDBOX, "")

    @property
    def guests_fault(self) -> str:
        """Why built-in images cannot run in containers (``docker.guests``); empty when they can."""
        if self.docker is None:
            return self.lacks.get(Need.DOCKER, "no Docker daemon runs")
        if not self.as_root:
            return "Moorage runs as an ordinary user, who may not enter containers"
        if not self.docker.here or self.docker.rootless or self.docker.remaps:
            return f"the containers of {self.docker} cannot be entered"
        return self.sandbox_fault and f"their warm processes need the sandbox: {self.sandbox_fault}"

    @property
    def controllers(self) -> frozenset[str]:
        """Limits that control groups can set here: of memory, cpu and pids."""
        return frozenset(name for name, need in GROUP_NEEDS.items() if need not in self.lacks)

    @property
    def as_root(self) -> bool:
        """Moorage runs as root."""
        return self.uid == 0
