"""What this machine can do for instances, found by trying: for ``moorage doctor``, the banner and the node agent."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from moorage.engine.cgroups import CONTROLLERS, Cgroups, find_hierarchies
from moorage.engine.sandbox import Sandbox

ENGINES = ("sandbox", "process")
"""From the best to the one that works everywhere."""

_CHECK_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Promise:
    """One thing that an instance can rely on, and which engines keep it on this machine."""

    name: str
    sandbox: bool
    process: bool
    advice: str
    """What to do when the best engine here does not keep it; empty when it does."""


@dataclass(frozen=True, slots=True)
class Machine:
    """This machine as an engine sees it."""

    engine: str
    """The best engine that works here: ``sandbox`` or ``process``."""
    bubblewrap: str | None
    """Version of bubblewrap, None when it is not installed."""
    sandbox_fault: str
    """Why the sandbox does not work here; empty when it does."""
    controllers: frozenset[str]
    """Limits that control groups can set here: of memory, cpu and pids."""
    uid: int
    python: str
    cpus: int
    memory_bytes: int
    gpus: int
    """NVIDIA's, as their driver lists them."""
    gpu_driver: str
    """Version of that driver; empty: there is none."""
    promises: tuple[Promise, ...]

    @property
    def as_root(self) -> bool:
        """Moorage runs as root."""
        return self.uid == 0


class EngineUnavailable(Exception):
    """The engine that was asked for does not work here; the text is for people."""


def probe() -> Machine:
    """Try what works here; takes about a tenth of a second and blocks."""
    uid = os.getuid()
    bubblewrap = shutil.which("bwrap")
    fault = _try_sandbox(bubblewrap, as_root=uid == 0) if bubblewrap else "bubblewrap is not installed"
    controllers = _try_cgroups()
    engine = "process" if fault else "sandbox"
    return Machine(
        engine=engine,
        bubblewrap=_version(bubblewrap) if bubblewrap else None,
        sandbox_fault=fault,
        controllers=controllers,
        uid=uid,
        python=platform.python_version(),
        cpus=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        gpus=count_gpus(),
        gpu_driver=read_gpu_driver(),
        promises=make_promises(fault, controllers, as_root=uid == 0),
    )


def count_gpus(drivers: Path = Path("/proc/driver/nvidia/gpus")) -> int:
    """Count the GPUs that NVIDIA's driver has found."""
    return sum(1 for _ in drivers.iterdir()) if drivers.is_dir() else 0


def read_gpu_driver(version: Path = Path("/proc/driver/nvidia/version")) -> str:
    """Read the version of NVIDIA's driver: the first number of several parts in what the kernel module says."""
    found = re.search(r"\b\d+\.\d+(\.\d+)*", version.read_text()) if version.is_file() else None
    return found[0] if found else ""


def choose_engine(wanted: str, machine: Machine) -> str:
    """Decide which engine runs instances; raises EngineUnavailable when it is not to be had."""
    if wanted == "auto":
        return machine.engine
    if wanted not in ENGINES:
        raise EngineUnavailable(f"There is no engine {wanted!r}: choose auto, {' or '.join(ENGINES)}.")
    if wanted == "sandbox" and machine.sandbox_fault:
        raise EngineUnavailable(f"The engine sandbox does not work here: {machine.sandbox_fault}.")
    return wanted


def make_promises(sandbox_fault: str, controllers: frozenset[str], *, as_root: bool) -> tuple[Promise, ...]:
    """Say what holds here, engine by engine."""
    works = not sandbox_fault
    bubblewrap = "" if works else _sandbox_advice(sandbox_fault)
    missing = [name for name in CONTROLLERS if name not in controllers]
    groups = "" if not missing else _cgroups_advice(missing, as_root=as_root)
    other_user = bubblewrap or ("" if as_root else "Start Moorage as root: only root can give others a user id.")
    rows = (
        ("an instance cannot see or signal other processes", works, False, bubblewrap),
        ("an instance sees no files but its model, its environment and the system's", works, False, bubblewrap),
        ("the model folder is read-only", works, False, bubblewrap),
        ("each instance has its own /tmp and /dev/shm", works, False, bubblewrap),
        ("an instance has no privileges and can get none", works, not as_root, bubblewrap),
        ("each instance is a user of its own", works and as_root, False, other_user),
        ("memory is limited to the instance type's", "memory" in controllers, "memory" in controllers, groups),
        ("processors are limited to the instance type's", "cpu" in controllers, "cpu" in controllers, groups),
        ("the number of processes is limited", "pids" in controllers, "pids" in controllers, groups),
        ("an instance ends with all its processes", works, bool(controllers), bubblewrap and groups),
        # Without either, a child that a model has detached outlives a kill -9 of its instance.
        ("all instances end with Moorage", works, bool(controllers), bubblewrap and groups),
    )
    return tuple(Promise(name, bool(sandbox and works), process, advice) for name, sandbox, process, advice in rows)


def _sandbox_advice(fault: str) -> str:
    if "not installed" in fault:
        return "Install bubblewrap (package bubblewrap of the distribution, command bwrap)."
    return (
        f"Bubblewrap does not work here ({fault}): allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, "
        "kernel.apparmor_restrict_unprivileged_userns=0), or start the surrounding container with SYS_ADMIN."
    )


def _cgroups_advice(missing: list[str], *, as_root: bool) -> str:
    names = ", ".join(missing)
    if as_root:
        return f"Control groups for {names} cannot be written: mount them writable (/sys/fs/cgroup)."
    return (
        f"Control groups for {names} cannot be written: start Moorage as root, or with a delegated group "
        "(systemd-run --user --scope -p Delegate=yes moorage up). Until then only each process's own memory is bounded."
    )


def _try_cgroups() -> frozenset[str]:
    name = f"moorage-probe-{os.getpid()}"
    try:
        cgroups = Cgroups(find_hierarchies(name))
    except OSError:
        return frozenset()
    try:
        return cgroups.controllers
    finally:
        cgroups.close()


def _version(bubblewrap: str) -> str:
    try:
        said = subprocess.run([bubblewrap, "--version"], capture_output=True, timeout=5, check=False, text=True)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return said.stdout.strip().removeprefix("bubblewrap").strip() or "unknown"


def _try_sandbox(bubblewrap: str, *, as_root: bool) -> str:
    """Do all that an instance does before its model's code runs; gives what went wrong, empty when nothing did."""
    with tempfile.TemporaryDirectory(prefix="moorage-probe-") as folder:
        sandbox = Sandbox(bubblewrap, models=Path(folder, "models"), scratch=Path(folder, "etc"), as_root=as_root)
        sandbox.prepare()
        python = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
        view = json.dumps(sandbox.check_view(as_root=as_root))
        command = [*sandbox.check_command(python, [Path(sys.base_prefix)]), view]
        environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
        try:
            said = subprocess.run(
                command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False,
                timeout=_CHECK_SECONDS, text=True, errors="replace",
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as fault:
            return str(fault)
    if said.returncode == 0:
        return ""
    lines = said.stderr.strip().splitlines()
    return lines[-1] if lines else f"the check ended with exit code {said.returncode}"
