"""``moorage up``: become the supervisor."""

import dataclasses
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from moorage.base.settings import (
    MOST_GATEWAYS,
    Settings,
    UnusableSetting,
    check_option,
    default_data_dir,
    from_environment,
    run_dir_of,
)
from moorage.cli.server import data_dir_option


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), help="Port of everything; 0 picks a free one.  [default: 8410]")
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option(
    "--gateways",
    type=click.IntRange(1, MOST_GATEWAYS),
    help="Gateway processes that share the port; one uses one core.  [default: 1]",
)
@click.option(
    "--tls-cert",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Certificate with its chain (PEM): the port speaks TLS. Read again when the file changes.",
)
@click.option("--tls-key", type=click.Path(path_type=Path, dir_okay=False), help="Key of the certificate (PEM).")
@data_dir_option
@click.option("--ephemeral", is_flag=True, help="Keep everything in a temporary folder that is removed at the end.")
@click.option("--region", help="Region that `moorage env` exports.  [default: us-east-1]")
@click.option("--account", help="Account (12 digits) of the first key.  [default: 000000000000]")
@click.option(
    "--engine",
    type=click.Choice(["auto", "docker", "sandbox", "process"]),
    help="How instances are run.  [default: auto: what `moorage doctor` finds]",
)
@click.option(
    "--access-log",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File that a line of JSON is written to for each invocation.  [default: none]",
)
def up(*, data_dir: Path | None, ephemeral: bool, **options: str | int | Path | None) -> None:
    """Start Moorage in the foreground; Ctrl-C stops it.

    Every limit is a setting too: MOORAGE_INVOCATION_TIMEOUT_SECONDS=120 moorage up (docs/reference/settings.md).
    """
    if ephemeral and data_dir:
        raise click.UsageError("--ephemeral chooses its own folder: leave --data-dir out.")
    given = {
        name: value.absolute() if isinstance(value, Path) else value
        for name, value in options.items()
        if value is not None
    }
    environment = supervisor_environment(make_settings(data_dir, given), ephemeral=ephemeral)
    # The same process goes on as the supervisor: its pid is the one that the user started and will stop.
    os.execve(SUPERVISOR[0], SUPERVISOR, environment)  # noqa: S606 - our own interpreter


def make_settings(data_dir: Path | None, options: Mapping[str, str | int | Path]) -> Settings:
    """Make the settings: the defaults, over them the environment, over that the options."""
    folder = (data_dir or default_data_dir()).absolute()
    for name in ("account", "region"):
        try:
            if name in options:
                check_option(name, str(options[name]))
        except UnusableSetting as fault:
            raise click.BadParameter(str(fault), param_hint=f"--{name}") from fault
    try:
        settings = from_environment(Settings(folder, run_dir_of(folder)), os.environ)
    except UnusableSetting as fault:
        raise click.ClickException(str(fault)) from fault
    settings = dataclasses.replace(settings, **options)  # type: ignore[arg-type]  # names and kinds are those of the options above
    if settings.access_log is not None and not settings.access_log.parent.is_dir():
        raise click.ClickException(f"The access log's folder {settings.access_log.parent} is not there.")
    return settings


SUPERVISOR = [sys.executable, "-P", "-m", "moorage.supervisor"]
"""The command that runs the supervisor. ``-P``: a file in the user's folder is never taken for a module."""


def supervisor_environment(
    settings: Settings, *, ephemeral: bool = False, end_with_parent: bool = False
) -> dict[str, str]:
    """Give the variables that tell the supervisor what to do, secrets among them: everybody sees arguments."""
    start = {"settings": settings.to_message(), "ephemeral": ephemeral, "end_with_parent": end_with_parent}
    return {**os.environ, "_MOORAGE_START": json.dumps(start)}
