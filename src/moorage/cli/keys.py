"""``moorage keys``: access keys of the running server, whose they are and what they may do."""

import json
from pathlib import Path

import click

from moorage.cli.client import Client
from moorage.cli.present import show
from moorage.cli.server import data_dir_option, need_server, output_option

policy_files = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def keys() -> None:
    """Make, list, limit and delete access keys."""


@keys.command("create")
@click.argument("user_name", required=False)
@click.option("--user", help="The user whose key it is (instead of the argument).")
@click.option("--account", help="The account it belongs to, 12 digits.  [default: the server's]")
@click.option("--policy", "policies", type=policy_files, multiple=True, help="A file with an IAM policy; repeatable.")
@data_dir_option
@output_option
def create(  # noqa: PLR0913, PLR0917 - one parameter per option
    user_name: str | None,
    user: str | None,
    account: str | None,
    policies: tuple[Path, ...],
    data_dir: Path | None,
    output: str,
) -> None:
    """Make an access key. Its secret is shown this once.

    Without --policy the key may do everything in its account.
    """
    if bool(user_name) == bool(user):
        raise click.UsageError("Name the user: moorage keys create USER_NAME")
    wanted: dict[str, object] = {"user_name": user_name or user}
    if account:
        wanted["account"] = account
    if policies:
        wanted["policies"] = _texts(policies)
    made = Client(need_server(data_dir)).own("POST", "/_moorage/keys", wanted)
    if output == "json":
        click.echo(json.dumps(made, indent=2))
    else:
        click.echo(f"export AWS_ACCESS_KEY_ID={made['access_key_id']}")
        click.echo(f"export AWS_SECRET_ACCESS_KEY={made['secret_access_key']}")


@keys.command("list")
@data_dir_option
@output_option
def list_keys(data_dir: Path | None, output: str) -> None:
    """List the access keys of all accounts."""
    found = Client(need_server(data_dir)).own("GET", "/_moorage/keys")["keys"]
    cells = [[key["access_key_id"], key["account"], key["user_name"], _limits(key.get("policies"))] for key in found]
    show(found, output, ["ACCESS KEY", "ACCOUNT", "USER", "POLICIES"], cells)


def _limits(policies: int | None) -> str:
    return str(policies) if policies is not None else "full access"


@keys.command("policy")
@click.argument("access_key_id")
@click.option("--set", "policies", type=policy_files, multiple=True, help="A file with its new policy; repeatable.")
@click.option("--full-access", is_flag=True, help="Let it do everything in its account again.")
@data_dir_option
def policy(access_key_id: str, policies: tuple[Path, ...], full_access: bool, data_dir: Path | None) -> None:  # noqa: FBT001
    """Show the IAM policies of an access key, or replace them."""
    client, path = Client(need_server(data_dir)), f"/_moorage/keys/{access_key_id}/policy"
    if full_access and policies:
        raise click.UsageError("Either --set or --full-access.")
    if full_access or policies:
        client.own("PUT", path, {"policies": None if full_access else _texts(policies)})
    for document in client.own("GET", path)["policies"]:
        click.echo(json.dumps(document, indent=2))


def _texts(files: tuple[Path, ...]) -> list[str]:
    try:
        return [file.read_text() for file in files]
    except (OSError, UnicodeDecodeError) as fault:
        raise click.ClickException(f"A policy file cannot be read: {fault}") from fault


@keys.command("delete")
@click.argument("access_key_id")
@data_dir_option
def delete(access_key_id: str, data_dir: Path | None) -> None:
    """Delete an access key; requests signed with it are refused from then on."""
    Client(need_server(data_dir)).own("DELETE", f"/_moorage/keys/{access_key_id}")
    click.echo(f"{access_key_id} deleted.")
