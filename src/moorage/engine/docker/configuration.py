"""What a daemon is told to make of a launch, purely: the body of ``POST /containers/create``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from moorage.engine.docker.daemon import Daemon
from moorage.engine.launch import ImageLaunch
from moorage.engine.launcher import PROCESSES_OF_ONE
from moorage.serving.isolation import OUT_OF_MEMORY_FIRST

INSTALLATION_LABEL = "moorage.installation"
INSTANCE_LABEL = "moorage.instance"

MODEL = "/opt/ml/model"
ADDITIONAL = "/opt/ml/additional-model-data-sources"
MODELS = "/opt/ml/models"
_DATA = (MODEL, MODELS, ADDITIONAL)

_PERIOD_MICROSECONDS = 100_000

_DROPPED = ("AUDIT_WRITE", "MKNOD", "NET_RAW", "SETFCAP", "SYS_CHROOT")
"""Of Docker's default capabilities. Images that serve are written for root (data-plane.md section 7.1): nginx and
gunicorn bind ports, take files into their possession and become another user, and so keep what that needs. Nobody
serves by forging packets, device nodes or file capabilities."""

_OF_EVERYBODY = ("/tmp", "/var/tmp")  # noqa: S108 - places in containers
_WRITABLE = (
    *_OF_EVERYBODY, "/run", "/var/log", "/var/cache", "/var/lib", "/var/spool", "/root", "/home", "/srv", "/mnt",
    "/opt/ml",
)  # fmt: skip
"""Where programs write: on the volume of an instance that has one. All else of its image is then read-only."""

_PROCESSES_OF_A_USER = 32_768
"""Of one user on the whole machine; podman's own default. ``PidsLimit`` is what bounds an instance."""

_PODMAN_WITH_GPUS = 5

_SHARED_MEMORY_SHARE = 2
"""``/dev/shm`` is half of the memory, as on any Linux; it counts as the instance's memory."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of the instance's volume, and where the container has it."""

    target: str
    source: Path
    mode: int


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a configuration needs to know beside the launch."""

    daemon: Daemon
    installation: str
    network: str
    """Name of a network, or ``none``."""
    published: bool
    """The container is reached at a port of the loopback."""
    nofile: int
    """Most open files that this machine allows (podman asks for more than some machines do)."""


def make_configuration(
    launch: ImageLaunch,
    image: str,
    around: Surroundings,
    folders: tuple[Folder, ...],
    *,
    working_folder: str | None,
) -> dict[str, Any]:
    """Make the body; ``image`` is the daemon's name of it, ``working_folder`` another one than the image's."""
    published = {f"{launch.port}/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]} if around.published else {}
    body: dict[str, Any] = {
        "Image": image,
        "Cmd": list(launch.arguments),
        "Env": [f"{name}={value}" for name, value in launch.variables.items()],
        "Hostname": launch.hostname,
        "Labels": {INSTALLATION_LABEL: around.installation, INSTANCE_LABEL: launch.instance_id},
        "ExposedPorts": {port: {} for port in published},
        "HostConfig": {
            **_limits(launch, around),
            "NetworkMode": around.network,
            "PortBindings": published,
            "SecurityOpt": ["no-new-privileges", *(["label=disable"] if around.daemon.confines else [])],
            "CapDrop": list(_DROPPED),
            "Privileged": False,
            "Init": False,
            "RestartPolicy": {"Name": "no"},
            "LogConfig": {"Type": "none", "Config": {}},  # Moorage writes the log; a second one would have no bound
            "ReadonlyRootfs": bool(folders),
            "Mounts": _mounts(launch, folders),
        },
    }
    if working_folder is not None:
        body["WorkingDir"] = working_folder
    return body


def _limits(launch: ImageLaunch, around: Surroundings) -> dict[str, Any]:
    ulimits = [{"Name": "core", "Soft": launch.core_bytes, "Hard": launch.core_bytes}]
    if around.daemon.kind == "podman":  # which takes what it is given in place of its own defaults, not beside them
        ulimits.append({"Name": "nofile", "Soft": around.nofile, "Hard": around.nofile})
        ulimits.append({"Name": "nproc", "Soft": _PROCESSES_OF_A_USER, "Hard": _PROCESSES_OF_A_USER})
    return {
        "Memory": launch.memory_bytes,
        "MemorySwap": launch.memory_bytes,
        # Not NanoCpus: of those a daemon gives no more than there are, and an instance type may be larger than that.
        "CpuPeriod": _PERIOD_MICROSECONDS,
        "CpuQuota": max(1000, int(launch.vcpus * _PERIOD_MICROSECONDS)),
        "PidsLimit": PROCESSES_OF_ONE,
        "OomScoreAdj": OUT_OF_MEMORY_FIRST,
        "ShmSize": launch.memory_bytes // _SHARED_MEMORY_SHARE,
        "Ulimits": ulimits,
    }


def with_gpus(body: Mapping[str, Any], gpus: int, daemon: Daemon) -> dict[str, Any]:
    """Give a configuration that asks for GPUs too: by Nvidia's runtime of dockerd, or by podman's CDI devices."""
    request: dict[str, Any] = {"Driver": "", "Count": gpus, "Capabilities": [["gpu"]]}
    if daemon.kind == "podman":
        request = {"Driver": "cdi", "DeviceIDs": [f"nvidia.com/gpu={number}" for number in range(gpus)]}
    return {**body, "HostConfig": {**body["HostConfig"], "DeviceRequests": [request]}}


def lack_of_gpus(daemon: Daemon) -> Exception | None:
    """Say why a daemon would not even hear of GPUs; pure."""
    if daemon.kind == "podman" and int(daemon.version.partition(".")[0]) < _PODMAN_WITH_GPUS:
        return RuntimeError(f"podman {daemon.version} does not hand them on; version {_PODMAN_WITH_GPUS} does, by CDI")
    return None


def _mounts(launch: ImageLaunch, folders: tuple[Folder, ...]) -> list[dict[str, Any]]:
    mounts: list[dict[str, Any]] = [
        {"Type": "volume", "Source": _volume_name(launch, folder), "Target": folder.target} for folder in folders
    ]
    if launch.additional is not None:
        mounts.append({"Type": "bind", "Source": str(launch.additional), "Target": ADDITIONAL, "ReadOnly": True})
    if launch.models is not None:
        mounts.append({"Type": "bind", "Source": str(launch.models), "Target": MODELS, "ReadOnly": True})
    if launch.model is not None:
        mounts.append({"Type": "bind", "Source": str(launch.model), "Target": MODEL, "ReadOnly": True})
    elif not folders:  # what the image has there, and writable (data-plane.md section 7.3)
        mounts.append({"Type": "volume", "Target": MODEL})
    return mounts


def make_volume(launch: ImageLaunch, folder: Folder, installation: str) -> dict[str, Any]:
    """Make the body that makes a folder a volume of the daemon's, not a bind: only then it gets what the image has."""
    return {
        "Name": _volume_name(launch, folder),
        "Driver": "local",
        "DriverOpts": {"type": "none", "o": "bind", "device": str(folder.source)},
        "Labels": {INSTALLATION_LABEL: installation, INSTANCE_LABEL: launch.instance_id},
    }


def _volume_name(launch: ImageLaunch, folder: Folder) -> str:
    return f"moorage-{launch.instance_id}-{folder.source.name}"


def writable_folders(launch: ImageLaunch, image: Mapping[str, Any]) -> tuple[Folder, ...]:
    """Say what of the container is on the instance's volume: nothing where it has none.

    ``image`` is what the daemon says of it: what it declares as its volumes, and where it works, are written too.
    """
    if launch.volume is None:
        return ()
    config = image.get("Config") or {}
    declared = [*(config.get("Volumes") or {}), config.get("WorkingDir") or "/"]
    targets = dict.fromkeys(str(PurePosixPath(target)) for target in (*_WRITABLE, *declared))
    return tuple(
        Folder(target, launch.volume / _flat(target), 0o1777 if target in _OF_EVERYBODY else 0o755)
        for target in targets
        if target.startswith("/") and target != "/" and not any(_is_within(target, folder) for folder in _DATA)
    )


def _flat(path: str) -> str:
    return path.strip("/").replace("/", "-")


def working_folder(launch: ImageLaunch, image: Mapping[str, Any]) -> str | None:
    """Say where the container works when that is not the image's folder: a core file needs one that can be written."""
    own = (image.get("Config") or {}).get("WorkingDir") or "/"
    if launch.volume is not None and launch.core_bytes and (own == "/" or _is_within(own, MODEL)):
        return _OF_EVERYBODY[0]
    return None


def _is_within(path: str, folder: str) -> bool:
    return PurePosixPath(path).is_relative_to(folder)
