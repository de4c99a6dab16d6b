"""The last lines of a plain file, and how much of a container's log a failure report shows."""

import os
from pathlib import Path

TAIL_LINES = 40
TAIL_BYTES = 6000


def read_tail(path: Path) -> str:
    """Give the last lines of a plain file; empty when there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-TAIL_LINES:])
