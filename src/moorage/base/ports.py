"""Who listens on a port of this machine."""

import contextlib
from pathlib import Path


def who_listens(port: int) -> tuple[int, str] | None:
    """Give pid and name of the process that listens on a TCP port, if this user may see it."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    for process in Path("/proc").iterdir() if sockets else ():
        if not process.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                if str(descriptor.readlink()) in sockets:
                    return int(process.name), (process / "comm").read_text(encoding="utf-8").strip()
    return None


def _listening_inodes(port: int) -> list[str]:
    """Read the kernel's table of sockets (proc(5), /proc/net/tcp; state 0A is LISTEN)."""
    inodes = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(FileNotFoundError):
            for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.append(fields[9])
    return inodes
