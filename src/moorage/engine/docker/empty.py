"""An empty container, for an instance of a built-in image to be forked into. Pure, but for a look at the machine.

Its image is made here: folders for what is mounted, the links of ``/bin`` and its like, two users. What an instance
reads are folders of this machine, the same as in the sandbox, mounted read-only; its first process only waits.
"""

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from moorage.engine.docker.configuration import ADDITIONAL, MODEL, MODELS, Surroundings, make_configuration
from moorage.engine.launch import ImageLaunch, ServingLaunch
from moorage.engine.sandbox import (
    SERVING,
    SERVING_FOLDER,
    SETTINGS_FILES,
    SYSTEM_FOLDERS,
    make_settings_files,
    same_place,
)
from moorage.engine.variables import HOSTNAME
from moorage.engine.volumes import Volume

_FOLDERS = (
    "usr", "etc", "proc", "sys", "dev", "tmp", "var", "opt", "opt/ml", MODEL[1:], "opt/moorage", SERVING[1:],
)  # fmt: skip

_OF_THE_DAEMON = frozenset({"hosts", "resolv.conf"})
"""Files of ``/etc`` that it mounts itself, as they must be in the container's network."""

_NOBODY = "65534:65534"
"""User and group of the first process: no instance's, which so cannot signal it."""

_WAIT = """
import os, signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
while True:
    signal.pause()
"""
"""The first process: leaves no dead process behind that a shell's command was, and ends when it is told to."""


def make_image(system: Path = Path("/")) -> bytes:
    """Make the file system of the image as an archive; the same machine makes the same bytes."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name in _FOLDERS:
            _add(archive, _entry(name, tarfile.DIRTYPE, mode=0o1777 if name == "tmp" else 0o755))
        _add(archive, _entry("var/tmp", tarfile.SYMTYPE, link="/tmp"))  # noqa: S108 - the container's
        for folder in SYSTEM_FOLDERS:
            place = system / folder[1:]
            if place.is_symlink():
                _add(archive, _entry(folder[1:], tarfile.SYMTYPE, link=str(place.readlink())))
            elif place.is_dir():
                _add(archive, _entry(folder[1:], tarfile.DIRTYPE))
        for name, text in make_settings_files("").items():
            if name not in _OF_THE_DAEMON:
                _add(archive, _entry(f"etc/{name}", tarfile.REGTYPE, mode=0o644), text.encode())
    return content.getvalue()


def _entry(name: str, kind: bytes, *, mode: int = 0o755, link: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.linkname = kind, mode, link
    return entry


def _add(archive: tarfile.TarFile, entry: tarfile.TarInfo, content: bytes = b"") -> None:
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def make_empty(launch: ServingLaunch, image: str, around: Surroundings) -> dict[str, Any]:
    """Make the body that the container is created with; looks at the machine's folders."""
    waiting = ImageLaunch(
        instance_id=launch.instance_id,
        image=image,
        model=launch.model,
        variables={},
        memory_bytes=launch.memory_bytes,
        vcpus=launch.vcpus,
        socket=launch.socket,
        log=launch.log,
        isolated=launch.isolated,
        hostname=HOSTNAME,
        arguments=("-I", "-S", "-c", _WAIT),
    )
    body = make_configuration(waiting, image, around, (), working_folder=None)
    return {
        **body,
        "Entrypoint": [str(launch.environment.python)],
        "User": _NOBODY,
        "HostConfig": {
            **body["HostConfig"],
            "CapDrop": ["ALL"],
            # An instance, which is not root, can write nothing there either way; what podman makes read-only it covers
            # with folders in memory, without a bound.
            "ReadonlyRootfs": around.daemon.kind != "podman",
            "Mounts": [*_readable(launch), *_writable(launch)],
            "Tmpfs": _in_memory(launch),
            # Without a network the daemon names nobody, and a program that asks for itself is to be answered.
            "ExtraHosts": [f"{HOSTNAME}:127.0.0.1"] if launch.isolated else [],
        },
    }


def _readable(launch: ServingLaunch) -> Iterable[dict[str, Any]]:
    folders = (launch.environment.python.parent.parent, *launch.environment.folders)
    system = (name for name in ("/usr", *SYSTEM_FOLDERS) if Path(name).is_dir() and not Path(name).is_symlink())
    settings = (f"/etc/{name}" for name in SETTINGS_FILES if name not in _OF_THE_DAEMON)
    binds = {name: name for name in (*system, *(name for name in settings if Path(name).exists()))}
    binds |= {target: source for source, target in same_place(folders)}
    binds[SERVING] = str(SERVING_FOLDER)
    if launch.model is not None:
        binds[MODEL] = str(launch.model)
    if launch.additional is not None:
        binds[ADDITIONAL] = str(launch.additional)
    if launch.models is not None:
        binds[MODELS] = str(launch.models)
    return [_bind(source, target, read_only=True) for target, source in binds.items()]


def _writable(launch: ServingLaunch) -> Iterable[dict[str, Any]]:
    if launch.volume is None:
        return
    volume = Volume(launch.volume)
    yield _bind(str(volume.temporary), "/tmp", read_only=False)  # noqa: S108 - the container's
    if launch.model is None:
        yield _bind(str(volume.model), MODEL, read_only=False)


def _in_memory(launch: ServingLaunch) -> dict[str, str]:
    """Say what of the container is in memory: all that it may write, without a volume."""
    places = () if launch.volume is not None else ("/tmp", *(() if launch.model is not None else (MODEL,)))  # noqa: S108
    return dict.fromkeys(places, f"rw,exec,nosuid,nodev,mode=1777,size={launch.memory_bytes // 2}")


def _bind(source: str, target: str, *, read_only: bool) -> dict[str, Any]:
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}
