"""The access log: one JSON object a line for each invocation, written by a thread of its own.

The hot path appends a tuple to a bounded queue, and nothing else. The thread makes the lines and writes them a few
times a second. What the disk does not take is dropped and counted; no client waits for it. Several gateways may
write the same file: each line is in one ``write`` at the end of the file, and whoever finds the file too large moves
it aside under a lock. A file that somebody else has moved (logrotate) is made anew.
"""

import contextlib
import fcntl
import logging
import os
import threading
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import orjson

log = logging.getLogger(__name__)

FIELDS = (
    "time",
    "request_id",
    "account",
    "endpoint",
    "variant",
    "instance",
    "operation",
    "status",
    "model_status",
    "bytes_in",
    "bytes_out",
    "total_ms",
    "model_ms",
    "client",
    "user",
    "error",
)
"""Names of what is in a line, in order."""

Line: TypeAlias = tuple[
    float,  # time: of the answer, in seconds since the epoch
    str,  # request_id
    str | None,  # account
    str | None,  # endpoint
    str | None,  # variant
    str | None,  # instance
    str | None,  # operation
    int,  # status: that the client got; 0 when it had left
    int | None,  # model_status: None when no model was asked, 0 when it gave no answer
    int,  # bytes_in: of the body
    int,  # bytes_out: of the body
    float,  # total_seconds
    float | None,  # model_seconds
    str,  # client: its address
    str | None,  # user: its ARN
    str | None,  # error: its code
]
"""What is known of one invocation, in the order of FIELDS; durations in seconds. None: it had not come so far."""

MOST_WAITING = 20_000
"""Lines in the queue: two seconds of the most that one gateway can do."""

WRITE_SECONDS = 0.25
"""Between two writes."""

_BATCH = 2_000


class AccessLog:
    """Takes lines, and has them written."""

    def __init__(self, path: Path, *, most_bytes: int, most_files: int) -> None:
        """Begin to write to a file that has at most ``most_bytes``, and keep ``most_files`` that are full."""
        self.dropped = 0
        """Lines that were not written, because of a full queue or a disk that refused them."""
        self._waiting: deque[Line] = deque()
        self._file = _File(path, most_bytes, most_files)
        self._failing = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write_all, name="access-log", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<AccessLog: {len(self._waiting)} lines wait, {self.dropped} dropped>"

    def offer(self, line: Line) -> None:
        """Take one line; never waits."""
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(line)
        else:
            self.dropped += 1

    def close(self, seconds: float = 5.0) -> None:
        """Write what waits and end, but do not wait longer for the disk than this."""
        self._stop.set()
        self._thread.join(seconds)

    def _write_all(self) -> None:
        try:
            while not self._stop.wait(WRITE_SECONDS):
                self._write_waiting()
            self._write_waiting()
        finally:
            self._file.close()

    def _write_waiting(self) -> None:
        while self._waiting:
            lines = [self._waiting.popleft() for _ in range(min(len(self._waiting), _BATCH))]
            try:
                self._file.write([encode(line) for line in lines])
                self._failing = False
            except OSError as fault:
                self.dropped += len(lines)
                if not self._failing:  # said once, not for each batch
                    log.warning("the access log cannot be written: %s", fault)
                self._failing = True


def encode(line: Line) -> bytes:
    """Make the text of a line."""
    content = dict(zip(FIELDS, line, strict=True))
    moment = datetime.fromtimestamp(line[0], UTC)
    content["time"] = f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"
    for name in ("total_ms", "model_ms"):
        seconds = content[name]
        if isinstance(seconds, int | float):
            content[name] = round(seconds * 1000, 3)
    return orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE)


class _File:
    """A file that is moved aside when it is full."""

    def __init__(self, path: Path, most_bytes: int, most_files: int) -> None:
        self._path = path
        self._most_bytes = most_bytes
        self._most_files = most_files
        self._descriptor = -1
        self._torn = False
        """Whether the last line is not complete."""

    def write(self, lines: list[bytes]) -> None:
        """Write lines, none of them in two files."""
        size, batch = self._open(), bytearray()
        for line in lines:
            if (size or batch) and size + len(batch) + len(line) > self._most_bytes:
                self._append(batch)
                batch.clear()
                self._rotate()
                size = self._open()
            batch += line
        self._append(batch)

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _append(self, batch: bytearray) -> None:
        if self._torn and batch:
            batch[:0] = b"\n"
        rest = memoryview(bytes(batch))
        while rest:
            written = os.write(self._descriptor, rest)
            rest = rest[written:]
            self._torn = bool(rest)  # should the disk take no more

    def _open(self) -> int:
        """Open the file, anew where it has been moved away; give its size."""
        if self._descriptor >= 0 and not self._is_current():
            self.close()
        if self._descriptor < 0:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o600)
        return os.fstat(self._descriptor).st_size

    def _is_current(self) -> bool:
        try:
            return os.path.samestat(self._path.stat(), os.fstat(self._descriptor))
        except FileNotFoundError:
            return False

    def _rotate(self) -> None:
        """Move the files on by one; another gateway that wants the same finds it done."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        if self._is_current():
            for number in range(self._most_files, 1, -1):
                with contextlib.suppress(FileNotFoundError):
                    self._numbered(number - 1).replace(self._numbered(number))
            if self._most_files:
                self._path.replace(self._numbered(1))
            else:
                self._path.unlink()
        self.close()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")
