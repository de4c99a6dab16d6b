"""``moorage ls``: what is deployed."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from moorage.cli.client import ApiError, Client
from moorage.cli.present import failure_lines, show
from moorage.cli.server import data_dir_option, need_server, output_option
from moorage.telemetry.advice import advice

_FAILED = "Failed"


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
    for row in rows if output == "text" else ():
        if reason := row["failure_reason"]:
            lines = failure_lines(reason, row["endpoint"], failed=row["status"] == _FAILED)
            click.echo("\n".join([f"\n{row['endpoint']}  {row['status']}", *lines]))


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
    shadows = endpoint.get("ShadowProductionVariants") or []
    total = sum(variant.get("CurrentWeight", 0.0) for variant in variants)
    name, status, reason = endpoint["EndpointName"], endpoint["EndpointStatus"], endpoint.get("FailureReason")
    return {
        "endpoint": name,
        "status": status,
        "failure_reason": reason,
        "advice": list(advice(reason, name, can_only_be_deleted=status == _FAILED)) if reason else [],
        "variants": [
            {
                "variant": variant["VariantName"],
                "instances": variant.get("CurrentInstanceCount", 0),
                "desired_instances": variant.get("DesiredInstanceCount", 0),
                "weight": variant.get("CurrentWeight", 0.0),
                # Of a shadow variant: the share of invocations that it gets a copy of.
                "share": _share(variant.get("CurrentWeight", 0.0), total, alone=not is_shadow and len(variants) == 1),
                "shadow": is_shadow,
            }
            for is_shadow, kind in ((False, variants), (True, shadows))
            for variant in kind
        ],
    }


def _share(weight: float, total: float, *, alone: bool) -> float:
    """Give the share of the invocations: an only variant has all of them, whatever its weight."""
    if alone:
        return 1.0
    if not total:  # a shadow of an only variant of weight 0 gets a copy of each
        return 1.0 if weight else 0.0
    return min(1.0, weight / total)


def _variant_text(variant: Mapping[str, Any]) -> str:
    share = f"{'shadow ' if variant['shadow'] else ''}{variant['share']:.0%}"
    return f"{variant['variant']} {variant['instances']}/{variant['desired_instances']} ({share})"
