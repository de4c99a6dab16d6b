"""Finds the Docker daemon of this machine and says what it is: dockerd or podman, and where its containers run."""

import contextlib
import http.client
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

_ANSWER_SECONDS = 5.0
_NEWEST_API = (1, 47)
"""The newest version of the API that this was tried with; daemons of later ones still speak it."""

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class NoDaemon(Exception):
    """No Docker daemon can be used here; the text is for people."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a daemon listens: a Unix socket, or a port of this machine."""

    path: str = ""
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        return f"unix://{self.path}" if self.path else f"tcp://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Daemon:
    """A daemon that answers."""

    address: Address
    kind: str
    """``dockerd`` or ``podman``."""
    version: str
    api: str
    """Version of the API to be spoken: ``1.41``."""
    rootless: bool = False
    """It runs as an ordinary user: its networks are not this machine's."""
    here: bool = True
    """Its containers are processes of this machine, and not of a virtual one on it (Docker Desktop)."""
    filters_bridges: bool = True
    """Packets between containers of one network pass the daemon's firewall."""
    remaps: bool = False
    """Users of containers are other ones of this machine (dockerd's userns-remap)."""
    confines: bool = False
    """SELinux would keep containers from reading this machine's folders."""

    def __str__(self) -> str:
        return f"{self.kind} {self.version} at {self.address}"


def find_daemon(environment: Mapping[str, str]) -> Daemon:
    """Find the daemon that answers: at DOCKER_HOST, or else at the usual sockets. Blocks; raises NoDaemon."""
    if named := environment.get("DOCKER_HOST"):
        return ask_daemon(parse_address(named))
    faults = []
    for path in usual_sockets(environment, os.getuid()):
        if not os.path.lexists(path):
            continue
        try:
            return ask_daemon(Address(path))
        except NoDaemon as fault:
            faults.append(str(fault))
    raise NoDaemon(faults[0] if faults else "no Docker daemon runs: there is no socket of dockerd or podman")


def usual_sockets(environment: Mapping[str, str], uid: int) -> tuple[str, ...]:
    """Name the sockets that are looked for, the first first."""
    own = environment.get("XDG_RUNTIME_DIR") or f"/run/user/{uid}"
    rootless = () if uid == 0 else (f"{own}/docker.sock", f"{own}/podman/podman.sock")
    return ("/var/run/docker.sock", *rootless, "/run/podman/podman.sock")


def parse_address(text: str) -> Address:
    """Read a DOCKER_HOST; raises NoDaemon for one that is of no use here."""
    parts = urlsplit(text)
    if parts.scheme == "unix" and parts.path:
        return Address(parts.path)
    if parts.scheme in {"tcp", "http"} and parts.hostname in _LOOPBACK:
        return Address(host=parts.hostname, port=parts.port or 2375)
    raise NoDaemon(
        f"the daemon at DOCKER_HOST={text} cannot be used: models are folders of this machine, so it must be "
        "one of this machine, at unix:///path or tcp://127.0.0.1:port"
    )


def ask_daemon(address: Address) -> Daemon:
    """Ask a daemon what it is. Blocks; raises NoDaemon."""
    try:
        version, info = _get(address, "/version"), _get(address, "/info")
        return describe(address, version, info, os.uname().release)
    except PermissionError as fault:
        raise NoDaemon(
            f"{address} may not be used by this user: let an administrator say usermod -aG docker NAME, log in anew"
        ) from fault
    except (OSError, http.client.HTTPException) as fault:
        raise NoDaemon(f"no Docker daemon answers at {address}: {fault or type(fault).__name__}") from fault
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise NoDaemon(f"what answers at {address} is no Docker daemon") from fault


def describe(address: Address, version: Mapping[str, Any], info: Mapping[str, Any], kernel: str) -> Daemon:
    """Make the description of what ``/version`` and ``/info`` say; pure."""
    components = [str(component.get("Name", "")) for component in version.get("Components") or ()]
    security = " ".join(info.get("SecurityOptions") or ())
    major, _, minor = str(version["ApiVersion"]).partition(".")
    api = min((int(major), int(minor)), _NEWEST_API)
    return Daemon(
        address,
        kind="podman" if any("podman" in name.lower() for name in components) else "dockerd",
        version=str(version["Version"]),
        api=f"{api[0]}.{api[1]}",
        rootless="rootless" in security,
        here=info.get("KernelVersion") == kernel and "Docker Desktop" not in str(info.get("OperatingSystem")),
        filters_bridges=bool(info.get("BridgeNfIptables")),
        remaps="name=userns" in security,
        confines="selinux" in security,
    )


def _get(address: Address, path: str) -> Any:
    with contextlib.closing(_Connection(address)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        content = answer.read()
    if answer.status != http.client.OK:
        raise http.client.HTTPException(f"it answered {answer.status}")
    return json.loads(content)


class _Connection(http.client.HTTPConnection):
    """A connection to the daemon, for the one question at the start."""

    def __init__(self, address: Address) -> None:
        super().__init__(address.host or "docker", address.port or None, timeout=_ANSWER_SECONDS)
        self._path = address.path

    def connect(self) -> None:
        if not self._path:
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_ANSWER_SECONDS)
        try:
            self.sock.connect(self._path)
        except BaseException:
            self.sock.close()
            raise
