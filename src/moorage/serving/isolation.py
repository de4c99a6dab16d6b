"""What turns a process that was forked from the zygote into a room of its own: namespaces, mounts, privileges.

The zygote already lives in bubblewrap's view of the machine: read-only system folders and the environment, no data
folder, no sockets of Moorage. It keeps the capabilities that are needed here (``CAPABILITIES``), on the machine when
root started it and otherwise only within its own user namespace. An instance gets namespaces of its own, covers
what the others' models are seen through, and then gives every capability away for ever. What is covered stays
covered: a mount that a process without capabilities inherits cannot be taken off, not in a new user namespace
either (mount_namespaces(7), "locked" mounts).
"""

import ctypes
import os
import resource
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CAPABILITIES = ("CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP")
"""What the zygote keeps: mounts and namespaces, the change of user, giving capabilities away."""

MODEL_FOLDER = "/opt/ml/model"
"""Where the container contract puts the model (data-plane.md section 7.3)."""

_CLONE_NEWNS = 0x00020000
_CLONE_NEWCGROUP = 0x02000000
_CLONE_NEWUTS = 0x04000000
_CLONE_NEWIPC = 0x08000000
_CLONE_NEWPID = 0x20000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1, 2, 4, 8
_MS_BIND, _MS_REC, _MS_PRIVATE = 4096, 16384, 1 << 18
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NAME = 1, 4, 15
_PR_CAPBSET_DROP, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 24, 36, 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_CAPABILITY_VERSION_3 = 0x20080522
_MOST_CAPABILITIES = 64

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class View:
    """What an instance sees that the zygote does not, and the other way round."""

    hidden: tuple[str, ...]
    """Folders of the zygote's view to be covered: all models, one of which is this instance's."""
    kept: tuple[str, ...]
    """Folders below ``/tmp`` that stay visible in the private ``/tmp``: parts of the environment."""
    model: str | None
    """The model's folder as the zygote sees it; None gives an empty folder that can be written to."""
    temporary_bytes: int
    """Size of ``/tmp`` and of ``/dev/shm``."""
    hostname: str
    uid: int | None
    """User and group id to become; None: stay the (ordinary) user that started Moorage."""

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> "View":
        """Read the JSON form."""
        return cls(**{**message, "hidden": tuple(message["hidden"]), "kept": tuple(message["kept"])})


def separate() -> None:
    """Leave the zygote's mounts, IPC objects and host name; the next child is process 1 of its own process list."""
    _call("unshare", ctypes.c_int(_CLONE_NEWNS | _CLONE_NEWPID | _CLONE_NEWIPC | _CLONE_NEWUTS))


def build_view(view: View) -> None:
    """Make this process's file system: its own ``/proc``, ``/tmp`` and ``/dev/shm``, one model, nothing of others."""
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    if view.model is None:
        _private_folder(MODEL_FOLDER, view.temporary_bytes)
    else:
        _mount(view.model, MODEL_FOLDER, None, _MS_BIND | _MS_REC)
    for folder in view.hidden:
        _mount("none", folder, "tmpfs", _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, "size=4k,mode=0")
    _private_folder("/dev/shm", view.temporary_bytes)  # noqa: S108 - the private one
    _mount("devpts", "/dev/pts", "devpts", _MS_NOSUID | _MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620")
    _private_temporary_folder(view)
    _name_the_user(os.getuid() if view.uid is None else view.uid)
    _mount("proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    name = view.hostname.encode()
    _call("sethostname", name, ctypes.c_size_t(len(name)))


def hide_groups() -> None:
    """Make the control group that this process is in look like the root of all."""
    _call("unshare", ctypes.c_int(_CLONE_NEWCGROUP))


def give_up_privileges(uid: int | None) -> None:
    """Become the user (None: stay the one), without capabilities and without a way to get any back."""
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, must=False)
    drop_capabilities_but(0)
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    _drop_capabilities()
    refuse_new_privileges()
    # A change of user makes /proc/self root's. Nobody else has this user id, so giving it back opens nothing.
    _prctl(_PR_SET_DUMPABLE, 1)


def drop_capabilities_but(kept: int) -> None:
    """Bound what this process and its children can ever have to some capabilities, given as bits."""
    for capability in range(_MOST_CAPABILITIES):
        if not kept >> capability & 1:
            _prctl(_PR_CAPBSET_DROP, capability, must=False)


def refuse_new_privileges() -> None:
    """Let no program that is run give more privileges than there are (setuid bits, file capabilities)."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def die_with_parent() -> None:
    """Be killed when the process dies that is the parent now. A change of user would undo it: call it after."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent has died, so that the whole tree can be found from here."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def set_process_name(name: str) -> None:
    """Set the name that ``ps`` and ``top`` show (15 bytes)."""
    _call("prctl", ctypes.c_int(_PR_SET_NAME), ctypes.c_char_p(name.encode()))


def limit_resources(memory_bytes: int | None) -> None:
    """Write no core file; where no cgroup bounds the memory, bound each process's own."""
    _lower(resource.RLIMIT_CORE, 0)
    if memory_bytes is not None:
        _lower(resource.RLIMIT_DATA, memory_bytes)


def _lower(limit: int, value: int) -> None:
    hard = resource.getrlimit(limit)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(limit, (value, value))


def _private_folder(path: str, size_bytes: int) -> None:
    _mount("tmpfs", path, "tmpfs", _MS_NOSUID | _MS_NODEV, f"mode=1777,size={size_bytes}")


def _private_temporary_folder(view: View) -> None:
    kept = [(folder, os.open(folder, os.O_PATH | os.O_DIRECTORY)) for folder in view.kept]
    _private_folder("/tmp", view.temporary_bytes)  # noqa: S108 - the private one
    for folder, descriptor in kept:
        Path(folder).mkdir(parents=True, exist_ok=True)
        _mount(f"/proc/self/fd/{descriptor}", folder, None, _MS_BIND | _MS_REC)
        os.close(descriptor)


def _name_the_user(uid: int) -> None:
    """Give the user id a name, since libraries ask for it (``getpass.getuser``)."""
    for path, line in (
        ("/etc/passwd", f"model:x:{uid}:{uid}:model:/tmp:/bin/sh\n"),
        ("/etc/group", f"model:x:{uid}:\n"),
    ):
        unnamed = Path("/tmp/.names")  # noqa: S108 - the private one; gone before the model's code runs
        unnamed.write_text(line + Path(path).read_text(encoding="utf-8"), encoding="utf-8")
        unnamed.chmod(0o644)
        _mount(str(unnamed), path, None, _MS_BIND)
        unnamed.unlink()


def _drop_capabilities() -> None:
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    _call("capset", header, (ctypes.c_uint32 * 6)())


def _prctl(option: int, value: int, *, must: bool = True) -> None:
    zero = ctypes.c_ulong(0)
    result = _libc.prctl(ctypes.c_int(option), ctypes.c_ulong(value), zero, zero, zero)
    if result != 0 and must:
        raise _last_error(f"prctl {option}")


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    arguments = [None if text is None else text.encode() for text in (source, target, kind, options)]
    source_, target_, kind_, options_ = (ctypes.c_char_p(argument) for argument in arguments)
    if _libc.mount(source_, target_, kind_, ctypes.c_ulong(flags), options_) != 0:
        raise _last_error(f"mount {source} at {target}")


def _call(name: str, *arguments: Any) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        raise _last_error(name)


def _last_error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")
