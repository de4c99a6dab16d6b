"""An instance's log: a file that the container's stdout and stderr go to."""

import contextlib
import os
from pathlib import Path

TAIL_LINES = 40
TAIL_BYTES = 6000
"""What a failure report shows of a log."""


def log_path(logs: Path, endpoint: str, variant: str, instance_id: str) -> Path:
    """Say where an instance's log is, below ``data_dir/logs``."""
    return logs / "endpoints" / endpoint / variant / f"{instance_id}.log"


def open_log(path: Path) -> int:
    """Open a log to be appended to, and give the descriptor."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def say(path: Path, line: str) -> None:
    """Add a line of Moorage's own to a log; a disk that has no room for it is not the instance's fault. Blocks."""
    with contextlib.suppress(OSError):
        descriptor = open_log(path)
        try:
            os.write(descriptor, f"{line}\n".encode(errors="replace"))
        finally:
            os.close(descriptor)


def read_tail(path: Path) -> str:
    """Give a log's last lines; empty when there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-TAIL_LINES:])
