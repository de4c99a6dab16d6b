"""``moorage env``: the lines that point AWS clients at the running server."""

import os
from pathlib import Path

import click

from moorage.base.data_dir import exports
from moorage.cli.server import data_dir_option, need_server

_WOULD_WIN = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_SAGEMAKER", "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME")
"""What would lead a client elsewhere, or sign with another key, whatever the exports say."""


@click.command()
@data_dir_option
def env(data_dir: Path | None) -> None:
    """Print the exports for AWS clients: eval "$(moorage env)"."""
    server = need_server(data_dir)
    for name in _WOULD_WIN:
        if name in os.environ:
            click.echo(f"unset {name}")
    click.echo("\n".join(exports(server.description, server.key)))
