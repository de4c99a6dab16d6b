"""``moorage doctor``: what works on this machine, what does not, and what to do about it."""

import json
import os
import shutil
import socket
import ssl
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from moorage.base.clock import SystemClock
from moorage.base.ports import who_listens
from moorage.base.settings import Settings
from moorage.cli.client import Client
from moorage.cli.events import webhook_trouble
from moorage.cli.present import size, table
from moorage.cli.server import Server, data_dir_option, find_server, output_option
from moorage.cli.up import make_settings
from moorage.kms import cipher

if TYPE_CHECKING:
    from moorage.engine.machine import Machine

_LEAST_DISK_BYTES = 2 * 10**9
"""An environment takes 0.5 GB, and models want room."""


_IMAGES_ADVICE = (
    "It needs user namespaces and overlayfs: Linux 5.11 for an ordinary user, 5.19 for root, whose data folder must be "
    "on a file system with idmapped mounts (ext4, xfs, btrfs)."
)

_GUESTS_ADVICE = (
    "Start Moorage as root on a machine with bubblewrap, beside a daemon of this machine that is root's and remaps no "
    "users."
)

_RENEW_WITHIN_DAYS = 14
_TLS_ANSWERS_WITHIN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Check:
    """One finding."""

    name: str
    state: str
    """``ok``, ``limited`` (Moorage runs, a promise does not hold) or ``broken`` (it will not run)."""
    found: str
    advice: str = ""
    engines: Mapping[str, bool] = field(default_factory=dict)
    """Of a promise: which engines keep it here."""


@click.command()
@data_dir_option
@output_option
def doctor(data_dir: Path | None, output: str) -> None:
    """Say what works on this machine and what to do about the rest.

    Exit code 1 when Moorage cannot run here; a promise that an engine cannot keep is said, but no failure.
    """
    from moorage.engine.probe import probe  # noqa: PLC0415 - the other commands start without the engine

    settings = make_settings(data_dir, {})
    machine = probe()
    server = find_server(data_dir)
    checks = [
        python_check(),
        data_folder_check(settings.data_dir),
        disk_check(settings.data_dir),
        port_check(settings, server),
        encryption_check(),
        *certificate_checks(server),
        *webhook_checks(server),
        *machine_checks(machine, server.description["engine"] if server else settings.engine, settings.data_dir),
    ]
    if output == "json":
        click.echo(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        _print(checks)
    if any(check.state == "broken" for check in checks):
        sys.exit(1)


def _print(checks: Sequence[Check]) -> None:
    said: set[str] = set()
    for check in checks:
        if not check.engines or check.state != "ok":
            click.echo(_line(check, advise=check.advice not in said))
            said.add(check.advice)
    promised = [check for check in checks if check.engines]
    rows = [[check.name, *("yes" if kept else "no" for kept in check.engines.values())] for check in promised]
    click.echo("\n" + table(["promise kept here by", *promised[0].engines], rows))


def python_check() -> Check:
    """Look at the interpreter."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    if not sys.platform.startswith("linux"):
        return Check("platform", "broken", sys.platform, "Moorage runs on Linux (WSL 2 is one).")
    return Check("Python", "ok", f"{version}, {sys.executable}")


def data_folder_check(folder: Path) -> Check:
    """Look whether the data folder is there and ours, or can be made."""
    advice = "Name another one with --data-dir, or MOORAGE_DATA_DIR."
    place = _existing(folder)
    in_the_way = next(above for above in (folder, *folder.parents) if os.path.lexists(above))
    if in_the_way != place:
        return Check("data folder", "broken", f"{folder} cannot be made: {in_the_way} is no folder", advice)
    if place.stat().st_uid != os.getuid() and place == folder:
        return Check("data folder", "broken", f"{folder} belongs to another user", advice)
    if not os.access(place, os.W_OK | os.X_OK):
        return Check("data folder", "broken", f"{folder} cannot be written", advice)
    return Check("data folder", "ok", str(folder) + ("" if place == folder else " (made at the first start)"))


def disk_check(folder: Path) -> Check:
    """Look at the room that is left."""
    free = shutil.disk_usage(_existing(folder)).free
    if free < _LEAST_DISK_BYTES:
        return Check(
            "disk", "limited", f"{size(free)} free", f"Make room: {size(_LEAST_DISK_BYTES)} is little already."
        )
    return Check("disk", "ok", f"{size(free)} free")


def encryption_check() -> Check:
    """Look whether data can be encrypted with keys of KMS."""
    if not cipher.available():
        advice = "For KmsKeyId, the KMS API and server-side encryption: pip install 'moorage[kms]'"
        return Check("encryption", "limited", "the library cryptography is not installed", advice)
    return Check("encryption", "ok", f"AES-256-GCM by cryptography {metadata.version('cryptography')}")


def port_check(settings: Settings, server: Server | None) -> Check:
    """Look whether the port can be had."""
    if server:
        return Check("port", "ok", f"Moorage runs at {server.url}, process {server.pid}")
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((settings.host, settings.port))
        except OSError as fault:
            holder = who_listens(settings.port)
            by = f" by process {holder[0]} ({holder[1]})" if holder else ""
            found = f"{settings.host}:{settings.port} cannot be had: {fault.strerror}{by}"
            return Check("port", "limited", found, "Choose another one: moorage up --port 0")
    return Check("port", "ok", f"{settings.host}:{settings.port} is free")


def certificate_checks(server: Server | None) -> Iterator[Check]:
    """Look at the certificate that the running server shows, as the command line does."""
    trusted = server.trusted if server else None
    if server is None or trusted is None:
        return
    url, path = urlsplit(server.url), server.description["certificate"]
    try:
        with (
            socket.create_connection((url.hostname or "", url.port or 443), timeout=_TLS_ANSWERS_WITHIN_SECONDS) as raw,
            trusted.wrap_socket(raw) as connection,
        ):
            ends = ssl.cert_time_to_seconds(str((connection.getpeercert() or {})["notAfter"]))
    except OSError as fault:
        advice = "If the file has just been replaced, it is in use within seconds; if not, see the server's log."
        yield Check("certificate", "limited", f"what the server shows is not that of {path}: {fault}", advice)
        return
    days = int((ends - SystemClock().now()) // 86_400)
    state = "ok" if days >= _RENEW_WITHIN_DAYS else "limited"
    advice = "" if state == "ok" else "Replace the file: a new certificate is taken up without a restart."
    yield Check("certificate", state, f"{path}, valid for {days} days", advice)


def webhook_checks(server: Server | None) -> Iterator[Check]:
    """Ask the running server how its webhook does."""
    if server is None:
        return
    try:
        webhook = Client(server).own("GET", "/_moorage/events", query="limit=1")["webhook"]
    except click.ClickException as fault:
        yield Check("events", "limited", fault.format_message(), "Read the server's log: logs/moorage.log")
        return
    if trouble := webhook_trouble(webhook):
        advice = "Repair the receiver, or name another one with MOORAGE_EVENT_WEBHOOK and start again."
        yield Check("webhook", "limited", trouble, advice)
    elif webhook is not None:
        yield Check("webhook", "ok", f"{webhook['origin']}, {webhook['waiting']} events wait")


def machine_checks(machine: "Machine", wanted: str, data_dir: Path) -> Iterator[Check]:
    """Give the engine's tier and the promises that hold with it; ``wanted``: the engine that is set."""
    from moorage.engine.machine import ENGINES, Need  # noqa: PLC0415 - the other commands start without the engine
    from moorage.engine.promises import PROMISES, judge  # noqa: PLC0415
    from moorage.engine.rootfs.maker import try_rooms  # noqa: PLC0415

    engine = machine.engine if wanted == "auto" else wanted
    daemon = str(machine.docker or f"no, because {machine.lacks.get(Need.DOCKER)}")
    yield Check("docker", "ok" if machine.docker else "broken" if wanted == "docker" else "limited", daemon)
    if machine.docker is not None and wanted == "docker":
        fault = machine.guests_fault
        found = f"run in the engine {machine.engine}, because {fault}" if fault else "forked into containers"
        yield Check("built-in images", "limited" if fault else "ok", found, _GUESTS_ADVICE if fault else "")
    if machine.docker is None and engine != "process":
        fault = try_rooms(_existing(data_dir))
        found = f"cannot be run: {fault}" if fault else "unpacked, and run in the sandbox"
        yield Check("images without Docker", "limited" if fault else "ok", found, _IMAGES_ADVICE if fault else "")
    if engine == "sandbox" and machine.sandbox_fault:
        advice = "Make it work, or leave the choice to Moorage: MOORAGE_ENGINE=auto."
        yield Check("engine", "broken", f"sandbox is set, and does not work: {machine.sandbox_fault}", advice)
    else:
        tier = f"sandbox (bubblewrap {machine.bubblewrap})" if engine == "sandbox" else engine
        user = "root" if machine.as_root else f"user {machine.uid}"
        advice = machine.sandbox_fault or ("" if engine == machine.engine else "As it was set; the sandbox works here.")
        yield Check("engine", "limited" if engine == "process" else "ok", f"{tier}, as {user}", advice)
    yield Check("machine", "ok", f"{machine.cpus} CPUs, {size(machine.memory_bytes)} memory")
    for promise in PROMISES:
        verdict = judge(promise, machine, engine)
        found = "yes" if verdict.kept else f"no, because {verdict.reason}"
        engines = {name: judge(promise, machine, name).kept for name in ENGINES}
        yield Check(promise.text, "ok" if verdict.kept else "limited", found, verdict.advice, engines)


def _existing(folder: Path) -> Path:
    """Give the folder, or the nearest one above it that is there."""
    return next(place for place in (folder, *folder.parents) if place.is_dir())


def _line(check: Check, *, advise: bool) -> str:
    mark = {"ok": click.style("ok      ", fg="green"), "limited": click.style("limited ", fg="yellow")}.get(
        check.state, click.style("broken  ", fg="red")
    )
    line = f"{mark} {check.name}: {check.found}"
    return line + (f"\n         {check.advice}" if check.advice and advise else "")
