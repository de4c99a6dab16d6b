"""The program behind ``moorage exec``: becomes a process of a running instance, and runs a command there.

It takes on what the instance's first process has: its control groups, its namespaces, its user, and as few privileges.
So one way leads into every instance whose namespaces this user may enter, whichever engine runs it. It is a process of
its own because a user namespace can only be entered by a process of one thread (setns(2)).

Its order is a JSON object at a descriptor, not an argument: an instance's variables are nobody else's business.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import signal
import sys
import termios
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

from moorage.engine.cgroups import open_groups_of
from moorage.serving import isolation, seccomp

_NAMESPACES = ("user", "cgroup", "ipc", "uts", "net", "pid", "mnt")
"""The user's first, because it gives the right to enter the others; the mounts' last, because it hides ``/proc``."""

_NS_GET_USERNS, _NS_GET_PARENT = 0xB701, 0xB702
"""Questions to a descriptor of a namespace (ioctl_ns(2)); the answer is a descriptor of a user namespace."""

_SHELLS = ("/bin/bash", "/bin/sh")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PASSED_ON = (signal.SIGINT, signal.SIGTERM)
_CANNOT_ENTER = 125
"""Exit codes as ``docker exec`` has them."""
_NOT_FOUND = 127

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Order:
    """What to run where."""

    pid: int
    """First process of the instance."""
    command: tuple[str, ...]
    """Empty: a shell."""
    variables: Mapping[str, str] | None
    """Environment; None: that of the instance's first process."""
    terminal: str | None
    """``TERM`` of the terminal that the standard streams are; None: they are none."""

    def to_json(self) -> bytes:
        """Give the JSON form."""
        return json.dumps(asdict(self)).encode()


@dataclass(frozen=True, slots=True)
class Guise:
    """What the instance's first process looks like from here (proc(5), status)."""

    uid: int
    gid: int
    bounding: int
    """Capabilities that it and its children can have, as bits."""
    no_new_privileges: bool
    filtered: bool
    """A filter refuses it system calls (seccomp)."""


def run(arguments: Sequence[str]) -> NoReturn:
    """Do what the order at a descriptor says; exits with the command's exit code. Others follow: to be closed."""
    isolation.die_with_parent()
    for descriptor in arguments[1:]:
        os.close(int(descriptor))
    with os.fdopen(int(arguments[0]), "rb") as orders:
        given = json.load(orders)
    order = Order(**{**given, "command": tuple(given["command"])})
    try:
        child = _enter(order)
    except (OSError, ValueError) as fault:
        _say(f"the instance cannot be entered: {fault}")
        os._exit(_CANNOT_ENTER)
    _take_signals_for(child)
    _pid, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


def _enter(order: Order) -> int:
    """Take on all that can be taken on before the fork; gives the process that is in the instance for good."""
    place = Path(f"/proc/{order.pid}")
    guise = read_guise((place / "status").read_text(encoding="ascii", errors="replace"))
    variables = order.variables if order.variables is not None else read_variables((place / "environ").read_bytes())
    folder = os.readlink(place / "cwd")  # noqa: PTH115 - a path inside, which need not be one here
    user = within(guise.uid, (place / "uid_map").read_text(encoding="ascii"))
    group = within(guise.gid, (place / "gid_map").read_text(encoding="ascii"))
    opened = open_namespaces(order.pid)
    groups = open_groups_of(order.pid)
    for name, descriptor in _in_order(opened):
        if _libc.setns(ctypes.c_int(descriptor), 0) != 0:
            raise OSError(ctypes.get_errno(), f"its {name} namespace: {os.strerror(ctypes.get_errno())}")
        os.close(descriptor)
    child = os.fork()
    if child == 0:
        _be_inside(order, lambda: _take_guise(user, group, guise), groups, variables, folder)
    return child


def open_namespaces(pid: int) -> dict[str, int]:
    """Open the namespaces of a process that are not this one's, in the order in which they can be entered."""
    place = Path(f"/proc/{pid}")
    with contextlib.ExitStack() as undo:
        opened = {}
        for name in _NAMESPACES:
            if _differs(place, name):
                opened[name] = os.open(place / "ns" / name, os.O_RDONLY | os.O_CLOEXEC)
                undo.callback(os.close, opened[name])
        undo.pop_all()
    return opened


def _in_order(opened: Mapping[str, int]) -> list[tuple[str, int]]:
    """Put namespaces into an order in which each may be entered: right after the user namespace that owns it.

    An instance of an ordinary user may be in a network that belongs to a user namespace around its own.
    """
    users = _user_namespaces(opened["user"]) if "user" in opened else []
    levels = {os.fstat(descriptor).st_ino: level for level, descriptor in enumerate(users, start=1)}
    others = [
        (levels.get(_owner(descriptor) or 0, 0), name, descriptor)
        for name, descriptor in opened.items()
        if name != "user"
    ]
    steps = [*((level, "user", descriptor) for level, descriptor in enumerate(users, start=1)), *others]
    return [(name, descriptor) for _level, name, descriptor in sorted(steps, key=lambda step: step[0])]


def _user_namespaces(innermost: int) -> list[int]:
    """Give the user namespaces between this process's and that one, the outermost first."""
    own = Path("/proc/self/ns/user").stat().st_ino
    found = [innermost]
    with contextlib.suppress(PermissionError):  # it is none that lies in this process's
        while os.fstat(parent := fcntl.ioctl(found[0], _NS_GET_PARENT)).st_ino != own:
            found.insert(0, parent)
        os.close(parent)
    return found


def _owner(namespace: int) -> int | None:
    try:
        owner = fcntl.ioctl(namespace, _NS_GET_USERNS)
    except PermissionError:  # none that lies in this process's
        return None
    try:
        return os.fstat(owner).st_ino
    finally:
        os.close(owner)


def _differs(place: Path, name: str) -> bool:
    there, here = place / "ns" / name, Path("/proc/self/ns") / name
    return there.exists() and there.stat().st_ino != here.stat().st_ino


def _be_inside(
    order: Order, take_guise: Callable[[], None], groups: Sequence[int], variables: Mapping[str, str], folder: str
) -> NoReturn:
    try:
        # Only here: whoever waits for this process must not be killed at the instance's memory limit.
        for descriptor in groups:
            os.write(descriptor, b"0")
        if order.terminal is not None:
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        else:
            os.setpgid(0, 0)
        _change_folder(folder)
        take_guise()
        # Last, because a change of user undoes it.
        isolation.die_with_parent()
    except OSError as fault:
        _say(f"the instance cannot be entered: {fault}")
        os._exit(_CANNOT_ENTER)
    for number in (*_PASSED_ON, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    _execute(order.command, {**variables, **({} if order.terminal is None else {"TERM": order.terminal})})


def _take_guise(user: int, group: int, guise: Guise) -> None:
    """Become the instance's user, without what that one cannot have."""
    isolation.drop_capabilities_but(guise.bounding)
    if os.getuid() != user:
        os.setgroups([])
        os.setresgid(group, group, group)
        os.setresuid(user, user, user)
    if guise.no_new_privileges:
        isolation.refuse_new_privileges()
    if guise.no_new_privileges and guise.filtered:
        seccomp.install()  # the instance's own filter cannot be taken on; this one refuses as much


def _change_folder(folder: str) -> None:
    try:
        os.chdir(folder)
    except OSError:
        os.chdir("/")


def _execute(command: Sequence[str], variables: Mapping[str, str]) -> NoReturn:
    """Run the command, found by the instance's own PATH."""
    candidates = [command] if command else [[shell] for shell in _SHELLS]
    fault: OSError | None = None
    for words in candidates:
        try:
            os.execvpe(words[0], list(words), {"PATH": _PATH, **variables})  # noqa: S606 - without a shell is the point
        except OSError as refused:
            fault = refused
    _say(f"{candidates[-1][0]} cannot be run in the instance: {fault.strerror if fault else ''}")
    os._exit(_NOT_FOUND)


def _take_signals_for(child: int) -> None:
    """Hand on what asks for an end. A hang-up is one: nobody is there to see the command end in its own time.

    This process must be there to wait for it: a dead process that nobody waits for keeps its namespace, and so the
    whole instance, from ending.
    """
    for number in _PASSED_ON:
        signal.signal(number, lambda received, _frame: os.kill(child, received))
    signal.signal(signal.SIGHUP, lambda *_: _kill_all_of(child))


def _kill_all_of(child: int) -> None:
    """Kill the command with what it has started, which would hold on to the caller's streams."""
    with contextlib.suppress(ProcessLookupError):  # it leads no group yet
        os.killpg(child, signal.SIGKILL)
    os.kill(child, signal.SIGKILL)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def read_guise(status: str) -> Guise:
    """Read ``/proc/PID/status``; raises ValueError."""
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    try:
        return Guise(
            uid=int(fields["Uid"].split()[1]),
            gid=int(fields["Gid"].split()[1]),
            bounding=int(fields["CapBnd"], 16),
            no_new_privileges=fields["NoNewPrivs"].strip() == "1",
            filtered=fields.get("Seccomp", "0").strip() != "0",
        )
    except KeyError as fault:
        raise ValueError(f"its status has no {fault}") from fault


def read_variables(environ: bytes) -> dict[str, str]:
    """Read ``/proc/PID/environ``."""
    pairs = (entry.partition(b"=") for entry in environ.split(b"\0") if b"=" in entry)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def within(number: int, id_map: str) -> int:
    """Give the user or group id that is this one in the user namespace with this map (user_namespaces(7))."""
    for line in id_map.splitlines():
        inside, outside, count = (int(word) for word in line.split())
        if outside <= number < outside + count:
            return inside + number - outside
    return number
