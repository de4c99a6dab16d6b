"""What happens when Moorage starts, in order: folders, lock, port, first key, processes, answer, banner."""

import contextlib
import dataclasses
import gc
import json
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import moorage
from moorage.base.clock import SystemClock
from moorage.base.data_dir import Lock, remove_folder
from moorage.base.files import write_whole
from moorage.base.settings import DEFAULT_ACCOUNT, Settings, run_dir_of
from moorage.engine.cgroups import remove_groups
from moorage.engine.docker.engine import remove_leftovers
from moorage.engine.volumes import unmount_volumes
from moorage.gateway.certificate import Certificate, UnusableCertificate, certificate_of
from moorage.supervisor import places
from moorage.supervisor.banner import banner
from moorage.supervisor.family import Child, Family, Role, StartFailed
from moorage.supervisor.port import PortUnavailable, is_loopback, open_listeners, reachable, url_of
from moorage.supervisor.ready import ReadyProbe, make_questions
from moorage.supervisor.terminal import TerminalHandler
from moorage.supervisor.trust import Trust, examine

READY_WITHIN_SECONDS = 60.0
_KILLED_SERVER_ENDS_WITHIN_SECONDS = 5.0

log = logging.getLogger(__name__)

MakeRoles = Callable[[Settings, Sequence[socket.socket], Certificate | None], Sequence[Role]]


class CannotStart(Exception):
    """The server cannot start; the text is for people."""


def up(settings: Settings, make_roles: MakeRoles, tier: Callable[[Settings], str], *, ephemeral: bool) -> None:
    """Run a server until a signal ends it; raises CannotStart.

    ``tier`` gives the words for how instances are run on this machine.
    """
    started_at = SystemClock().now()
    try:
        certificate = certificate_of(settings)
        with _installation(settings, ephemeral=ephemeral) as installed:
            # After the lock, so that a second server on the folder is told of the first; before the first file.
            listeners = open_listeners(installed.host, installed.port, installed.gateways)
            key = places.first_key(installed.data_dir, installed.account)
            url = url_of(installed.host, listeners[0].getsockname()[1], tls=certificate is not None)
            start = _Start(_with_account_of(key, installed), key, url, certificate, started_at, ephemeral)
            _serve(start, listeners, make_roles, tier)
        _say_stopped()
    except (places.UnusablePlace, PortUnavailable, UnusableCertificate) as fault:
        raise CannotStart(str(fault)) from fault


def _say_stopped() -> None:
    """Give the prompt, which would stand behind ``^C``, a line of its own; a log or a pipe needs no such word."""
    with contextlib.suppress(OSError):  # the terminal has been closed
        if os.isatty(1):
            os.write(1, b"\nstopped\n")


def _with_account_of(key: dict[str, str], settings: Settings) -> Settings:
    if settings.account not in {key["account"], DEFAULT_ACCOUNT}:
        raise CannotStart(
            f"The data folder {settings.data_dir} belongs to account {key['account']}. "
            f"Start without --account, or use another --data-dir for account {settings.account}."
        )
    return dataclasses.replace(settings, account=key["account"])


@contextlib.contextmanager
def _installation(settings: Settings, *, ephemeral: bool) -> Iterator[Settings]:
    """Have the folders of a server for as long as it runs."""
    places.sweep_ephemeral_folders()
    is_new = not settings.data_dir.exists()
    if ephemeral:
        data_dir, held = places.make_ephemeral_folder()
        settings = dataclasses.replace(settings, data_dir=data_dir, run_dir=run_dir_of(data_dir))
    else:
        places.make_private_folder(settings.data_dir)
        held = _wait_for_lock(settings.data_dir)
    try:
        places.need_room(settings.data_dir)
        places.make_run_dir(settings.run_dir)
        (settings.data_dir / "server.json").unlink(missing_ok=True)
        yield settings
    finally:
        remove_leftovers(settings.run_dir)
        remove_groups(settings.run_dir)  # none is left but where the node agent had to be killed
        unmount_volumes(settings.data_dir)
        remove_folder(settings.run_dir)
        (settings.data_dir / "server.json").unlink(missing_ok=True)
        if ephemeral:
            remove_folder(settings.data_dir)
        elif is_new:
            places.remove_unused_folder(settings.data_dir)
        held.release()


def _wait_for_lock(data_dir: Path) -> Lock:
    clock = SystemClock()
    deadline = clock.monotonic() + _KILLED_SERVER_ENDS_WITHIN_SECONDS

    def wait() -> bool:
        clock.pause(0.01)
        return clock.monotonic() < deadline

    return places.lock(data_dir, wait=wait)


@dataclass(frozen=True, slots=True)
class _Start:
    """What is known once the port is open."""

    settings: Settings
    key: Mapping[str, str]
    url: str
    certificate: Certificate | None
    started_at: float
    ephemeral: bool

    def server(self, engine: str, trust: Trust | None) -> dict[str, Any]:
        """Give what ``server.json`` says."""
        certificate = str(self.certificate.path) if self.certificate else None
        return {
            "url": self.url,
            "certificate": certificate,
            "ca_bundle": certificate if trust and trust.is_own_authority else None,
            "pid": os.getpid(),
            "region": self.settings.region,
            "account": self.settings.account,
            "engine": engine,
            "version": moorage.__version__,
            "started_at": self.started_at,
            "data_dir": str(self.settings.data_dir),
            "run_dir": str(self.settings.run_dir),
            "ephemeral": self.ephemeral,
        }


def _serve(
    start: _Start, listeners: Sequence[socket.socket], make_roles: MakeRoles, tier: Callable[[Settings], str]
) -> None:
    settings = start.settings
    loopback = is_loopback(listeners[0])
    log_file = places.open_log(settings.data_dir)
    _log_to_file_and_terminal(log_file)
    trust = examine(start.certificate, reachable(settings.host)) if start.certificate else None
    if trust and trust.doubts:
        log.warning("%s", trust.doubts)
    terminal = os.dup(sys.stderr.fileno())

    def adopt(role: Role) -> None:
        """Give a new child its place for output: the log file, and the terminal for warnings."""
        os.dup2(log_file, 1)
        os.dup2(log_file, 2)
        logging.basicConfig(stream=sys.stderr, format=f"%(asctime)s {role.name}: %(message)s", force=True)
        logging.getLogger("moorage").handlers[:] = [TerminalHandler(terminal, role.name)]

    def note(children: Sequence[Child]) -> None:
        try:
            _write_processes(settings.run_dir / "processes.json", children)
        except OSError as fault:  # a full disk: moorage ps is out of date, nothing else
            log.warning("%s cannot be written: %s", settings.run_dir / "processes.json", fault.strerror)

    def ready() -> None:
        log.info("ready at %s", start.url)
        server = start.server(tier(settings), trust)
        with places.writing(settings.data_dir / "server.json"):
            content = json.dumps(server, indent=2).encode() + b"\n"
            write_whole(settings.data_dir / "server.json", content, durable=False)
        sys.stdout.write(banner(server, start.key, warn=not (loopback or start.certificate), style=sys.stdout.isatty()))
        sys.stdout.flush()

    family = Family(
        make_roles(settings, listeners, start.certificate), clock=SystemClock(), on_change=note, adopt=adopt
    )
    gc.collect()
    gc.freeze()  # what is shared by the fork stays shared: the collector does not write to it any more
    questions = make_questions(start.key, settings.region, SystemClock())
    probe = ReadyProbe(listeners[0], questions, tls=start.certificate is not None)
    try:
        family.run(probe=probe, ready_within_seconds=READY_WITHIN_SECONDS, on_ready=ready)
    except StartFailed as fault:
        path = settings.data_dir / "logs" / "moorage.log"
        kept = "" if start.ephemeral else f"\nThe log: {path}"
        raise CannotStart(f"{fault} The last lines of the log:\n\n{_tail(path)}{kept}") from fault


def _write_processes(path: Path, children: Sequence[Child]) -> None:
    processes = [{"role": "supervisor", "pid": os.getpid()}]
    processes += [{"role": child.role.name, "pid": child.pid} for child in children if child.pid is not None]
    write_whole(path, json.dumps(processes).encode(), durable=False)


def _log_to_file_and_terminal(log_file: int) -> None:
    to_file = logging.StreamHandler(os.fdopen(os.dup(log_file), "a", encoding="utf-8"))
    to_file.setFormatter(logging.Formatter("%(asctime)s supervisor: %(message)s"))
    own = logging.getLogger("moorage")
    own.setLevel(logging.INFO)
    logging.raiseExceptions = False  # a full disk is no reason to fill the terminal too
    own.handlers[:] = [to_file, TerminalHandler(sys.stderr.fileno(), "supervisor")]


def _tail(path: Path, lines: int = 20) -> str:
    with contextlib.suppress(FileNotFoundError):
        return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    return ""
