"""``moorage reservations``: capacity that is kept for variants that name it."""

import json
from pathlib import Path

import click

from moorage.cli.client import Client
from moorage.cli.present import show
from moorage.cli.server import data_dir_option, need_server, output_option

_PAGE = "/_moorage/reservations"


@click.group()
def reservations() -> None:
    """Keep capacity for the variants whose CapacityReservationConfig names it."""


@reservations.command("create")
@click.argument("name")
@click.option("--instance-type", required=True, help="What is kept, such as ml.m5.large.")
@click.option("--count", type=click.IntRange(min=1), default=1, show_default=True, help="How many instances of it.")
@data_dir_option
@output_option
def create(name: str, instance_type: str, count: int, data_dir: Path | None, output: str) -> None:
    """Keep capacity under NAME and print the ARN that an endpoint configuration names."""
    wanted = {"name": name, "instance_type": instance_type, "count": count}
    made = Client(need_server(data_dir)).own("POST", _PAGE, wanted)
    click.echo(json.dumps(made, indent=2) if output == "json" else made["arn"])


@reservations.command("ls")
@data_dir_option
@output_option
def list_reservations(data_dir: Path | None, output: str) -> None:
    """List the reservations and how much of each is used."""
    found = Client(need_server(data_dir)).own("GET", _PAGE)["reservations"]
    cells = [[one["name"], one["instance_type"], f"{one['used']} of {one['count']}", one["arn"]] for one in found]
    show(found, output, ["NAME", "INSTANCE TYPE", "USED", "ARN"], cells)


@reservations.command("rm")
@click.argument("name")
@data_dir_option
def remove(name: str, data_dir: Path | None) -> None:
    """Give the capacity of NAME back to all; refused while an endpoint names it."""
    Client(need_server(data_dir)).own("DELETE", f"{_PAGE}/{name}")
    click.echo(f"{name} deleted.")
