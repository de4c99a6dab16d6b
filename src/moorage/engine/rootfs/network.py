"""Gives containers that have a network namespace of their own a way out: through pasta (https://passt.top), no root.

pasta makes the connections of a namespace from this machine, as a process of the container's user. What must not be
reached through it: this machine's loopback (neither by the gateway's address nor by forwarded ports), and the
link-local addresses, where clouds answer with a machine's credentials. The latter are refused by rules within the
namespace (``network_rules``), which a container has no privilege to change. IPv4 only.

Each container has its own, where instances of built-in images share one (``engine.network``): what is in an image
listens at port 8080 of its namespace.
"""

import asyncio
import contextlib
import os
import shutil
from pathlib import Path

from moorage.engine.network import NetworkUnavailable
from moorage.engine.programs import program

RESOLVER = "192.0.0.53"
"""Where containers ask for names; pasta asks this machine's own resolver. Of a block that is nobody's (RFC 6890)."""

ADVICE = "Install passt (package passt of the distribution, command pasta)."

_READY_SECONDS = 10.0
_SAID_BYTES = 4096
_RESOLVER_LINES = ("search", "options", "domain")


class Outbound:
    """One container's way out."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """Process id of pasta."""
        return self._process.pid

    async def close(self) -> None:
        """End it."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.communicate()


def pasta() -> str | None:
    """Give pasta's path, None where it is not installed."""
    return shutil.which("pasta")


async def give_way_out(pid: int, owner: int | None) -> Outbound:
    """Give the network namespace of a process a way out; ready when this returns. Raises NetworkUnavailable.

    ``owner``: the user of this machine whose the namespaces are, for root to become; None: this process's own.
    """
    path = await asyncio.to_thread(pasta)
    if path is None:
        raise NetworkUnavailable(f"pasta is not installed. {ADVICE}")
    reader, writer = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            *program("moorage.engine.rootfs.pasta", writer, "-" if owner is None else owner),
            *_command(path, pid, writer),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=(writer,),
        )
    except OSError as fault:
        os.close(reader)
        raise NetworkUnavailable(f"pasta could not be started: {fault}") from fault
    finally:
        os.close(writer)
    outbound = Outbound(process)
    try:
        if await _first_bytes(reader):
            return outbound
    finally:
        os.close(reader)
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    _said, complaints = await process.communicate()
    raise NetworkUnavailable(f"pasta failed: {_last_line(complaints) or 'it gave no reason'}")


def resolver_file() -> str:
    """Make the container's ``/etc/resolv.conf``: this machine's, with the names asked for through pasta. Blocks."""
    try:
        own = Path("/etc/resolv.conf").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        own = []
    kept = [line for line in own if line.split()[:1] and line.split()[0] in _RESOLVER_LINES]
    return "\n".join([f"nameserver {RESOLVER}", *kept, ""])


def _command(path: str, pid: int, ready: int) -> list[str]:
    return [
        *(path, "--foreground", "--quiet", "--ipv4-only", "--config-net", "--no-map-gw", "--dns-forward", RESOLVER),
        *("--tcp-ports", "none", "--udp-ports", "none", "--tcp-ns", "none", "--udp-ns", "none"),
        *("--userns", f"/proc/{pid}/ns/user", "--netns", f"/proc/{pid}/ns/net", "--pid", f"/proc/self/fd/{ready}"),
    ]


async def _first_bytes(reader: int) -> bytes:
    """Wait for what is said first; empty when nothing is, in time or ever."""
    loop = asyncio.get_running_loop()
    came: asyncio.Future[None] = loop.create_future()
    loop.add_reader(reader, _note, came)
    try:
        async with asyncio.timeout(_READY_SECONDS):
            await came
        return os.read(reader, _SAID_BYTES)
    except TimeoutError:
        return b""
    finally:
        loop.remove_reader(reader)


def _note(came: "asyncio.Future[None]") -> None:
    if not came.done():
        came.set_result(None)


def _last_line(said: bytes) -> str:
    lines = [line for line in said.decode(errors="replace").splitlines() if line and "syslog" not in line]
    return lines[-1] if lines else ""
