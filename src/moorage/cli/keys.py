"""``moorage keys``: access keys of the running server."""

import json
from pathlib import Path

import click

from moorage.cli.client import Client
from moorage.cli.present import show
from moorage.cli.server import data_dir_option, need_server, output_option


@click.group()
def keys() -> None:
    """Make, list and delete access keys."""


@keys.command("create")
@click.argument("user_name")
@data_dir_option
@output_option
def create(user_name: str, data_dir: Path | None, output: str) -> None:
    """Make an access key. Its secret is shown this once."""
    made = Client(need_server(data_dir)).own("POST", "/_moorage/keys", {"user_name": user_name})
    if output == "json":
        click.echo(json.dumps(made, indent=2))
    else:
        click.echo(f"export AWS_ACCESS_KEY_ID={made['access_key_id']}")
        click.echo(f"export AWS_SECRET_ACCESS_KEY={made['secret_access_key']}")


@keys.command("list")
@data_dir_option
@output_option
def list_keys(data_dir: Path | None, output: str) -> None:
    """List the access keys."""
    found = Client(need_server(data_dir)).own("GET", "/_moorage/keys")["keys"]
    cells = [[key["access_key_id"], key["account"], key["user_name"]] for key in found]
    show(found, output, ["ACCESS KEY", "ACCOUNT", "USER"], cells)


@keys.command("delete")
@click.argument("access_key_id")
@data_dir_option
def delete(access_key_id: str, data_dir: Path | None) -> None:
    """Delete an access key; requests signed with it are refused from then on."""
    Client(need_server(data_dir)).own("DELETE", f"/_moorage/keys/{access_key_id}")
    click.echo(f"{access_key_id} deleted.")
