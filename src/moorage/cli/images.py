"""``moorage images``: the environments of built-in images, and the images that are run without a container engine."""

import asyncio
import sys
from collections.abc import Coroutine
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import click

from moorage.base.clock import SystemClock
from moorage.base.settings import Settings
from moorage.cli.present import Live, duration, show, size
from moorage.cli.server import data_dir_option, output_option
from moorage.cli.up import make_settings

T = TypeVar("T")


@click.group()
def images() -> None:
    """Look after images: the environments of built-in ones, and others that run without Docker."""


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
        environment = _run(environments.ensure(image, lambda line: live.show([line])))
    except EnvironmentFailure as fault:
        raise click.ClickException(str(fault)) from fault
    click.echo(str(environment.python))


@images.command("add")
@click.argument("name")
@click.option(
    "--archive",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What docker save, podman save or another builder has written.  [default: NAME is pulled from its registry]",
)
@data_dir_option
def add(name: str, archive: Path | None, data_dir: Path | None) -> None:
    """Have an image on this machine before it is needed, under the NAME that models call it by.

    It is for machines without Docker, where Moorage unpacks images and runs them itself. No registry is asked for the
    name of an archive; add it again when the image has changed.
    """
    from moorage.engine.launch import ImageFailure  # noqa: PLC0415 - heavy
    from moorage.engine.rootfs.engine import make_images  # noqa: PLC0415
    from moorage.engine.rootfs.store import ImageStore  # noqa: PLC0415

    settings = _settings(data_dir)
    mine = make_images(settings, ImageStore(settings.images), SystemClock())
    live = Live()

    async def have() -> str:
        if archive is not None:
            return (await mine.add_archive(name, archive, lambda line: live.show([line]))).digest
        return (await mine.ensure(name, lambda line: live.show([line])))[1].digest

    try:
        click.echo(_run(have()))
    except ImageFailure as fault:
        raise click.ClickException(str(fault)) from fault


@images.command("ls")
@output_option
@data_dir_option
def ls(output: str, data_dir: Path | None) -> None:
    """List the images that are unpacked on this machine."""
    from moorage.engine.rootfs.store import ImageStore  # noqa: PLC0415 - heavy

    store = ImageStore(_settings(data_dir).images)
    names = store.names()
    sizes = {name.digest: known.unpacked_bytes for name in names if (known := store.find(name.digest))}
    rows = [{**asdict(name), "unpacked_bytes": sizes.get(name.digest)} for name in names]
    now = SystemClock().now()
    cells = [
        [
            name.name,
            name.digest.removeprefix("sha256:")[:12],
            size(sizes[name.digest]) if name.digest in sizes else "incomplete",
            "archive" if name.pinned else "registry",
            f"{duration(now - name.added)} ago",
        ]
        for name in names
    ]
    show(rows, output, ["image", "digest", "unpacked", "from", "added"], cells)


@images.command("rm")
@click.argument("name")
@data_dir_option
def rm(name: str, data_dir: Path | None) -> None:
    """Remove an image that is unpacked on this machine, unless an instance runs it."""
    from moorage.engine.references import UnusableReference, parse_reference  # noqa: PLC0415 - heavy
    from moorage.engine.rootfs.store import ImageInUse, ImageStore  # noqa: PLC0415

    store = ImageStore(_settings(data_dir).images)
    try:
        found = store.remove(parse_reference(name))
    except (ImageInUse, UnusableReference) as fault:
        raise click.ClickException(str(fault)) from fault
    if not found:
        raise click.ClickException(f"There is no image {name} on this machine: moorage images ls")


def _settings(data_dir: Path | None) -> Settings:
    return make_settings(data_dir, {})


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        sys.exit(130)
