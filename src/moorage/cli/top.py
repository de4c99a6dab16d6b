"""``moorage top``: what the variants do at present."""

import contextlib
import json
import os
import select
import shutil
import sys
import termios
import tty
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from moorage.base.clock import SystemClock
from moorage.cli.client import ApiError, Client
from moorage.cli.present import ended_by_ctrl_c, table
from moorage.cli.server import data_dir_option, need_server, output_option

REFRESH_SECONDS = 1.0

_HEADS = (
    *("ENDPOINT", "VARIANT", "REQ/S", "MODEL p50", "p99", "TOTAL p50", "p99"),
    *("4XX/S", "5XX/S", "ERR/S", "BUSY", "READY"),
)
_LEFT = 2
"""Columns of names; the others are numbers."""


@click.command()
@click.option("--once", is_flag=True, help="Show it once and end.")
@data_dir_option
@output_option
def top(*, once: bool, data_dir: Path | None, output: str) -> None:
    """Show what the endpoints' variants do at present, every second; q or Ctrl-C ends it.

    Rates and latencies (in milliseconds; MODEL is the container's time, TOTAL with what Moorage adds) are of the last
    five seconds. ERR/S: the model's answers that are not 2xx, and none. BUSY: in flight or waiting. READY: instances.
    As JSON it is one list, or without --once one a line.
    """
    client = Client(need_server(data_dir))
    if once:
        page = client.own("GET", "/_moorage/top")
        click.echo(json.dumps(page["variants"], indent=2) if output == "json" else "\n".join(lines_of(page)))
    elif output == "text" and sys.stdin.isatty() and sys.stdout.isatty():
        _watch(client)
    else:
        _follow(client, output)


def _follow(client: Client, output: str) -> None:
    """Print what is there, again and again, for whoever reads lines."""
    clock = SystemClock()
    with ended_by_ctrl_c():
        while True:
            page = client.own("GET", "/_moorage/top")
            if output == "json":
                click.echo(json.dumps(page["variants"]))
            else:
                time = f"{datetime.fromtimestamp(clock.now()).astimezone():%H:%M:%S}"
                click.echo("\n".join(f"{time}  {line}" for line in lines_of(page)))
            sys.stdout.flush()
            clock.pause(REFRESH_SECONDS)


def _watch(client: Client) -> None:
    """Draw over what is there, every second, until q is pressed."""
    page: Mapping[str, Any] = {"seconds": 0.0, "variants": []}
    with contextlib.suppress(KeyboardInterrupt), _own_screen():
        while True:
            trouble = ""
            try:
                page = client.own("GET", "/_moorage/top")
            except ApiError as fault:
                if fault.status < 500:
                    raise
                trouble = fault.format_message()
            except click.ClickException as fault:  # it is being restarted
                trouble = fault.format_message()
            sys.stdout.write(frame(page, trouble, *shutil.get_terminal_size()))
            sys.stdout.flush()
            if _is_pressed("q", within_seconds=REFRESH_SECONDS):
                return


@contextlib.contextmanager
def _own_screen() -> Iterator[None]:
    """Have the terminal to ourselves, each key at once, and give it back as it was."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    sys.stdout.write("\x1b[?1049h\x1b[?25l")
    try:
        yield
    finally:
        sys.stdout.write("\x1b[?25h\x1b[?1049l")
        sys.stdout.flush()
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _is_pressed(key: str, *, within_seconds: float) -> bool:
    clock = SystemClock()
    until = clock.monotonic() + within_seconds
    while (left := until - clock.monotonic()) > 0:
        ready, _, _ = select.select([sys.stdin], [], [], left)
        if ready:
            pressed = os.read(sys.stdin.fileno(), 64).decode("ascii", "replace")
            if key in pressed or not pressed:  # the terminal is gone
                return True
    return False


def frame(page: Mapping[str, Any], trouble: str, columns: int, rows: int) -> str:
    """Make one picture of a terminal of this size; the busiest variants are shown when there is no room for all."""
    head = _summary(page) + "    q: end"
    room = max(1, rows - 4)
    variants = page["variants"]
    left_out = max(0, len(variants) - room)
    if left_out:
        busiest = sorted(variants, key=lambda row: (-row["requests_per_second"], -row["in_flight"]))[:room]
        variants = [row for row in variants if row in busiest]
    lines = [head, "", *lines_of({**page, "variants": variants})]
    if left_out:
        lines.append(f"... and {left_out} more with less to do")
    if trouble:
        lines[1] = trouble
    cut = [line[:columns] for line in lines[:rows]]
    return "\x1b[H" + "\r\n".join(f"{line}\x1b[K" for line in cut) + "\x1b[J"


def _summary(page: Mapping[str, Any]) -> str:
    variants = page["variants"]
    requests = sum(row["requests_per_second"] for row in variants)
    endpoints = len({(row["region"], row["endpoint"]) for row in variants})
    busy = sum(row["in_flight"] for row in variants)
    return f"moorage top    {endpoints} endpoints    {_number(requests)} requests/s    {busy} in flight"


def lines_of(page: Mapping[str, Any]) -> list[str]:
    """Make the table."""
    variants = page["variants"]
    if not variants:
        return ["No endpoint takes invocations."]
    regions = {row["region"] for row in variants}
    heads, *cells = _to_the_right([_HEADS, *(_cells(row, with_region=len(regions) > 1) for row in variants)])
    return table(heads, cells).splitlines()


def _cells(row: Mapping[str, Any], *, with_region: bool) -> list[str]:
    endpoint = f"{row['endpoint']} ({row['region']})" if with_region else row["endpoint"]
    latencies = ("model_p50_ms", "model_p99_ms", "total_p50_ms", "total_p99_ms")
    errors = ("errors_4xx_per_second", "errors_5xx_per_second", "model_errors_per_second")
    return [
        endpoint,
        row["variant"],
        _number(row["requests_per_second"]),
        *(_number(row[name]) for name in latencies),
        *(_number(row[name]) for name in errors),
        str(row["in_flight"]),
        str(row["instances_ready"]),
    ]


def _number(value: float | None) -> str:
    """Write a number with about three digits that count; ``-`` for none."""
    if value is None:
        return "-"
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _to_the_right(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [[cell if column < _LEFT else cell.rjust(widths[column]) for column, cell in enumerate(row)] for row in rows]
