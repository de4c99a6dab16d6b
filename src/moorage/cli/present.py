"""How the command line shows things: tables, JSON, sizes, live lines. Pure but for ``Live``."""

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from moorage.telemetry.advice import advice

_UNITS = ("B", "kB", "MB", "GB", "TB")


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Make a plain table: columns two blanks apart, no lines."""
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [heads, *rows]
    )


def show(rows: Sequence[Mapping[str, Any]], output: str, heads: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    """Print a list, as JSON or as a table."""
    click.echo(json.dumps(list(rows), indent=2) if output == "json" else table(heads, cells))


def size(number: int) -> str:
    """Give bytes in words: ``41.3 MB``."""
    value, unit = float(number), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.0f} {_UNITS[unit]}" if unit == 0 or value >= 100 else f"{value:.1f} {_UNITS[unit]}"


def duration(seconds: float) -> str:
    """Give seconds in words: ``3d 4h``, ``2m 5s``."""
    left = max(0, int(seconds))
    parts: list[str] = []
    for name, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if left >= length or (name == "s" and not parts):
            parts.append(f"{left // length}{name}")
            left %= length
    return " ".join(parts[:2])


def failure_lines(reason: str, endpoint: str, *, failed: bool) -> list[str]:
    """Show a FailureReason and what to do about it, indented below the line of its endpoint.

    ``failed``: the endpoint has failed; otherwise only a change of it has.
    """
    return [f"    {line}" for line in reason.splitlines()] + advice_lines(reason, endpoint, failed=failed)


def advice_lines(reason: str, endpoint: str, *, failed: bool) -> list[str]:
    """Show what to do about a FailureReason."""
    return [f"  > {line}" for line in advice(reason, endpoint, can_only_be_deleted=failed)]


@contextlib.contextmanager
def ended_by_ctrl_c() -> Iterator[None]:
    """Take Ctrl-C for the normal end of what is inside; on a terminal the prompt gets a line of its own."""
    try:
        yield
    except KeyboardInterrupt:
        if sys.stderr.isatty():
            click.echo(err=True)


class Live:
    """Lines that are drawn over on a terminal; elsewhere each new line is printed once."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._shown: list[str] = []

    def show(self, lines: Sequence[str]) -> None:
        """Show the lines as they are now."""
        if not self._terminal:
            for line in lines:
                if line not in self._shown:
                    click.echo(line, err=True)
                    self._shown.append(line)
            return
        up = f"\x1b[{len(self._shown)}A" if self._shown else ""
        click.echo(up + "".join(f"\r\x1b[2K{line}\n" for line in lines) + "\x1b[J", nl=False, err=True)
        self._shown = list(lines)
