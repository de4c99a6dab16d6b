"""``moorage ps``: the processes of the running server and its instances."""

import contextlib
import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from moorage.base.data_dir import read_json
from moorage.cli.present import duration, show, size
from moorage.cli.processes import Process, all_processes, family_of
from moorage.cli.server import Server, data_dir_option, need_server, output_option
from moorage.engine.contract import ENDED, InstanceReport
from moorage.serving.embryo import NAME as EMBRYO

_NODE_ANSWERS_WITHIN_SECONDS = 5.0


@click.command()
@data_dir_option
@output_option
def ps(data_dir: Path | None, output: str) -> None:
    """List Moorage's processes and instances, with their memory."""
    server = need_server(data_dir)
    rows = describe(own_processes(server), observed_instances(server), all_processes())
    cells = [
        [
            row["role"],
            str(row["pid"] or "-"),
            size(row["rss_bytes"] or 0),
            duration(row["uptime_seconds"] or 0),
            "/".join(row[name] for name in ("endpoint", "variant", "instance") if row[name]) or "-",
            row["address"] or "-",
        ]
        for row in rows
    ]
    show(rows, output, ["ROLE", "PID", "MEMORY", "UP", "INSTANCE", "ADDRESS"], cells)


def own_processes(server: Server) -> list[dict[str, Any]]:
    """Give role and pid of Moorage's own processes, as the supervisor keeps them."""
    found: Any = read_json(server.run_dir / "processes.json")
    processes: list[dict[str, Any]] = found or []
    return processes


def observed_instances(server: Server) -> list[InstanceReport]:
    """Ask the node agent for its instances; whoever calls it is first told everything (engine/contract.py)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_NODE_ANSWERS_WITHIN_SECONDS)
        try:
            connection.connect(str(server.run_dir / "node.sock"))
            with connection.makefile("rb") as lines:
                reports = json.loads(lines.readline())["instances"]
        except (OSError, ValueError) as fault:
            click.echo(f"The node agent does not answer ({fault}): its instances are not shown.", err=True)
            return []
    instances = [InstanceReport.from_message(report) for report in reports]
    return [instance for instance in instances if instance.state not in ENDED]


def describe(
    own: list[dict[str, Any]], instances: list[InstanceReport], processes: Mapping[int, Process]
) -> list[dict[str, Any]]:
    """Give one row a process; an instance's memory is that of all its processes."""
    rows = []
    instance_pids = frozenset(instance.pid for instance in instances if instance.pid is not None)
    for entry in own:
        rows.append(_row(entry["role"], entry["pid"], [processes[entry["pid"]]] if entry["pid"] in processes else []))
        if entry["role"] == "node":
            helpers = _helpers(entry["pid"], instance_pids, processes)
            rows.extend(_row(_role_of(family[0]), family[0].pid, family) for family in helpers)
    for instance in sorted(instances, key=lambda one: (one.endpoint, one.variant, one.instance_id)):
        family = family_of(instance.pid, processes) if instance.pid is not None else []
        rows.append(
            {
                **_row("instance", instance.pid, family),
                "endpoint": instance.endpoint,
                "variant": instance.variant,
                "instance": instance.instance_id,
                "address": instance.address,
            }
        )
    return rows


def _role_of(helper: Process) -> str:
    return "embryo" if helper.name == EMBRYO else "zygote"


def _row(role: str, pid: int | None, family: list[Process]) -> dict[str, Any]:
    return {
        "role": role,
        "pid": pid,
        "rss_bytes": sum(process.rss_bytes for process in family),
        "uptime_seconds": round(family[0].uptime_seconds, 1) if family else None,
        "endpoint": None,
        "variant": None,
        "instance": None,
        "address": None,
    }


def _helpers(node: int, instances: frozenset[int], processes: Mapping[int, Process]) -> Iterator[list[Process]]:
    """Give the node agent's children that are no instances: zygotes and embryos, with what runs under them.

    Not the dead.
    """
    for process in processes.values():
        if process.parent == node and process.pid not in instances and process.rss_bytes > 0:
            with contextlib.suppress(IndexError):
                yield family_of(process.pid, processes, without=instances)
