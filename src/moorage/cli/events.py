"""``moorage events``: what has happened to endpoints."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click

from moorage.cli.client import Client
from moorage.cli.present import ended_by_ctrl_c, failure_lines
from moorage.cli.server import data_dir_option, need_server, output_option

_PAGE = 100
_WAIT_SECONDS = 2
"""A stop of the server waits as long for a client that follows."""
_STATE_CHANGE = "SageMaker Endpoint State Change"
_NOTICE = "Moorage Endpoint Notice"


@click.command()
@click.argument("endpoint", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@data_dir_option
@output_option
def events(endpoint: str | None, *, follow: bool, data_dir: Path | None, output: str) -> None:
    """Show what has happened to ENDPOINT, or to all of them, oldest first.

    As JSON it is EventBridge's events: a list, or with -f one a line. Ctrl-C ends -f.
    """
    client = Client(need_server(data_dir))
    with ended_by_ctrl_c() if follow else contextlib.nullcontext():
        _show(client, endpoint, output, follow=follow)


def _show(client: Client, endpoint: str | None, output: str, *, follow: bool) -> None:
    """Print what there is; with ``follow`` never end."""
    position, found = 0, list[Mapping[str, Any]]()
    caught_up = any_shown = False
    while True:
        page = _read(client, endpoint, position, wait=caught_up)
        if position and page["gone"]:
            click.echo(f"{page['gone']} events are gone: they left the journal before they were read.", err=True)
        position, new = page["position"], [entry["event"] for entry in page["events"]]
        found += new
        any_shown = any_shown or bool(new)
        if follow or output == "text":
            for event in new:
                for line in [json.dumps(event)] if output == "json" else lines_of(event):
                    click.echo(line)
            found.clear()
        caught_up = len(new) < _PAGE
        if caught_up and not follow:
            break
    if output == "json":
        click.echo(json.dumps(found, indent=2))
    elif not any_shown:
        click.echo("No events yet." if endpoint is None else f"No events of an endpoint {endpoint}.", err=True)
    if trouble := webhook_trouble(page["webhook"]):
        click.echo(trouble, err=True)


def _read(client: Client, endpoint: str | None, after: int, *, wait: bool) -> dict[str, Any]:
    asked: dict[str, Any] = {"after": after, "limit": _PAGE}
    if endpoint is not None:
        asked["endpoint"] = endpoint
    if wait:
        asked["wait"] = _WAIT_SECONDS
    return client.own("GET", "/_moorage/events", query=urlencode(sorted(asked.items())))


def lines_of(event: Mapping[str, Any]) -> Sequence[str]:
    """Show one event: when, which endpoint, what; of a failure also why and what to do about it."""
    detail, name = event["detail"], event["detail"]["EndpointName"]
    time = event["time"].replace("T", " ").removesuffix("Z")
    if event["detail-type"] == _NOTICE:
        return [f"{time}  {name}    {detail['Message']}"]
    status = detail["EndpointStatus"]
    if event["detail-type"] != _STATE_CHANGE:
        return [f"{time}  {name}    {doing}" for doing in [_deployment(detail)] if doing]
    lines = [f"{time}  {name}  {status}"]
    if reason := detail.get("FailureReason"):
        lines += failure_lines(reason, name, failed=status == "FAILED")
    return lines


def _deployment(detail: Mapping[str, Any]) -> str:
    """Say what is being deployed; nothing once all of it is: the endpoint's new status says how that ended."""
    pending = detail.get("PendingDeploymentSummary") or {}
    return "; ".join(
        f"{variant['VariantName']} {status['Status']}{': ' if status.get('StatusMessage') else ''}"
        f"{status.get('StatusMessage') or ''}"
        for summary in (detail, pending)
        for kind in ("ProductionVariants", "ShadowProductionVariants")
        for variant in summary.get(kind) or ()
        for status in variant.get("VariantStatus") or ()
    )


def webhook_trouble(webhook: Mapping[str, Any] | None) -> str:
    """Say what is wrong with the webhook; nothing when it takes what it is given."""
    if webhook is None or not (webhook["dropped"] or webhook["failures_in_a_row"]):
        return ""
    text = f"The webhook {webhook['origin']}: {webhook['waiting']} events wait, {webhook['dropped']} were dropped."
    return f"{text} Last: {webhook['last_failure']}." if webhook["last_failure"] else text
