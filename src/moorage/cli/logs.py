"""``moorage logs``: what instances print."""

import heapq
import re
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import NoReturn

import click

from moorage.base.clock import SystemClock
from moorage.base.data_dir import read_json
from moorage.cli.present import ended_by_ctrl_c
from moorage.cli.server import chosen_data_dir, data_dir_option, find_server
from moorage.logs import lines, names
from moorage.logs.reader import Event, StreamReader

_LOOK_AGAIN_SECONDS = 0.2
_LINES_AT_ONCE = 1_000
_MOST_PARTS = 4
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_COLOURS = ("cyan", "yellow", "green", "magenta", "blue", "bright_cyan", "bright_yellow", "bright_green")

Item = tuple[int, str, int, Event]
"""Time, name of the stream, position in it: the order of the output."""


@click.command()
@click.argument("what", metavar="ENDPOINT[/VARIANT[/INSTANCE[/CONTAINER]]]")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, of new instances too; Ctrl-C ends it.")
@click.option("--since", metavar="10m|TIME", help="From so long ago (30s, 10m, 2h, 1d), or from a time (ISO 8601).")
@click.option("-n", "--tail", metavar="N", type=click.IntRange(min=0), help="The last N lines only.")
@click.option("-t", "--timestamps", is_flag=True, help="Show when each line came (UTC).")
@click.option("--account", help="Of this account, where several have an endpoint of this name.")
@click.option("--region", help="Of this region.")
@data_dir_option
def logs(  # noqa: PLR0913 - what can be asked for
    what: str,
    *,
    follow: bool,
    since: str | None,
    tail: int | None,
    timestamps: bool,
    account: str | None,
    region: str | None,
    data_dir: Path | None,
) -> None:
    """Print the logs of an endpoint's instances, by time; of those that have ended too."""
    parts = _parts(what)
    server = find_server(data_dir)
    folder = server.data_dir if server else chosen_data_dir(data_dir)
    own = (
        (server.account, server.region)
        if server
        else ((read_json(folder / "credentials.json") or {}).get("account"), None)
    )
    group = _choose_group(folder / "logs", parts[0], (account, region), own)
    reader = LogReader(group, parts[1:], _moment(since))
    if not reader.streams() and not follow:
        raise click.ClickException(f"There are no logs of {what} in {group}.")
    printer = Printer(reader, timestamps=timestamps)
    begin = reader.new_events() if tail is None else reader.last_events(tail)
    if follow:
        with ended_by_ctrl_c():
            printer.show(begin)
            _follow(reader, printer)
        return
    printer.show(begin)
    if tail is None:
        printer.show(reader.unfinished_lines())


def _follow(reader: "LogReader", printer: "Printer") -> NoReturn:
    clock = SystemClock()
    while True:
        printer.show(reader.new_events())
        clock.pause(_LOOK_AGAIN_SECONDS)


def _parts(what: str) -> list[str]:
    parts = what.split("/")
    if len(parts) > _MOST_PARTS or not all(part and part not in {".", ".."} for part in parts):
        raise click.UsageError(f"{what!r} is not of the form ENDPOINT[/VARIANT[/INSTANCE[/CONTAINER]]]")
    return parts


def _moment(since: str | None) -> int | None:
    """Read ``--since``; gives milliseconds since the epoch."""
    if since is None:
        return None
    if found := re.fullmatch(r"(\d+)([smhd])", since):
        return int(SystemClock().now() * 1000) - int(found[1]) * _UNITS[found[2]] * 1000
    try:
        moment = datetime.fromisoformat(since)
    except ValueError:
        message = f"--since {since!r} is neither a duration (30s, 10m, 2h, 1d) nor a time (2026-01-31T12:00:00Z)."
        raise click.UsageError(message) from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _choose_group(
    logs: Path, endpoint: str, wanted: tuple[str | None, str | None], own: tuple[str | None, str | None]
) -> Path:
    """Find the folder of an endpoint's logs: of the account and region that are named, or else of the server's own."""
    known = list(names.all_groups(logs))
    found = [group for group in known if group.name == endpoint and _is_of(names.owner_of(logs, group), wanted)]
    if not found:
        others = ", ".join(sorted({group.name for group in known})) or "none yet"
        raise click.ClickException(f"There are no logs of {endpoint} in {logs}. Endpoints with logs: {others}")
    if len(found) > 1:
        found = [group for group in found if _is_of(names.owner_of(logs, group), own)] or found
    if len(found) > 1:
        places = ", ".join(" in ".join(names.owner_of(logs, group)) for group in found)
        raise click.ClickException(f"Several endpoints are named {endpoint}: {places}. Add --account or --region.")
    return found[0]


def _is_of(owner: tuple[str, str], wanted: tuple[str | None, str | None]) -> bool:
    return all(one is None or one == other for one, other in zip(wanted, owner, strict=True))


class LogReader:
    """Reads the streams of some instances, each on from where it was."""

    def __init__(self, group: Path, parts: list[str], since: int | None) -> None:
        """``parts``: of which variant, and which instance of it; ``since`` in milliseconds."""
        self._group = group
        self._parts = parts
        self._since = since
        self._read: dict[str, int] = {}

    def streams(self) -> dict[str, Path]:
        """Give the streams that there are now."""
        return {
            name: folder
            for name, folder in names.streams(self._group).items()
            if name.split("/")[: len(self._parts)] == self._parts
        }

    @property
    def reads_several(self) -> bool:
        """Say whether lines of more than one instance have been given."""
        return len(self._read) > 1

    def new_events(self) -> Iterator[Item]:
        """Give the whole lines that have come since the last time, by time."""
        return heapq.merge(*[self._new_events(name, folder) for name, folder in self.streams().items()])

    def last_events(self, count: int) -> Iterator[Item]:
        """Give the last lines of what there is, by time; what comes later is new."""
        found: list[Item] = []
        for name, folder in self.streams().items():
            reader, begin, end = self._take_all(name, folder)
            found += _items(name, islice(reader.backward(end, begin), count))
        return iter(sorted(found)[-count:] if count else ())

    def _new_events(self, name: str, folder: Path) -> Iterator[Item]:
        reader, begin, end = self._take_all(name, folder)
        return _items(name, reader.forward(begin, end))

    def _take_all(self, name: str, folder: Path) -> tuple[StreamReader, int, int]:
        """Give a stream, and from where to where it has not been read."""
        reader = StreamReader(folder)
        begin = self._read.get(name)
        if begin is None:
            begin = reader.start if self._since is None else reader.at_time(self._since)
        self._read[name] = max(begin, reader.end)
        return reader, begin, self._read[name]

    def unfinished_lines(self) -> Iterator[Item]:
        """Give what stands after the last line end of each stream."""
        for name, folder in self.streams().items():
            event = StreamReader(folder).unfinished()
            if event is not None and event.time >= (self._since or 0):
                yield event.time, name, event.position, event


def _items(name: str, events: Iterable[Event]) -> Iterator[Item]:
    return ((event.time, name, event.position, event) for event in events)


class Printer:
    """Prints lines as they were printed; with the instance in front where there are several, in its own colour."""

    def __init__(self, reader: LogReader, *, timestamps: bool) -> None:
        self._reader = reader
        self._timestamps = timestamps
        self._has_colours = sys.stdout.isatty()
        self._prefixes: dict[str, bytes] = {}

    def show(self, items: Iterable[Item]) -> None:
        """Print some lines; what a model has written for a terminal goes through as it is."""
        left = iter(items)
        while text := b"".join(self._line(name, event) for _, name, _, event in islice(left, _LINES_AT_ONCE)):
            click.echo(text, nl=False)

    def _line(self, name: str, event: Event) -> bytes:
        prefix = self._prefix(name) if self._reader.reads_several else b""
        moment = lines.stamp(event.time) if self._timestamps else b""
        return prefix + moment + event.message + b"\n"

    def _prefix(self, name: str) -> bytes:
        if name not in self._prefixes:
            text = f"{name} | "
            colour = _COLOURS[len(self._prefixes) % len(_COLOURS)]
            self._prefixes[name] = (click.style(text, fg=colour) if self._has_colours else text).encode()
        return self._prefixes[name]
