"""What this machine can do for instances, found by trying: for ``moorage doctor``, the banner and the node agent."""

import functools
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from moorage.base.clock import SystemClock
from moorage.engine import cores, volumes
from moorage.engine.cgroups import Cgroups, find_hierarchies
from moorage.engine.docker.daemon import Daemon, NoDaemon, find_daemon
from moorage.engine.machine import ENGINES, GROUP_NEEDS, Machine, Need
from moorage.engine.network import NetworkUnavailable, OutsideNetwork
from moorage.engine.sandbox import Sandbox
from moorage.serving import seccomp

_CHECK_SECONDS = 20
_NO_FILTER = "this kernel or processor has no filter of system calls"


class EngineUnavailable(Exception):
    """The engine that was asked for does not work here; the text is for people."""


EVERYTHING: frozenset[Need] = frozenset(Need)


def probe(tried: frozenset[Need] = EVERYTHING) -> Machine:
    """Try what works here; blocks for as long as that takes: all of it about a third of a second.

    What is not ``tried`` is taken to be there.
    """
    uid = os.getuid()
    bubblewrap = shutil.which("bwrap")
    docker, fault = _find_docker() if Need.DOCKER in tried else (None, "")
    lacks = {need: why for need, trial in _trials(bubblewrap, uid).items() if need in tried and (why := trial())}
    if Need.DOCKER in tried:
        lacks.update(judge_docker(docker, fault, as_root=uid == 0))
    return Machine(
        lacks=lacks,
        bubblewrap=_version(bubblewrap) if bubblewrap else None,
        uid=uid,
        python=platform.python_version(),
        cpus=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        docker=docker,
        gpus=count_gpus(),
        gpu_driver=read_gpu_driver(),
    )


def _trials(bubblewrap: str | None, uid: int) -> dict[Need, Callable[[], str]]:
    """Give what tries each thing and says why it is not to be had, empty when it is."""
    as_root = uid == 0
    controllers = functools.cache(_try_cgroups)
    unencrypted = functools.cache(volumes.why_not_encrypted)

    def try_group(name: str) -> str:
        return "" if name in controllers() else f"the control group for {name} cannot be written"

    return {
        Need.SANDBOX: lambda: _try_sandbox(bubblewrap, as_root=as_root),
        Need.ROOT: lambda: "" if as_root else "Moorage runs as an ordinary user",
        Need.ORDINARY_USER: lambda: "Moorage runs as root, whose files are an instance's too" if as_root else "",
        **{need: functools.partial(try_group, name) for name, need in GROUP_NEEDS.items()},
        Need.ANY_GROUP: lambda: "" if controllers() else "control groups cannot be written",
        Need.OUTSIDE_NETWORK: lambda: _try_network(as_root=as_root),
        Need.CALL_FILTER: lambda: "" if seccomp.is_available() else _NO_FILTER,
        Need.CORE_FILES: cores.why_not_found,
        Need.VOLUME: lambda: unencrypted() and volumes.why_not_bounded(),
        Need.ENCRYPTION: unencrypted,
    }


def judge_docker(daemon: Daemon | None, fault: str, *, as_root: bool) -> dict[Need, str]:
    """Say what is lacking of Docker, and why: nothing where all is well. Pure."""
    if daemon is None:
        return {Need.DOCKER: fault}
    if not daemon.here:
        return {Need.CONTAINER_NETWORKS: f"{daemon} runs containers in a virtual machine"}
    if not as_root and not daemon.rootless:
        return {Need.CONTAINER_NETWORKS: "an ordinary user may not enter the networks of root's containers"}
    return {}


def count_gpus(drivers: Path = Path("/proc/driver/nvidia/gpus")) -> int:
    """Count the GPUs that NVIDIA's driver has found."""
    return sum(1 for _ in drivers.iterdir()) if drivers.is_dir() else 0


def read_gpu_driver(version: Path = Path("/proc/driver/nvidia/version")) -> str:
    """Read the version of NVIDIA's driver: the first number of several parts in what the kernel module says."""
    found = re.search(r"\b\d+\.\d+(\.\d+)*", version.read_text()) if version.is_file() else None
    return found[0] if found else ""


def choose_engine(wanted: str, machine: Machine) -> str:
    """Decide which engine runs instances of built-in images; raises EngineUnavailable when it is not to be had.

    ``docker`` is also for all other images, and for those of AWS's that the daemon has; what is built in needs no
    daemon, and starts faster without: it has one only where that was asked for, and can be.
    """
    if wanted not in {"auto", *ENGINES}:
        raise EngineUnavailable(f"There is no engine {wanted!r}: choose auto, {', '.join(ENGINES)}.")
    if wanted == "docker" and machine.docker is None:
        raise EngineUnavailable(f"The engine docker does not work here: {machine.lacks[Need.DOCKER]}.")
    if wanted == "docker" and not machine.guests_fault:
        return "docker"
    if wanted in {"auto", "docker"}:
        return machine.engine
    if wanted == "sandbox" and machine.sandbox_fault:
        raise EngineUnavailable(f"The engine sandbox does not work here: {machine.sandbox_fault}.")
    return wanted


def choose_image_engine(wanted: str, machine: Machine) -> str | None:
    """Decide which engine runs images that are not built in, None where none can; raises EngineUnavailable."""
    if wanted in {"auto", "docker"} and machine.docker is not None:
        return "docker"
    if wanted == "docker":
        raise EngineUnavailable(f"The engine docker does not work here: {machine.lacks[Need.DOCKER]}.")
    return None if wanted == "process" or machine.sandbox_fault else "sandbox"


def _find_docker() -> tuple[Daemon | None, str]:
    """Look for a daemon; gives it, or why there is none."""
    try:
        return find_daemon(os.environ), ""
    except NoDaemon as fault:
        return None, str(fault)


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


def _try_network(*, as_root: bool) -> str:
    try:
        OutsideNetwork.open(SystemClock(), as_root=as_root).close()
    except NetworkUnavailable as fault:
        return str(fault)
    return ""


def _version(bubblewrap: str) -> str:
    try:
        said = subprocess.run([bubblewrap, "--version"], capture_output=True, timeout=5, check=False, text=True)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return said.stdout.strip().removeprefix("bubblewrap").strip() or "unknown"


def _try_sandbox(bubblewrap: str | None, *, as_root: bool) -> str:
    """Do all that an instance does before its model's code runs; gives what went wrong, empty when nothing did."""
    if bubblewrap is None:
        return "bubblewrap is not installed"
    with tempfile.TemporaryDirectory(prefix="moorage-probe-") as folder:
        sandbox = Sandbox(
            bubblewrap,
            models=Path(folder, "models"),
            volumes=Path(folder, "volumes"),
            scratch=Path(folder, "etc"),
            as_root=as_root,
        )
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
