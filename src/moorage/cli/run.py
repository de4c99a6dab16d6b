"""``moorage run``: from a ``model.tar.gz`` to an endpoint in one command."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import click

from moorage.base.clock import SystemClock
from moorage.cli.client import Client
from moorage.cli.deploy import DEFAULT_IMAGE, Artifact, check_name, default_name, deploy, read_artifact
from moorage.cli.present import Live
from moorage.cli.server import Server, chosen_data_dir, data_dir_option, find_server
from moorage.cli.up import SUPERVISOR, make_settings, supervisor_environment

_STARTED_WITHIN_SECONDS = 60.0


@click.command()
@click.argument("model", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--image", default=DEFAULT_IMAGE, help="Image URI of the container.  [default: scikit-learn 1.2-1]")
@click.option("--name", help="Name of the endpoint.  [default: by the file]")
@data_dir_option
def run(model: Path, image: str, name: str | None, data_dir: Path | None) -> None:
    """Deploy MODEL (a .tar.gz) as an endpoint, on the running server or on one that runs as long as this command."""
    artifact = read_artifact(model)
    name = default_name(model) if name is None else name
    check_name(name)
    if server := find_server(data_dir):
        _deploy(server, artifact, name, image, data_dir)
        return
    folder = chosen_data_dir(data_dir)
    process = subprocess.Popen(
        # Its own process group: this command passes the signals on, each once.
        SUPERVISOR,
        env=supervisor_environment(make_settings(folder, {}), end_with_parent=True),
        process_group=0,
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _deploy(_wait_for_server(process, folder), artifact, name, image, data_dir)
        click.echo("\nMoorage runs as long as this command: Ctrl-C stops it.")
        process.wait()
    except KeyboardInterrupt:
        pass
    finally:
        _stop(process)
    sys.exit(process.returncode)


def _wait_for_server(process: "subprocess.Popen[bytes]", folder: Path) -> Server:
    clock = SystemClock()
    deadline = clock.monotonic() + _STARTED_WITHIN_SECONDS
    while clock.monotonic() < deadline and process.poll() is None:
        if (server := find_server(folder)) and server.pid == process.pid:
            return server
        clock.pause(0.02)
    raise click.ClickException("Moorage did not start.")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Stop the server that was started; each further Ctrl-C hurries it."""
    while process.poll() is None:
        try:
            os.kill(process.pid, signal.SIGTERM)
            process.wait()
        except KeyboardInterrupt:
            continue


def _deploy(server: Server, artifact: Artifact, name: str, image: str, data_dir: Path | None) -> None:
    server_option = f" --data-dir {shlex.quote(str(data_dir))}" if data_dir else ""
    made = deploy(
        Client(server),
        artifact,
        name=name,
        image=image,
        account=server.account,
        server_option=server_option,
        show=Live().show,
    )
    state = "is in service" if made else "is in service already, with this artefact and image"
    click.echo(
        f'\n{name} {state}. With boto3, after eval "$(moorage env{server_option})":\n\n'
        f'  boto3.client("sagemaker-runtime").invoke_endpoint('
        f'EndpointName="{name}", ContentType="text/csv", Body=open("row.csv", "rb"))["Body"].read()\n\n'
        f"From the shell:\n\n"
        f"  moorage invoke {name} --body @row.csv{server_option}"
    )
