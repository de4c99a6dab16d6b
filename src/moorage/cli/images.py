"""``moorage images``: the built-in images and their environments."""

import asyncio
import sys

import click

from moorage.base.clock import SystemClock
from moorage.cli.present import Live
from moorage.cli.up import make_settings


@click.group()
def images() -> None:
    """Look after the environments of built-in images."""


@images.command("build")
@click.argument("uri")
def build(uri: str) -> None:
    """Build the environment of a built-in image now, and print its Python.

    It is what CreateEndpoint does at the first use of an image; a model that is trained by this Python unpickles there.
    """
    from moorage.engine.environments import EnvironmentFailure, Environments  # noqa: PLC0415 - heavy
    from moorage.engine.images import available, resolve  # noqa: PLC0415

    image = resolve(uri)
    if image is None:
        raise click.ClickException(f"Moorage has no built-in image {uri}. It has: {', '.join(available())}")
    environments = Environments(make_settings(None, {}).environments, SystemClock())
    live = Live()
    try:
        environment = asyncio.run(environments.ensure(image, lambda line: live.show([line])))
    except EnvironmentFailure as fault:
        raise click.ClickException(str(fault)) from fault
    except KeyboardInterrupt:
        sys.exit(130)
    click.echo(str(environment.python))
