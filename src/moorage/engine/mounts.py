"""Mounts of this machine by the system calls: what the commands mount, umount and losetup do, without a process each.

Root's work: whoever else calls gets OSError.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import struct
import threading
from pathlib import Path

MS_NOSUID, MS_NODEV, MS_NOATIME = 2, 4, 1024
_OPEN_TREE, _OPEN_TREE_CLONE, _AT_FDCWD = 428, 1, -100
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8

_LOOP_CTL_GET_FREE, _LOOP_CONFIGURE = 0x4C82, 0x4C0A
_LO_FLAGS_AUTOCLEAR = 4
_LOOP_CONFIG = struct.Struct("=II" + "QQQQQIIII" + "64s64s32s" + "QQ" + "64x")
"""``struct loop_config`` of linux/loop.h: file, block size, ``struct loop_info64``, reserved."""

_ATTEMPTS = 64
"""Others may take the free loop device first."""

_LOOK_SECONDS = 0.02
_MOST_LOOKS = 500
_PAUSE = threading.Event()
"""Never set."""

_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: Path, target: Path, kind: str, flags: int, options: str = "") -> None:
    """Mount something at a folder; raises OSError."""
    texts = (os.fsencode(source), os.fsencode(target), kind.encode())
    if _libc.mount(*(ctypes.c_char_p(text) for text in texts), ctypes.c_ulong(flags), options.encode()) != 0:
        raise _last_error(target)


def mount_image(image: Path, target: Path, kind: str, flags: int, options: str) -> None:
    """Mount the file system in a file. Its loop device goes when it is unmounted, by whomever. Raises OSError."""
    _wait_until_free(image)
    device, path = _attach(image)
    try:
        mount(path, target, kind, flags, options)
    finally:
        os.close(device)


def clone(folder: Path) -> int:
    """Give a descriptor of a mount of a folder that is nowhere yet: whoever is handed it puts it into their own view.

    It ends with the last who has it. Raises OSError.
    """
    path = ctypes.c_char_p(os.fsencode(folder))
    descriptor: int = _libc.syscall(_OPEN_TREE, _AT_FDCWD, path, _OPEN_TREE_CLONE | os.O_CLOEXEC)
    if descriptor < 0:
        raise _last_error(folder)
    return descriptor


def unmount(target: Path) -> None:
    """Unmount at once for everybody who comes, and for who still uses it when they have done; raises OSError."""
    if _libc.umount2(ctypes.c_char_p(os.fsencode(target)), _MNT_DETACH | _UMOUNT_NOFOLLOW) != 0:
        raise _last_error(target)


def unmount_below(folder: Path) -> None:
    """Unmount whatever is mounted at a folder or below it; an ordinary user has nothing there."""
    for target in reversed(mounted_below(folder)):  # the inner and the later ones first
        with contextlib.suppress(OSError):
            unmount(target)


def mounted_below(folder: Path) -> list[Path]:
    """Give the mounts at a folder and below it, in the order of their making."""
    lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    targets = [Path(os.fsdecode(_unescaped(line.split(b" ", 5)[4]))) for line in lines]
    whole = folder.resolve()  # the kernel names no links
    return [target for target in targets if target.is_relative_to(whole)]


def _unescaped(text: bytes) -> bytes:
    for code in (b"\\040", b"\\011", b"\\012", b"\\134"):
        text = text.replace(code, bytes([int(code[1:], 8)]))
    return text


def _wait_until_free(image: Path) -> None:
    """Wait until no loop device has a file any more; raises OSError when that takes too long.

    A file system that was unmounted lives on in the namespaces of instances that are still dying. To mount its file
    once more meanwhile would show what of it had reached the disk, and write over the rest.
    """
    for _ in range(_MOST_LOOKS):
        if not _is_attached(image):
            return
        _PAUSE.wait(_LOOK_SECONDS)
    raise OSError(errno.EBUSY, f"{image} is still in use")


def _is_attached(image: Path) -> bool:
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            if image.samefile(backing.read_text(encoding="utf-8").rstrip("\n")):
                return True
    return False


def _attach(image: Path) -> tuple[int, Path]:
    """Make a loop device of a file; gives its descriptor and its path."""
    file = os.open(image, os.O_RDWR | os.O_CLOEXEC)
    control = -1
    try:
        control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
        for _ in range(_ATTEMPTS):
            path = Path(f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}")
            device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                name = os.fsencode(image)[-63:]
                info = (0, 0, 0, 0, 0, 0, 0, 0, _LO_FLAGS_AUTOCLEAR, name, b"", b"", 0, 0)
                fcntl.ioctl(device, _LOOP_CONFIGURE, _LOOP_CONFIG.pack(file, 0, *info))
            except OSError as fault:
                os.close(device)
                if fault.errno != errno.EBUSY:
                    raise
            else:
                return device, path
        raise OSError(errno.EBUSY, "no loop device is free")
    finally:
        os.close(file)
        if control >= 0:
            os.close(control)


def _last_error(target: Path) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), str(target))
