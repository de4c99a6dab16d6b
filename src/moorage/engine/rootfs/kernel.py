"""System calls that Python 3.11 has no names for. Standard library only: part of a program that starts fast.

Numbers from 424 on are the same on all architectures. Every call raises OSError.
"""

import contextlib
import ctypes
import os
import struct

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_PRIVATE = 2, 4, 8, 16384, 1 << 18
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_IDMAP = 1, 2, 4, 0x00100000

_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_OPENAT2, _SYS_MOUNT_SETATTR = 428, 429, 437, 442
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC = 1, os.O_CLOEXEC
_MOVE_MOUNT_F_EMPTY_PATH = 4
_MNT_DETACH = 2
_RESOLVE_NO_MAGICLINKS, _RESOLVE_IN_ROOT = 0x02, 0x10

_PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 4, 24, 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_CAPABILITY_VERSION_3 = 0x20080522
_MOST_CAPABILITIES = 64

_TRIES = 1000


_libc = ctypes.CDLL(None, use_errno=True)


def unshare(kinds: int) -> None:
    """Leave namespaces for new ones."""
    _check(_libc.unshare(kinds), "unshare")


def enter(namespace: int, kind: int) -> None:
    """Enter the namespace of a descriptor."""
    _check(_libc.setns(namespace, kind), "setns")


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    """Mount a file system, or change how one is passed on."""
    words = [None if word is None else ctypes.c_char_p(word.encode()) for word in (source, target, kind, options)]
    result = _libc.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3])
    _check(result, f"mount {kind or source} at {target}")


def clone_mount(path: str, attributes: int, user_namespace: int | None = None) -> int:
    """Give a descriptor of a mount of its own of a folder or a file, which ``attach`` puts somewhere.

    ``user_namespace``: whose ids its files are to have, in place of the same numbers on this machine.
    """
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC
    descriptor = _syscall(f"open_tree {path}", _SYS_OPEN_TREE, _AT_FDCWD, ctypes.c_char_p(os.fsencode(path)), flags)
    if user_namespace is not None:
        attributes |= MOUNT_ATTR_IDMAP
    change = struct.pack("=QQQQ", attributes, 0, 0, user_namespace or 0)
    what = f"mount_setattr {path}"
    _syscall(what, _SYS_MOUNT_SETATTR, descriptor, ctypes.c_char_p(b""), _AT_EMPTY_PATH, change, len(change))
    return descriptor


def attach(descriptor: int, target: str) -> None:
    """Put a mount at a folder or a file."""
    nothing, place = ctypes.c_char_p(b""), ctypes.c_char_p(os.fsencode(target))
    flags = _MOVE_MOUNT_F_EMPTY_PATH
    _syscall(f"move_mount to {target}", _SYS_MOVE_MOUNT, descriptor, nothing, _AT_FDCWD, place, flags)
    os.close(descriptor)


def change_root(folder: str) -> None:
    """Make a mount the root of this process's file system, and let go of the old one."""
    os.chdir(folder)
    machine = os.uname().machine
    if machine not in _SYS_PIVOT_ROOT:
        raise OSError(f"the number of pivot_root on {machine} is not known")
    here = ctypes.c_char_p(b".")
    _syscall("pivot_root", _SYS_PIVOT_ROOT[machine], here, here)  # the old root now lies over the new one
    _check(_libc.umount2(here, _MNT_DETACH), "umount2")
    os.chdir("/")


def open_in_root(root: int, path: str, flags: int, mode: int = 0) -> int:
    """Open a path as if the folder were the root: no link leads out of it."""
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, mode, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
    name = ctypes.c_char_p(os.fsencode(path))
    for _try in range(_TRIES):
        with contextlib.suppress(BlockingIOError):  # somebody renamed something just now, and the path has a ``..``
            return _syscall(f"openat2 {path!r}", _SYS_OPENAT2, root, name, how, len(how))
    raise BlockingIOError(f"{path!r} could not be opened")


def forbid_new_privileges() -> None:
    """Let no program that is started from here gain anything by setuid bits or file capabilities."""
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")


def allow_inspection() -> None:
    """Let whoever started this process look at its namespaces, which a change of privileges forbids."""
    _check(_libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0), "prctl")


def bound_capabilities(kept: frozenset[int]) -> None:
    """Take all other capabilities out of what any program that is started from here can get."""
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    for capability in range(_MOST_CAPABILITIES):
        if capability not in kept:
            _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)


def keep_capabilities(kept: frozenset[int]) -> None:
    """Give up all capabilities but these."""
    bits = sum(1 << capability for capability in kept)
    low, high = bits & 0xFFFFFFFF, bits >> 32
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    # effective, permitted, inheritable; the lower halves of all first
    sets = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)
    _check(_libc.capset(header, sets), "capset")


def _syscall(what: str, number: int, *arguments: object) -> int:
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    result: int = _libc.syscall(ctypes.c_long(number), *words)
    _check(result, what)
    return result


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
