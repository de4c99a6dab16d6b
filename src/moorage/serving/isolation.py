"""What turns a process that was forked from the zygote into a room of its own: namespaces, mounts, privileges.

The zygote already lives in bubblewrap's view of the machine: read-only system folders and the environment, no data
folder, no sockets of Moorage. It keeps the capabilities that are needed here (``CAPABILITIES``), on the machine when
root started it and otherwise only within its own user namespace. An instance gets namespaces of its own, covers
what the others' models are seen through, and then gives every capability away for ever. What is covered stays
covered: a mount that a process without capabilities inherits cannot be taken off, not in a new user namespace
either (mount_namespaces(7), "locked" mounts).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import resource
import signal
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CAPABILITIES = ("CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP")
"""What the zygote keeps: mounts and namespaces, the loopback of an isolated instance, the change of user, giving
capabilities away."""

GUEST_CAPABILITY = "CAP_SYS_CHROOT"
"""What the zygote of those needs as well that are to be in another's container: it goes with entering its mounts."""

GROUPS_FOLDER = "/sys/fs/cgroup"
"""Where programs look for the limits that they run under."""

MODEL_FOLDER = "/opt/ml/model"
"""Where the container contract puts the model (data-plane.md section 7.3)."""

ADDITIONAL_FOLDER = "/opt/ml/additional-model-data-sources"
"""Where it puts data beside the model's own, in a folder of each channel's name."""
MODELS_FOLDER = "/opt/ml/models"
"""Where it puts many models, in a folder each (data-plane.md section 8.1)."""

_CLONE_NEWNS = 0x00020000
_CLONE_NEWCGROUP = 0x02000000
_CLONE_NEWUTS = 0x04000000
_CLONE_NEWIPC = 0x08000000
_CLONE_NEWPID = 0x20000000
_CLONE_NEWNET = 0x40000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1, 2, 4, 8
_MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 32, 4096, 16384, 1 << 18
_MOVE_MOUNT, _MOVE_MOUNT_F_EMPTY_PATH, _AT_FDCWD = 429, 4, -100
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NAME = 1, 4, 15
_PR_CAPBSET_DROP, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 24, 36, 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_INTERFACE_REQUEST = "16sH22x"
"""``struct ifreq``: an interface's name and its flags."""
_CAPABILITY_VERSION_3 = 0x20080522
_MOST_CAPABILITIES = 64

OUT_OF_MEMORY_FIRST = 500
"""``oom_score_adj`` (proc(5)) of instances; other processes have 0."""

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class View:
    """What an instance sees that the zygote does not, and the other way round."""

    hidden: tuple[str, ...]
    """Folders of the zygote's view to be covered: all models and volumes, of which one may be this instance's."""
    kept: tuple[str, ...]
    """Folders below ``/tmp`` that stay visible in the private ``/tmp``: parts of the environment."""
    model: str | None
    """The model's folder as the zygote sees it; None gives an empty folder that can be written to."""
    temporary_bytes: int
    """Size of ``/tmp`` and of ``/dev/shm``."""
    hostname: str
    uid: int | None
    """User and group id to become; None: stay the (ordinary) user that started Moorage."""
    volume: str | None = None
    """The instance's disk as the zygote sees it; None: what it may write lies in memory."""
    isolated: bool = False
    """No network but a loopback of its own."""
    additional: str | None = None
    """A folder of additional data as the zygote sees it."""
    models: str | None = None
    """A folder of many models as the zygote sees it."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """Control groups to be seen in ``/sys/fs/cgroup``: name of the folder and controllers of version 1; ``""``: all
    of version 2."""

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> View:
        """Read the JSON form."""
        return cls(**{**message, "hidden": tuple(message["hidden"]), "kept": tuple(message["kept"])})


def separate() -> None:
    """Leave the zygote's mounts, IPC objects and host name. The next child is process 1 of its own process list."""
    _call("unshare", ctypes.c_int(_CLONE_NEWNS | _CLONE_NEWPID | _CLONE_NEWIPC | _CLONE_NEWUTS))


def enter(namespaces: Sequence[int]) -> None:
    """Leave the zygote's namespaces for those of a container, given by descriptors.

    The next child is in its process list.
    """
    for namespace in namespaces:
        _call("setns", ctypes.c_int(namespace), ctypes.c_int(0))


def furnish_room() -> None:
    """Make what is the same for all instances of the file system that this process has for itself, as of ``/proc``."""
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    _mount("devpts", "/dev/pts", "devpts", _MS_NOSUID | _MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620")
    _mount("proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)


def build_view(view: View, volume: int | None = None) -> None:
    """Make the rest of the room one instance's: its own ``/tmp`` and ``/dev/shm``, one model, nothing of others.

    ``volume`` is a mount of the instance's disk, to be put where ``view`` says that it is.
    """
    if volume is not None and view.volume is not None:
        _attach(volume, view.volume)
    _show_model(view)
    _private_folder("/dev/shm", view.temporary_bytes)  # noqa: S108 - the private one
    _private_temporary_folder(view)
    for folder in view.hidden:
        _mount("none", folder, "tmpfs", _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, "size=4k,mode=0")
    name_the_user(os.getuid() if view.uid is None else view.uid)
    name = view.hostname.encode()
    _call("sethostname", name, ctypes.c_size_t(len(name)))
    if view.isolated:
        leave_network()


def show_groups(groups: Mapping[str, str]) -> None:
    """Make the control group that this process is in look like the root of all, and its limits readable.

    Where a container around Moorage forbids these mounts the limits hold all the same: they are not seen then.
    """
    _call("unshare", ctypes.c_int(_CLONE_NEWCGROUP))
    with contextlib.suppress(OSError):
        _mount_groups(groups)


def _mount_groups(groups: Mapping[str, str]) -> None:
    flags = _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    if "" in groups:
        _mount("cgroup", GROUPS_FOLDER, "cgroup2", flags)
    elif groups:
        _mount("cgroup", GROUPS_FOLDER, "tmpfs", flags & ~_MS_RDONLY, "size=4k,mode=0755")
        for name, controllers in groups.items():
            Path(GROUPS_FOLDER, name).mkdir()
            _mount("cgroup", f"{GROUPS_FOLDER}/{name}", "cgroup", flags, controllers)
        _mount(None, GROUPS_FOLDER, None, flags | _MS_REMOUNT | _MS_BIND)


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


def limit_resources(memory_bytes: int | None, core_bytes: int) -> None:
    """Bound the core file (0: none is written); where no cgroup bounds the memory, bound each process's own."""
    _lower(resource.RLIMIT_CORE, core_bytes)
    if memory_bytes is not None:
        _lower(resource.RLIMIT_DATA, memory_bytes)


def go_first_when_memory_ends() -> None:
    """When the machine itself runs out of memory, be killed before Moorage and before what else is there."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OUT_OF_MEMORY_FIRST), encoding="ascii")


def _lower(limit: int, value: int) -> None:
    hard = resource.getrlimit(limit)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(limit, (value, value))


def _show_model(view: View) -> None:
    """Give the model and additional data their places, read-only; or the model an empty folder."""
    if view.additional is not None:
        _show_data(view.additional, ADDITIONAL_FOLDER, view.volume)
    if view.models is not None:
        _show_data(view.models, MODELS_FOLDER, view.volume)
    if view.model is not None:
        _show_data(view.model, MODEL_FOLDER, view.volume)
    elif view.volume is not None:
        _mount(f"{view.volume}/model", MODEL_FOLDER, None, _MS_BIND)
    else:
        _private_folder(MODEL_FOLDER, view.temporary_bytes)


def _show_data(folder: str, place: str, volume: str | None) -> None:
    _mount(folder, place, None, _MS_BIND | _MS_REC)
    if volume is not None and folder.startswith(f"{volume}/"):
        # Other than the folder of all models, a volume can be written to.
        _mount(None, place, None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID | _MS_NODEV)


def _private_folder(path: str, size_bytes: int) -> None:
    _mount("tmpfs", path, "tmpfs", _MS_NOSUID | _MS_NODEV, f"mode=1777,size={size_bytes}")


def _private_temporary_folder(view: View) -> None:
    kept = [(folder, os.open(folder, os.O_PATH | os.O_DIRECTORY)) for folder in view.kept]
    if view.volume is None:
        _private_folder("/tmp", view.temporary_bytes)  # noqa: S108 - the private one
    else:
        _mount(f"{view.volume}/tmp", "/tmp", None, _MS_BIND)  # noqa: S108
    for folder, descriptor in kept:
        Path(folder).mkdir(parents=True, exist_ok=True)
        _mount(f"/proc/self/fd/{descriptor}", folder, None, _MS_BIND | _MS_REC)
        os.close(descriptor)


def name_the_user(uid: int) -> None:
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


def leave_network() -> None:
    """Have no network but a loopback of one's own. What listens already goes on listening where it is."""
    _call("unshare", ctypes.c_int(_CLONE_NEWNET))
    raise_loopback()


def raise_loopback() -> None:
    """Let ``lo`` of this network namespace work."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        asked = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, struct.pack(_INTERFACE_REQUEST, b"lo", 0))
        name, flags = struct.unpack(_INTERFACE_REQUEST, asked)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack(_INTERFACE_REQUEST, name, flags | _IFF_UP))


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


def _attach(descriptor: int, target: str) -> None:
    nothing, place = ctypes.c_char_p(b""), ctypes.c_char_p(target.encode())
    if _libc.syscall(_MOVE_MOUNT, descriptor, nothing, _AT_FDCWD, place, _MOVE_MOUNT_F_EMPTY_PATH) != 0:
        raise _last_error(f"move_mount to {target}")


def _call(name: str, *arguments: Any) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        raise _last_error(name)


def _last_error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")
