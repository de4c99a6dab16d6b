"""``moorage images``: what is on this machine and stands for images, of all kinds."""

import asyncio
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from moorage.base.clock import SystemClock
from moorage.base.settings import Settings
from moorage.cli.present import Live, duration, show, size
from moorage.cli.server import data_dir_option, output_option
from moorage.cli.up import make_settings

if TYPE_CHECKING:
    from moorage.engine.built_environments import Label

T = TypeVar("T")

_TOOLKITS = ("sklearn", "xgboost", "pytorch", "huggingface", "onnx", "python")


@click.group()
def images() -> None:
    """Look after images: built-in ones, Pythons that stand for some, and others that run without Docker."""


@images.command("build")
@click.argument("uri")
@click.option(
    "--offline",
    "wheels",
    metavar="WHEELS",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder of wheels to install from, on a machine without a network.",
)
@click.option("--list", "only_list", is_flag=True, help="Print the packages in pip's words, and build nothing.")
@data_dir_option
def build(uri: str, wheels: Path | None, *, only_list: bool, data_dir: Path | None) -> None:
    """Build the environment of a built-in image now, and print its Python.

    It is what CreateEndpoint does at the first use of an image; a model that is trained by this Python unpickles there.
    Of a Python that was added, which needs no building, it says whether it can be used.
    """
    from moorage.engine.environments import EnvironmentFailure, Environments  # noqa: PLC0415 - heavy
    from moorage.engine.images.added import AddedPythons  # noqa: PLC0415
    from moorage.engine.images.builtin import BuiltinImage, available, resolve_shown  # noqa: PLC0415

    settings = _settings(data_dir)
    environments = Environments(
        settings.environments,
        SystemClock(),
        pythons=AddedPythons(settings.data_dir),
        with_gpu_libraries=settings.gpu_libraries == "install",
    )
    live, folder = Live(), wheels and wheels.absolute()

    async def have() -> str:
        image = await environments.resolve(uri) or resolve_shown(uri)
        if image is None:
            raise click.ClickException(f"Moorage has no built-in image {uri}. It has: {', '.join(available())}")
        if only_list:
            return "\n".join(image.contents.requirements if isinstance(image, BuiltinImage) else ())
        return str((await environments.ensure(image, lambda line: live.show([line]), wheels=folder)).python)

    try:
        click.echo(_run(have()))
    except EnvironmentFailure as fault:
        raise click.ClickException(str(fault)) from fault


@images.command("add")
@click.argument("name")
@click.option(
    "--archive",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What docker save, podman save or another builder has written.  [default: NAME is pulled from its registry]",
)
@click.option(
    "--python",
    type=click.Path(path_type=Path),
    help="A Python of this machine that stands for NAME: of a virtual environment, of conda, or the system's own.",
)
@click.option(
    "--toolkit",
    type=click.Choice(_TOOLKITS),
    help="Which of AWS's containers that Python behaves like.  [default: what NAME or its packages say]",
)
@data_dir_option
def add(name: str, archive: Path | None, python: Path | None, toolkit: str | None, data_dir: Path | None) -> None:
    """Have an image on this machine before it is needed, under the NAME that models call it by.

    Without --python it is for machines without Docker, where Moorage unpacks images and runs them itself. No registry
    is asked for the name of an archive; add it again when the image has changed.

    With --python, models of the image NAME are served by a Python that is there already. NAME may be one image's URI,
    the beginning of repository and tag of many (pytorch-inference, pytorch-inference:2.3), or anything else (my/env).
    """
    if python is not None and archive is not None:
        raise click.UsageError("An image is either an archive or a Python: give one of --archive and --python.")
    if toolkit is not None and python is None:
        raise click.UsageError("--toolkit says what the Python of --python behaves like.")
    if python is not None:
        click.echo(_add_python(name, python, toolkit, _settings(data_dir)))
        return
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


def _add_python(name: str, python: Path, toolkit: str | None, settings: Settings) -> str:
    """Note a Python after a look at it; gives what is said to the user."""
    from moorage.engine.images import look as looking  # noqa: PLC0415
    from moorage.engine.images.added import AddedPython, AddedPythons  # noqa: PLC0415 - heavy
    from moorage.engine.images.builtin import of_toolkit  # noqa: PLC0415
    from moorage.engine.references import UnusableReference, parse_reference  # noqa: PLC0415

    path = python.absolute()

    async def look() -> AddedPython:
        parse_reference(name)
        facts = await looking.Looks().facts(path)
        chosen = toolkit or looking.choose_toolkit(name, facts)
        looking.check_toolkit(chosen, facts)
        await looking.try_imports(facts, looking.preload_of(of_toolkit(chosen), facts))
        module = of_toolkit(chosen).module
        framework = facts.version_of(module) if module else ""
        return AddedPython(name, str(facts.python), chosen, facts.version, framework, SystemClock().now())

    try:
        added = _run(look())
    except (looking.PythonUnusable, UnusableReference) as fault:
        raise click.ClickException(str(fault)) from fault
    AddedPythons(settings.data_dir).put(added)
    return f"{name}: {_versions(added.framework, added.version)}, served like {added.toolkit}"


@images.command("ls")
@output_option
@data_dir_option
def ls(output: str, data_dir: Path | None) -> None:
    """List what is on this machine: built-in environments, added Pythons, unpacked images."""
    settings = _settings(data_dir)
    rows = [*_pythons(settings), *_unpacked(settings), *_built(settings)]
    now = SystemClock().now()
    cells = [
        [
            row["name"],
            row["kind"],
            row["versions"],
            size(row["bytes"]) if row["bytes"] is not None else row.get("remark", ""),
            f"{duration(now - row['added'])} ago",
        ]
        for row in rows
    ]
    show(rows, output, ["image", "kind", "versions", "size", "added"], cells)


def _pythons(settings: Settings) -> list[dict[str, Any]]:
    from moorage.engine.images.added import AddedPythons  # noqa: PLC0415 - heavy

    return [
        {
            "name": added.name,
            "kind": "python",
            "versions": _versions(added.framework, added.version),
            "bytes": None,
            "added": added.added,
            "python": added.python,
            "toolkit": added.toolkit,
        }
        for added in AddedPythons(settings.data_dir).all()
    ]


def _unpacked(settings: Settings) -> list[dict[str, Any]]:
    from moorage.engine.rootfs.store import ImageStore  # noqa: PLC0415 - heavy

    store = ImageStore(settings.images)
    rows = []
    for name in store.names():
        image = store.find(name.digest)
        rows.append(
            {
                "name": name.name,
                "kind": "archive" if name.pinned else "registry",
                "versions": name.digest.removeprefix("sha256:")[:12],
                "bytes": image.unpacked_bytes if image else None,
                "added": name.added,
                "digest": name.digest,
                "pinned": name.pinned,
                **({} if image else {"remark": "incomplete"}),
            }
        )
    return rows


def _built(settings: Settings) -> list[dict[str, Any]]:
    from moorage.engine.built_environments import BuiltEnvironments  # noqa: PLC0415 - heavy

    known = BuiltEnvironments(settings.environments).all()
    names = {each.key: each.label.image for each in known if each.label}
    return [
        {
            "name": names.get(each.below or each.key, each.key),
            "kind": "requirements" if each.below else "built-in",
            "versions": _versions_of(each.label) if each.label else "",
            "bytes": each.size(),
            "added": each.built,
            "key": each.key,
        }
        for each in known
    ]


@images.command("rm")
@click.argument("name")
@data_dir_option
def rm(name: str, data_dir: Path | None) -> None:
    """Remove what stands for an image on this machine, unless an instance runs it.

    Of a Python that was added only the note is removed. A built-in image goes with all that models' requirements.txt
    have put on top of it; its next use builds it anew.
    """
    settings = _settings(data_dir)
    if not (_remove_python(name, settings) or _remove_unpacked(name, settings) or _remove_built(name, settings)):
        raise click.ClickException(f"There is no image {name} on this machine: moorage images ls")


def _remove_python(name: str, settings: Settings) -> bool:
    from moorage.engine.images.added import AddedPythons  # noqa: PLC0415 - heavy

    return AddedPythons(settings.data_dir).remove(name)


def _remove_unpacked(name: str, settings: Settings) -> bool:
    from moorage.engine.references import UnusableReference, parse_reference  # noqa: PLC0415 - heavy
    from moorage.engine.rootfs.store import ImageInUse, ImageStore  # noqa: PLC0415

    try:
        return ImageStore(settings.images).remove(parse_reference(name))
    except (ImageInUse, UnusableReference) as fault:
        raise click.ClickException(str(fault)) from fault


def _remove_built(name: str, settings: Settings) -> bool:
    from moorage.engine.built_environments import BuiltEnvironments, EnvironmentInUse  # noqa: PLC0415 - heavy
    from moorage.engine.environments import key_of  # noqa: PLC0415
    from moorage.engine.images.builtin import resolve_shown  # noqa: PLC0415

    built = BuiltEnvironments(settings.environments)
    image = resolve_shown(name)
    keys = [each.key for each in built.all() if name in {each.key, each.label.image if each.label else None}]
    try:
        return built.remove([*keys, *([key_of(image)] if image else [])]) > 0
    except EnvironmentInUse as fault:
        raise click.ClickException(str(fault)) from fault


def _versions_of(label: "Label") -> str:
    return _versions(next(iter(label.requirements), "").replace("==", " "), label.python)


def _versions(framework: str, python: str) -> str:
    return ", ".join(text for text in (framework, f"Python {python}") if text)


def _settings(data_dir: Path | None) -> Settings:
    return make_settings(data_dir, {})


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        sys.exit(130)
