"""Warnings on the user's terminal, which must never hold anybody up."""

import logging
import os
import select

_WHOLE_BYTES = 4000
"""Less than PIPE_BUF (pipe(7)): a pipe that is writable takes that much without blocking, and in one piece."""


class TerminalHandler(logging.Handler):
    """Shows warnings of one process in one line each; drops them while nobody reads (the log file has all).

    What is long for a terminal gives a shorter text for it: ``log.warning(..., extra={"in_brief": text})``.
    """

    def __init__(self, descriptor: int, role: str) -> None:
        super().__init__(logging.WARNING)
        self._descriptor = descriptor
        self._role = role

    def emit(self, record: logging.LogRecord) -> None:
        """Show one line if the terminal takes it now."""
        message = getattr(record, "in_brief", None) or record.getMessage()
        line = f"{self._role}: {message}{_cause(record)}".replace("\n", " ")
        self._write(line.encode()[: _WHOLE_BYTES - 1] + b"\n")

    def _write(self, line: bytes) -> None:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        try:
            if any(event & select.POLLOUT for _, event in poll.poll(0)):
                os.write(self._descriptor, line)
        except OSError:  # the terminal has been closed
            pass


def _cause(record: logging.LogRecord) -> str:
    """Give the exception of a record in words; its traceback is for the log file."""
    fault = record.exc_info[1] if record.exc_info else None
    return f": {type(fault).__name__}: {fault}" if fault else ""
