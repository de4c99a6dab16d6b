"""Starts pasta for one container, as the container's user: a program of its own (standard library only).

Started by root it first makes a ``/dev/net/tun`` that this user may open, in a mount namespace of its own, since on
some machines only root may. The kernel kills pasta when whoever started it dies.
"""

import os
import signal
from collections.abc import Sequence
from pathlib import Path

from moorage.engine.rootfs import kernel
from moorage.serving import isolation

_TUN = os.makedev(10, 200)


def run(arguments: Sequence[str]) -> None:
    """Become pasta: the descriptor that it says its readiness to, the user or ``-``, and pasta's command follow."""
    ready, owner, *command = arguments
    if owner != "-":
        _make_tun()
        os.fchown(int(ready), int(owner), int(owner))
        os.setgroups([])
        os.setresgid(int(owner), int(owner), int(owner))
        os.setresuid(int(owner), int(owner), int(owner))
    isolation.die_with_parent()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # older versions take an ignored one for a failure
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


def _make_tun() -> None:
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    folder = Path("/dev/net")
    if not folder.is_dir():
        return  # pasta will say what is missing
    kernel.mount("tmpfs", str(folder), "tmpfs", kernel.MS_NOSUID | kernel.MS_NOEXEC, "mode=755,size=4k")
    os.mknod(folder / "tun", 0o020666, _TUN)
    (folder / "tun").chmod(0o666)
