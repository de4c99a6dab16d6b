"""``moorage logs``: what instances print."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import click

from moorage.base.clock import SystemClock
from moorage.cli.present import ended_by_ctrl_c
from moorage.cli.server import chosen_data_dir, data_dir_option, find_server

_LOOK_AGAIN_SECONDS = 0.2
_PIECE_BYTES = 2**20


@click.command()
@click.argument("what", metavar="ENDPOINT[/VARIANT[/INSTANCE]]")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, of new instances too; Ctrl-C ends it.")
@data_dir_option
def logs(what: str, *, follow: bool, data_dir: Path | None) -> None:
    """Print the logs of an endpoint's instances."""
    server = find_server(data_dir)
    folder = (server.data_dir if server else chosen_data_dir(data_dir)) / "logs" / "endpoints"
    endpoint = what.partition("/")[0]
    reader = LogReader(folder, what)
    if not reader.paths() and not (follow and server and (folder / endpoint).exists()):
        known = ", ".join(sorted(path.name for path in folder.glob("*"))) or "none yet"
        raise click.ClickException(f"There are no logs of {what} in {folder}. Endpoints with logs: {known}")
    if follow:
        with ended_by_ctrl_c():
            _follow(reader)
        return
    for line in itertools.chain(reader.new_lines(), reader.unfinished_lines()):
        click.echo(line)


def _follow(reader: "LogReader") -> NoReturn:
    clock = SystemClock()
    while True:
        for line in reader.new_lines():
            click.echo(line)
        clock.pause(_LOOK_AGAIN_SECONDS)


class LogReader:
    """Reads the log files of some instances, each on from where it was."""

    def __init__(self, folder: Path, what: str) -> None:
        self._folder = folder
        parts = what.split("/")
        if len(parts) > 3 or not all(part and part not in {".", ".."} for part in parts):
            raise click.UsageError(f"{what!r} is not of the form ENDPOINT[/VARIANT[/INSTANCE]]")
        self._parts = parts
        self._read: dict[Path, int] = {}
        self._rest: dict[Path, bytes] = {}

    def paths(self) -> list[Path]:
        """Give the log files, the oldest first."""
        endpoint, variant, instance = (*self._parts, "*", "*")[:3]
        found = [
            path
            for path in self._folder.glob("*/*/*.log")
            if path.parts[-3] == endpoint and variant in {"*", path.parts[-2]} and instance in {"*", path.stem}
        ]
        return sorted(found, key=lambda path: (path.stat().st_mtime, path))

    def new_lines(self) -> Iterator[str]:
        """Give the whole lines that came since the last time."""
        paths = self.paths()
        for path in paths:
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                while piece := file.read(_PIECE_BYTES):
                    self._read[path] = file.tell()
                    *lines, self._rest[path] = (self._rest.get(path, b"") + piece).split(b"\n")
                    for line in lines:
                        yield self._prefix(path, len(paths)) + line.decode("utf-8", "replace")

    def unfinished_lines(self) -> Iterator[str]:
        """Give what stands after the last line end."""
        for path, rest in self._rest.items():
            if rest:
                yield self._prefix(path, len(self._rest)) + rest.decode("utf-8", "replace")

    def _prefix(self, path: Path, count: int) -> str:
        if len(self._parts) == 3 or (count == 1 and not self._read.keys() - {path}):
            return ""
        return f"{path.parts[-2]}/{path.stem} | "
