"""A network namespace from which the outside is reached, and this machine's own services are not.

``pasta`` (package ``passt``) carries what is sent from the namespace to the outside by ordinary sockets of an ordinary
user, so nothing of the machine is changed and root is not needed. It forwards nothing to the machine's loopback; what
goes to link-local addresses (the metadata service of a cloud, the neighbours on the wire) is refused by rules inside
the namespace (``network_rules.py``), which nobody who lives in there can take back: that takes a privilege over the
namespace that instances do not have.

Pasta ends with the command that it runs, and this command, ``cat``, ends with the pipe that its maker holds. So a maker
that is killed leaves nothing. The namespace is held by descriptors of its maker's.
"""

import asyncio
import contextlib
import ipaddress
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import IO

from moorage.base.clock import SystemClock
from moorage.engine.trees import read_processes

log = logging.getLogger(__name__)

_RULES = Path(__file__).with_name("network_rules.py")

_NETWORK_UID = 1_799_999_999
"""Whom root lets pasta be: nobody's account, and none of the instances' either (``sandbox.py``)."""

_READY_SECONDS = 30.0
"""Of a machine that is very busy: who gives up here has instances share the machine's network."""

_PAUSE_SECONDS = 0.005
_END_SECONDS = 5.0

_RESOLVER = "192.0.0.53"
"""Where pasta itself takes questions for names and asks this machine's resolver, whoever that is. Of a block that is
nobody's (RFC 6890)."""

_OPTIONS = (
    "--foreground", "--quiet", "--config-net", "--no-map-gw",
    # No port of the namespace is the machine's, and none of the machine's is the namespace's.
    "--tcp-ports", "none", "--udp-ports", "none", "--tcp-ns", "none", "--udp-ns", "none",
)  # fmt: skip

_OWN_TUN = (
    "mount -t tmpfs -o mode=0755 none /dev/net && mknod -m 0666 /dev/net/tun c 10 200 && exec setpriv "
    f"--reuid {_NETWORK_UID} --regid {_NETWORK_UID} --clear-groups --inh-caps=-all --bounding-set=-all "
    '"$@"'
)
"""Root's way to be an ordinary user who may make a network device, wherever the machine lets only root do that."""

_RESOLVER_FILES = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")
"""The second has what a local stub asks itself."""


class NetworkUnavailable(Exception):
    """Such a network cannot be had here; the text is for people."""


class NetworkSlow(NetworkUnavailable):
    """It was not there in time, on a machine that may have been busy: no reason to do without."""


class OutsideNetwork:
    """One such network, of one instance or of several."""

    def __init__(self, process: "subprocess.Popen[bytes]", network: int, users: int | None) -> None:
        self._process = process
        self._network = network
        self._users = users

    @classmethod
    def open(cls, clock: SystemClock, *, as_root: bool) -> "OutsideNetwork":
        """Make one; blocks for about a tenth of a second. Raises NetworkUnavailable."""
        pasta = shutil.which("pasta")
        if pasta is None:
            raise NetworkUnavailable("pasta is not installed")
        if shutil.which("nsenter") is None:
            raise NetworkUnavailable("nsenter (package util-linux) is not installed")
        with tempfile.TemporaryFile() as said:
            try:
                process = _start_pasta(pasta, said, as_root=as_root)
            except OSError as fault:
                raise NetworkUnavailable(f"pasta could not be started: {fault}") from fault
            try:
                holder = _wait_for_holder(process, clock)
                return cls._adopt(process, holder, as_root=as_root)
            except (TimeoutError, subprocess.TimeoutExpired) as fault:
                _end(process)
                raise NetworkSlow(f"pasta made no network in {_READY_SECONDS:g} seconds") from fault
            except (OSError, subprocess.SubprocessError) as fault:
                _end(process)
                raise NetworkUnavailable(_last_line(said) or str(fault)) from fault

    @classmethod
    def _adopt(cls, process: "subprocess.Popen[bytes]", holder: int, *, as_root: bool) -> "OutsideNetwork":
        """Hold the namespaces and set the rules in them; raises OSError or SubprocessError."""
        with contextlib.ExitStack() as undo:
            network = os.open(f"/proc/{holder}/ns/net", os.O_RDONLY)
            undo.callback(os.close, network)
            users = None
            if not as_root:
                users = os.open(f"/proc/{holder}/ns/user", os.O_RDONLY)
                undo.callback(os.close, users)
            made = cls(process, network, users)
            made._set_rules()
            undo.pop_all()
            return made

    def _set_rules(self) -> None:
        command = [*self.enter(), sys.executable, "-I", "-S", str(_RULES)]
        said = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_READY_SECONDS, check=False
        )
        if said.returncode != 0:
            raise OSError(_last_words(said.stderr) or f"nsenter ended with exit code {said.returncode}")

    def enter(self) -> list[str]:
        """Give the beginning of a command that runs in this network.

        For an ordinary user it runs in the namespace of users that owns the network, as its root: what lives there
        longer than a moment has to make one of its own below.
        """
        folder = f"/proc/{os.getpid()}/fd"
        users = () if self._users is None else (f"--user={folder}/{self._users}", "--preserve-credentials")
        return ["nsenter", *users, f"--net={folder}/{self._network}"]

    async def ended(self) -> None:
        """Wait until pasta has ended: from then on there is no way to the outside."""
        loop = asyncio.get_running_loop()
        end = loop.create_future()
        descriptor = os.pidfd_open(self._process.pid)
        loop.add_reader(descriptor, end.set_result, None)
        try:
            await end
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)

    def close(self) -> None:
        """End it; blocks. Who still lives in the namespace is alone then."""
        _end(self._process)
        os.close(self._network)
        if self._users is not None:
            os.close(self._users)


class SharedNetwork:
    """The network of all instances of an installation that may have one."""

    def __init__(self, clock: SystemClock, *, as_root: bool) -> None:
        """Make it; blocks. Raises NetworkUnavailable."""
        self._clock = clock
        self._as_root = as_root
        self._current = OutsideNetwork.open(clock, as_root=as_root)
        self._made_anew: Callable[[], Awaitable[None]] | None = None

    def tell(self, made_anew: Callable[[], Awaitable[None]]) -> None:
        """Say what is to be done when the network has been made anew."""
        self._made_anew = made_anew

    def enter(self) -> list[str]:
        """Give the beginning of a command that runs in the network."""
        return self._current.enter()

    async def keep(self) -> None:
        """Make it anew whenever pasta has ended; returns when that cannot be done.

        What runs then keeps its namespace, from which nothing is reached any more: never the machine's own network.
        """
        while True:
            await self._current.ended()
            log.error("pasta has ended: the instances that run now have no network until they are replaced")
            try:
                anew = await asyncio.to_thread(OutsideNetwork.open, self._clock, as_root=self._as_root)
            except NetworkUnavailable as fault:
                log.error("instances have no network until Moorage is started again: %s", fault)
                return
            before, self._current = self._current, anew
            await asyncio.to_thread(before.close)
            if self._made_anew is not None:
                await self._made_anew()

    def close(self) -> None:
        """End it; blocks."""
        self._current.close()


def resolver_settings() -> str:
    """Give the text of a ``resolv.conf`` that works in such a network.

    It names the machine's own name servers where they are within reach, because those are asked by TCP too, and pasta
    where they are not. Never both: pasta takes the answers of the first for answers to what it was asked itself.
    """
    servers, others = _find_resolver()
    return "\n".join([*others, *(f"nameserver {server}" for server in servers or [_RESOLVER]), ""])


def _find_resolver() -> tuple[list[str], list[str]]:
    """Give the machine's name servers that are within reach, and what else their file says."""
    others: list[str] = []
    for path in _RESOLVER_FILES:
        with contextlib.suppress(OSError):
            text = Path(path).read_text(encoding="utf-8")
            others = [line for line in text.splitlines() if line.split()[:1] not in (["nameserver"], [])]
            if servers := _reachable_servers(text):
                return servers, others
    return [], others


def _reachable_servers(text: str) -> list[str]:
    lines = [line.split() for line in text.splitlines()]
    return [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver" and not _is_local(words[1])]


def _is_local(server: str) -> bool:
    try:
        address = ipaddress.ip_address(server.partition("%")[0])
    except ValueError:
        return True
    return address.is_loopback or address.is_link_local or address.is_unspecified


def _start_pasta(pasta: str, said: IO[bytes], *, as_root: bool) -> "subprocess.Popen[bytes]":
    servers, _others = _find_resolver()
    forward = () if servers else ("--dns-forward", _RESOLVER)
    command: Sequence[str] = [pasta, *_OPTIONS, *forward, "--", "cat"]
    if as_root:
        command = ["unshare", "--mount", "sh", "-c", _OWN_TUN, "sh", *command]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True, cwd="/"
    )


def _wait_for_holder(process: "subprocess.Popen[bytes]", clock: SystemClock) -> int:
    """Wait for the process that pasta runs in the namespace, and for its network; raises OSError, TimeoutError."""
    deadline = clock.monotonic() + _READY_SECONDS
    own = Path("/proc/self/ns/net").readlink()
    while clock.monotonic() < deadline:
        if process.poll() is not None:
            raise OSError(f"pasta ended with exit code {process.returncode}")
        for entry in read_processes():
            if entry.parent == process.pid and not entry.dead:
                with contextlib.suppress(OSError):
                    holder = Path(f"/proc/{entry.pid}")
                    if (holder / "ns/net").readlink() != own and _has_network(holder):
                        return entry.pid
        clock.pause(_PAUSE_SECONDS)
    raise TimeoutError


def _has_network(process: Path) -> bool:
    """Look whether a process's network has a way out; raises OSError when the process has gone."""
    routes = [line.split() for line in (process / "net/route").read_text(encoding="ascii").splitlines()[1:]]
    if any(route[1] == "00000000" for route in routes):
        return True
    try:
        routes = [line.split() for line in (process / "net/ipv6_route").read_text(encoding="ascii").splitlines()]
    except FileNotFoundError:
        return False
    return any(route[1] == "00" and route[-1] != "lo" for route in routes)


def _last_line(said: IO[bytes]) -> str:
    said.seek(0)
    return _last_words(said.read())


def _last_words(text: bytes) -> str:
    lines = [line for line in text.decode(errors="replace").splitlines() if line and "to syslog" not in line]
    return lines[-1] if lines else ""


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
