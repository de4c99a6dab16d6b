"""The system calls that no model needs and that kernels have been broken by: refused, as container engines do.

A deny list, assembled by hand into the kernel's filter language (classic BPF, seccomp(2)), because this runs where
nothing but the standard library is. Files, sockets, threads, processes, memory and signals stay as they are; also
ptrace, which sees only the instance's own processes: debuggers and crash reporters need it. What libraries try and do
without is answered ENOSYS ("this kernel has it not"), the rest EPERM. Calls by another processor's convention (32-bit
ones, x32) have other numbers and would pass unseen: they end the process.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_NAMESPACES = 0x7E02_0000
"""CLONE_NEW* of clone(2): mounts, control groups, host name, IPC, users, processes, network."""

_PERSONALITIES = (0x0, 0x8, 0x2_0000, 0x2_0008, 0xFFFF_FFFF)
"""Linux, 32-bit Linux, either with the old version numbers; the last one only asks."""

_SOCKET_FAMILIES = (0, 1, 2, 10, 16)
"""Unspecified, Unix, IPv4, IPv6, and netlink, which names and lists of interfaces are looked up by."""

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_CALL_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
"""Offsets in ``struct seccomp_data``; of the argument the lower half, which comes first on both processors."""

_ALLOW, _KILL_PROCESS, _ERROR = 0x7FFF_0000, 0x8000_0000, 0x0005_0000
_X32_BIT = 0x4000_0000
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_GET_ACTION_AVAILABLE = 2

_REFUSED: dict[str, tuple[int | None, int | None]] = {
    # Mounts and namespaces.
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_tree_attr": (467, 467),
    "unshare": (272, 97),
    "setns": (308, 268),
    # Key rings, programs in the kernel, counters, faults handled by users.
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "fanotify_init": (300, 262),
    "open_by_handle_at": (304, 265),
    "kcmp": (312, 272),
    "lookup_dcookie": (212, 18),
    # The machine itself: kernel, modules, clock, swap, quotas, accounting, log, names.
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "create_module": (174, None),
    "get_kernel_syms": (177, None),
    "query_module": (178, None),
    "reboot": (169, 142),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "acct": (163, 89),
    "syslog": (103, 116),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "vhangup": (153, 58),
    "nfsservctl": (180, 42),
    # Old ones of one processor.
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "uselib": (134, None),
    "ustat": (136, None),
    "sysfs": (139, None),
    "_sysctl": (156, None),
}
"""Answered EPERM: the numbers on x86_64 and aarch64 (``asm/unistd_64.h``, ``asm-generic/unistd.h``)."""

_ABSENT = {
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    # Its flags are in memory, where a filter cannot look; the C library falls back to clone.
    "clone3": (435, 435),
}
"""Answered ENOSYS."""


@dataclass(frozen=True)
class Processor:
    """What a filter must know of a processor."""

    column: int
    audit: int
    """AUDIT_ARCH_* of ``linux/audit.h``."""
    clone: int
    personality: int
    socket: int
    x32: bool


PROCESSORS = {
    "x86_64": Processor(column=0, audit=0xC000_003E, clone=56, personality=135, socket=41, x32=True),
    "aarch64": Processor(column=1, audit=0xC000_00B7, clone=220, personality=92, socket=198, x32=False),
}


def refused_calls(machine: str) -> dict[str, int]:
    """Give the numbers of the calls that are refused whatever their arguments are."""
    column = PROCESSORS[machine].column
    numbers = {name: both[column] for name, both in {**_REFUSED, **_ABSENT}.items()}
    return {name: number for name, number in numbers.items() if number is not None}


def make_program(machine: str | None = None) -> bytes:
    """Make the filter, an array of ``struct sock_filter``, for a processor (this one's); raises KeyError for others."""
    return b"".join(struct.pack("=HBBI", *line) for line in _lines(PROCESSORS[machine or platform.machine()]))


def is_available() -> bool:
    """Look whether this kernel has filters, and this processor is one whose calls we know; changes nothing."""
    if platform.machine() not in PROCESSORS:
        return False
    action = ctypes.c_uint32(_KILL_PROCESS)
    number = {"x86_64": 317, "aarch64": 277}[platform.machine()]
    return bool(ctypes.CDLL(None).syscall(number, _GET_ACTION_AVAILABLE, 0, ctypes.byref(action)) == 0)


def install() -> None:
    """Refuse these calls from now on, here and in all that is started from here; raises OSError.

    Whoever calls has given up the way to new privileges (PR_SET_NO_NEW_PRIVS).
    """
    program = make_program()
    memory = ctypes.create_string_buffer(program, len(program))
    length = len(program) // 8
    description = ctypes.create_string_buffer(struct.pack("@HP", length, ctypes.addressof(memory)))
    libc = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    if libc.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_MODE_FILTER), description, zero, zero) != 0:
        raise OSError(ctypes.get_errno(), "the filter of system calls could not be installed")


Line = tuple[int, int, int, int]
"""Operation, where to jump if true and if false (lines to skip), operand."""


def _lines(processor: Processor) -> Iterator[Line]:
    yield (_LOAD, 0, 0, _ARCHITECTURE)
    yield (_JUMP_EQUAL, 1, 0, processor.audit)
    yield (_RETURN, 0, 0, _KILL_PROCESS)
    yield (_LOAD, 0, 0, _CALL_NUMBER)
    if processor.x32:
        yield (_JUMP_AT_LEAST, 0, 1, _X32_BIT)
        yield (_RETURN, 0, 0, _KILL_PROCESS)
    for calls, error in ((_REFUSED, errno.EPERM), (_ABSENT, errno.ENOSYS)):
        for both in calls.values():
            number = both[processor.column]
            if number is not None:
                yield (_JUMP_EQUAL, 0, 1, number)
                yield (_RETURN, 0, 0, _ERROR | error)
    yield from _unless_any_bit(processor.clone, _NAMESPACES, errno.EPERM)
    yield from _only(processor.personality, _PERSONALITIES, errno.EPERM)
    yield from _only(processor.socket, _SOCKET_FAMILIES, errno.EAFNOSUPPORT)
    yield (_RETURN, 0, 0, _ALLOW)


def _unless_any_bit(number: int, bits: int, error: int) -> Iterator[Line]:
    yield (_JUMP_EQUAL, 0, 4, number)
    yield (_LOAD, 0, 0, _FIRST_ARGUMENT)
    yield (_JUMP_ANY_BIT, 0, 1, bits)
    yield (_RETURN, 0, 0, _ERROR | error)
    yield (_RETURN, 0, 0, _ALLOW)


def _only(number: int, values: tuple[int, ...], error: int) -> Iterator[Line]:
    yield (_JUMP_EQUAL, 0, len(values) + 3, number)
    yield (_LOAD, 0, 0, _FIRST_ARGUMENT)
    for index, value in enumerate(values):
        yield (_JUMP_EQUAL, len(values) - index, 0, value)
    yield (_RETURN, 0, 0, _ERROR | error)
    yield (_RETURN, 0, 0, _ALLOW)
