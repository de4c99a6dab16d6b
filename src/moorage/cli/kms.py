"""``moorage kms``: keys that objects, captures and disks are encrypted with. Each command is calls of the KMS API."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from moorage.cli.client import Client
from moorage.cli.present import show
from moorage.cli.server import data_dir_option, need_server, output_option

_ALIAS = "alias/"


@click.group()
def kms() -> None:
    """Make, list, disable and delete the keys that data is encrypted with.

    A KEY is the id of a key, its ARN, or its alias.
    """


@kms.command("create-key")
@click.option("--description", default="", help="What the key is for.")
@click.option("--alias", help="A name for it: models, or alias/models.")
@data_dir_option
@output_option
def create_key(description: str, alias: str | None, data_dir: Path | None, output: str) -> None:
    """Make a key, and print its id, alias and ARN."""
    client = Client(need_server(data_dir))
    made = client.kms("CreateKey", Description=description)["KeyMetadata"]
    name = None if alias is None else _ALIAS + alias.removeprefix(_ALIAS)
    if name is not None:
        try:
            client.kms("CreateAlias", AliasName=name, TargetKeyId=made["KeyId"])
        except click.ClickException as fault:
            message = f"The key {made['KeyId']} is made, but not its alias. {fault.message}"
            raise click.ClickException(message) from fault
    row = _row(made, [name] if name else [])
    if output == "json":
        click.echo(json.dumps(row, indent=2))
    else:
        click.echo("\n".join([row["key_id"], *row["aliases"], row["arn"]]))


@kms.command("ls")
@data_dir_option
@output_option
def list_keys(data_dir: Path | None, output: str) -> None:
    """List the keys of the server's account and region."""
    client = Client(need_server(data_dir))
    aliases: dict[str, list[str]] = {}
    for alias in _entries(client, "ListAliases", "Aliases"):
        aliases.setdefault(alias["TargetKeyId"], []).append(alias["AliasName"])
    keys = [entry["KeyId"] for entry in _entries(client, "ListKeys", "Keys")]
    rows = [_row(client.kms("DescribeKey", KeyId=key)["KeyMetadata"], aliases.get(key, [])) for key in keys]
    rows.sort(key=lambda row: (row["created_at"], row["key_id"]))
    cells = [[row["key_id"], ", ".join(row["aliases"]), _state(row), row["description"]] for row in rows]
    show(rows, output, ["KEY", "ALIASES", "STATE", "DESCRIPTION"], cells)


@kms.command("disable")
@click.argument("key")
@data_dir_option
def disable(key: str, data_dir: Path | None) -> None:
    """Lock what is encrypted with a key, until it is enabled again."""
    client = Client(need_server(data_dir))
    arn = _find(client, key)["Arn"]
    client.kms("DisableKey", KeyId=arn)
    click.echo(f"{arn} is disabled: what is encrypted with it cannot be read.")


@kms.command("enable")
@click.argument("key")
@data_dir_option
def enable(key: str, data_dir: Path | None) -> None:
    """Let a key be used again."""
    client = Client(need_server(data_dir))
    arn = _find(client, key)["Arn"]
    client.kms("EnableKey", KeyId=arn)
    click.echo(f"{arn} is enabled.")


@kms.command("delete")
@click.argument("key")
@click.option("--days", type=click.IntRange(7, 30), default=30, show_default=True, help="Until it is destroyed.")
@click.option("--cancel", is_flag=True, help="Keep it after all; it is disabled then.")
@data_dir_option
def delete(key: str, days: int, cancel: bool, data_dir: Path | None) -> None:  # noqa: FBT001
    """Have a key destroyed: then nobody can ever read what is encrypted with it.

    It cannot be used from now on, and until its day comes --cancel keeps it.
    """
    client = Client(need_server(data_dir))
    arn = _find(client, key)["Arn"]
    if cancel:
        client.kms("CancelKeyDeletion", KeyId=arn)
        click.echo(f"{arn} stays; it is disabled.")
        return
    answer = client.kms("ScheduleKeyDeletion", KeyId=arn, PendingWindowInDays=days)
    day = _day(answer["DeletionDate"])
    click.echo(f"{arn} will be destroyed on {day}. Until then: moorage kms delete --cancel {arn}")


def _find(client: Client, key: str) -> dict[str, Any]:
    """Give what KMS says of a key; only its reading operations take aliases."""
    found: dict[str, Any] = client.kms("DescribeKey", KeyId=key)["KeyMetadata"]
    return found


def _entries(client: Client, operation: str, member: str) -> Iterator[dict[str, Any]]:
    more: dict[str, str] = {}
    while True:
        page = client.kms(operation, **more)
        yield from page[member]
        if not page["Truncated"]:
            return
        more = {"Marker": page["NextMarker"]}


def _row(key: dict[str, Any], aliases: list[str]) -> dict[str, Any]:
    return {
        "key_id": key["KeyId"],
        "aliases": aliases,
        "arn": key["Arn"],
        "state": key["KeyState"],
        "description": key["Description"],
        "created_at": key["CreationDate"],
        "deletion_at": key.get("DeletionDate"),
        "manager": key["KeyManager"],
    }


def _state(row: dict[str, Any]) -> str:
    return f"{row['state']} ({_day(row['deletion_at'])})" if row["deletion_at"] else str(row["state"])


def _day(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"
