"""``moorage ls``: what is deployed."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from moorage.cli.client import ApiError, Client
from moorage.cli.present import show
from moorage.cli.server import data_dir_option, need_server, output_option


@click.command()
@data_dir_option
@output_option
def ls(data_dir: Path | None, output: str) -> None:
    """List the endpoints, their variants and instances."""
    client = Client(need_server(data_dir))
    rows = [describe(found) for found in endpoints(client)]
    cells = [
        [row["endpoint"], row["status"], ", ".join(_variant_text(variant) for variant in row["variants"])]
        for row in rows
    ]
    show(rows, output, ["ENDPOINT", "STATUS", "VARIANTS"], cells)


def endpoints(client: Client) -> Iterator[dict[str, Any]]:
    """Give the description of every endpoint, by name."""
    more: dict[str, str] = {}
    while True:
        page = client.call("ListEndpoints", SortBy="Name", SortOrder="Ascending", **more)
        for entry in page["Endpoints"]:
            try:
                yield client.call("DescribeEndpoint", EndpointName=entry["EndpointName"])
            except ApiError as fault:  # deleted since the list was made
                if fault.status >= 500:
                    raise
        if not page.get("NextToken"):
            return
        more = {"NextToken": page["NextToken"]}


def describe(endpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Give one row."""
    variants = endpoint.get("ProductionVariants") or []
    total = sum(variant.get("CurrentWeight", 0.0) for variant in variants)
    return {
        "endpoint": endpoint["EndpointName"],
        "status": endpoint["EndpointStatus"],
        "failure_reason": endpoint.get("FailureReason"),
        "variants": [
            {
                "variant": variant["VariantName"],
                "instances": variant.get("CurrentInstanceCount", 0),
                "desired_instances": variant.get("DesiredInstanceCount", 0),
                "weight": variant.get("CurrentWeight", 0.0),
                "share": variant.get("CurrentWeight", 0.0) / total if total else 0.0,
            }
            for variant in variants
        ],
    }


def _variant_text(variant: Mapping[str, Any]) -> str:
    return f"{variant['variant']} {variant['instances']}/{variant['desired_instances']} ({variant['share']:.0%})"
