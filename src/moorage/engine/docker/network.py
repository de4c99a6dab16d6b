"""The network of containers that are not isolated: a bridge of this installation's own.

Containers on it reach other machines, and neither each other nor the link-local addresses at which clouds keep their
machines' credentials. What keeps that:

- the bridge's option ``enable_icc=false``: dockerd's firewall drops what goes from one container to another;
- as root, each port of the bridge is isolated (bridge(8), ``isolated on``): they pass nothing on to each other, also
  under podman, which knows no such option;
- as root, a rule of the machine's routing (ip-rule(8)) that is about packets from this bridge alone: 169.254.0.0/16 is
  unreachable. Unlike a route inside a container, it holds before the container's first instruction. It is taken back
  at the end. Where the machine's own resolver is such an address, as on Google's, its port 53 stays reachable.

Moorage's port listens on the loopback, which no bridge leads to.
"""

import asyncio
import hashlib
import logging
import os
import shutil
import subprocess
from collections.abc import Iterable
from http import HTTPStatus
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any
from urllib.parse import quote

from moorage.engine.docker.api import Api, DaemonGone, DaemonRefused
from moorage.engine.docker.configuration import INSTALLATION_LABEL

log = logging.getLogger(__name__)

LINK_LOCAL = IPv4Network("169.254.0.0/16")

_PREFERENCE = 100
"""Place of our rules among the machine's: after its own addresses (0), before its routes (32766)."""

_RESOLVERS = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
_IP_SECONDS = 5
_BRIDGES = Path("/sys/class/net")


class Network:
    """The bridge of one installation, made when the first container wants it."""

    def __init__(self, api: Api, installation: str) -> None:
        self.name = f"moorage-{installation}"
        self.bridge = bridge_name(installation)
        self._api = api
        self._installation = installation
        self._making = asyncio.Lock()
        self._made = False

    @property
    def guards(self) -> bool:
        """This user may set rules for the bridge, which is this machine's."""
        daemon = self._api.daemon
        return os.geteuid() == 0 and daemon.here and not daemon.rootless

    async def ensure(self) -> None:
        """Have the network; raises DaemonGone, DaemonRefused."""
        async with self._making:
            if self._made:
                return
            if self.guards:
                await asyncio.to_thread(self._forbid_link_local)
            else:
                log.warning("containers can reach link-local addresses: only root can forbid them")
            try:
                await self._api.call("POST", "/networks/create", body=self._description())
            except DaemonRefused as fault:
                if fault.status != HTTPStatus.CONFLICT:  # it is there
                    raise
            self._made = True

    def _description(self) -> dict[str, Any]:
        return {
            "Name": self.name,
            "Driver": "bridge",
            "CheckDuplicate": True,
            "Labels": {INSTALLATION_LABEL: self._installation},
            "Options": {
                "com.docker.network.bridge.name": self.bridge,
                "com.docker.network.bridge.enable_icc": "false",
            },
        }

    def _forbid_link_local(self) -> None:
        resolvers = (resolver for file in _RESOLVERS for resolver in read_resolvers(_read(file)))
        for rule in make_rules(self.bridge, resolvers):
            if fault := _say_ip("rule", "add", *rule):
                log.warning("containers may reach link-local addresses: ip rule add %s: %s", " ".join(rule), fault)

    def isolate_ports(self) -> None:
        """Let the bridge's ports pass nothing on to each other. Blocks."""
        if not self.guards:
            return
        for port in _ports(self.bridge):
            try:
                (port / "isolated").write_text("1", encoding="ascii")
            except FileNotFoundError:
                continue  # its container has ended
            except OSError as fault:
                log.warning("%s is not isolated from other instances: %s", port, fault)

    async def remove(self) -> None:
        """Take everything back."""
        async with self._making:
            try:
                await self._api.call("DELETE", f"/networks/{quote(self.name)}")
            except DaemonRefused as fault:
                if fault.status != HTTPStatus.NOT_FOUND:
                    log.warning("the network %s is left: %s", self.name, fault)
            except DaemonGone as fault:
                log.warning("the network %s is left: %s", self.name, fault)
            if self.guards:
                await asyncio.to_thread(_remove_rules, self.bridge)
            self._made = False


def bridge_name(installation: str) -> str:
    """Give the name of the bridge's interface, of which the kernel takes 15 bytes."""
    return f"mrg{hashlib.sha256(installation.encode()).hexdigest()[:11]}"


def make_rules(bridge: str, resolvers: Iterable[IPv4Address]) -> list[tuple[str, ...]]:
    """Make the arguments of ``ip rule add``; pure."""
    allowed = sorted({resolver for resolver in resolvers if resolver in LINK_LOCAL})
    questions = [
        ("pref", str(_PREFERENCE), "iif", bridge, "to", str(resolver), "ipproto", kind, "dport", "53", "lookup", "main")
        for resolver in allowed
        for kind in ("udp", "tcp")
    ]
    return [*questions, ("pref", str(_PREFERENCE + 1), "iif", bridge, "to", str(LINK_LOCAL), "unreachable")]


def read_resolvers(text: str) -> list[IPv4Address]:
    """Read the addresses of a ``resolv.conf``; pure."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver" and ":" not in words[1]:
            found.append(IPv4Address(words[1]))
    return found


def _ports(bridge: str) -> list[Path]:
    folder = _BRIDGES / bridge / "brif"
    return list(folder.iterdir()) if folder.is_dir() else []


def _remove_rules(bridge: str) -> None:
    while not _say_ip("rule", "del", "iif", bridge):
        pass


def _say_ip(*arguments: str) -> str:
    """Give what is wrong, empty when nothing is."""
    program = shutil.which("ip") or "/usr/sbin/ip"
    try:
        said = subprocess.run(
            [program, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_IP_SECONDS,
            check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as fault:
        return str(fault)
    if "File exists" in said.stderr:
        return ""
    return said.stderr.strip() or (f"exit code {said.returncode}" if said.returncode else "")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
