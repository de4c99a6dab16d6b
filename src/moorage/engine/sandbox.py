"""The ``sandbox`` engine: what bubblewrap lets a zygote see, and what an instance makes of that for itself.

Two steps, because a fork is fast and bubblewrap's start is not. Bubblewrap gives the zygote a view of the machine in
which there is nothing of Moorage but the extracted models and, for an ordinary user, the instances' volumes, in folders
that each instance covers before it gives up its privileges (``serving/isolation.py``). Started by root, an instance
becomes a user that nobody else is, and is handed its volume; started by an ordinary user it stays that user, in a user
namespace without capabilities.

An isolated instance has a network of its own with nothing but a loopback. The others share one from which the outside
is reached and this machine is not (``network.py``), or, where that cannot be had, the machine's own.
"""

import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from moorage.engine import mounts
from moorage.engine.environments import Environment
from moorage.engine.launch import ServingLaunch
from moorage.engine.network import resolver_settings
from moorage.engine.variables import HOSTNAME
from moorage.serving import seccomp
from moorage.serving.isolation import ADDITIONAL_FOLDER, CAPABILITIES, GROUPS_FOLDER, MODEL_FOLDER, MODELS_FOLDER

SERVING_FOLDER = Path(__file__).parents[1] / "serving"
"""Where the built-in model server's files are."""

SERVING = "/opt/moorage/serving"
_MODELS = "/opt/moorage/models"
_VOLUMES = "/opt/moorage/volumes"
SYSTEM_FOLDERS = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
SETTINGS_FILES = (
    "alternatives", "ca-certificates", "ca-certificates.conf", "crypto-policies", "fonts", "gai.conf", "host.conf",
    "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "locale.alias", "localtime", "magic", "mime.types", "nsswitch.conf",
    "pki", "protocols", "resolv.conf", "services", "ssl", "timezone",
)  # fmt: skip
"""Of ``/etc`` only what libraries need: the rest is the machine's own business."""

_RESOLVER = "resolv.conf"

_FIRST_UID = 1_800_000_000
_UIDS_OF_ONE = 4096
"""User ids that no account has: upper end of the range that systemd leaves to containers."""


class Network(Protocol):
    """What is needed of ``engine.network``."""

    def enter(self) -> list[str]:
        """Give the beginning of a command that runs in the network."""


@dataclass(frozen=True)
class Shared:
    """What all instances have in common."""

    network: Network | None = None
    """Where those are that may have one; None: the machine's."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """The control groups that an instance sees its limits in (``Cgroups.visible``)."""


NOTHING_SHARED = Shared()


class Sandbox:
    """Runs instances in bubblewrap and namespaces of their own."""

    name = "sandbox"
    makes_rooms = True
    forks_ahead = True
    ends_as_one = True

    def __init__(  # noqa: PLR0913 - the folders and the privileges of a whole view
        self,
        bubblewrap: str,
        *,
        models: Path,
        volumes: Path,
        scratch: Path,
        as_root: bool,
        shared: Shared = NOTHING_SHARED,
        capabilities: Sequence[str] = CAPABILITIES,
    ) -> None:
        """``capabilities`` are what zygotes keep."""
        self._bubblewrap = bubblewrap
        self._models = models
        self._volumes = volumes
        self._scratch = scratch
        self._as_root = as_root
        self._network = shared.network
        self._groups = dict(shared.groups)
        self._capabilities = capabilities
        self._uids = UserIds.of(scratch) if as_root else None

    def prepare(self) -> None:
        """Write the few files of ``/etc`` that differ from the machine's; blocks."""
        self._models.mkdir(parents=True, exist_ok=True)
        self._volumes.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._scratch.mkdir(parents=True, exist_ok=True)
        for name, text in make_settings_files(_read("/etc/hosts")).items():
            (self._scratch / name).write_text(text, encoding="utf-8")
        resolver = self._scratch / _RESOLVER
        resolver.unlink(missing_ok=True)
        if self._network is not None:
            resolver.write_text(resolver_settings(), encoding="utf-8")

    def zygote_command(self, environment: Environment) -> list[str]:
        """Give the command of an environment's zygote, without its arguments; looks at the machine's folders."""
        return [
            *self._command(environment.folders),
            str(environment.python),
            "-I",
            "-X",
            "utf8",
            f"{SERVING}/__main__.py",
        ]

    def check_command(self, python: Path, folders: Sequence[Path]) -> list[str]:
        """Give a command that does what an instance does before the model's code runs, without its arguments."""
        return [*self._command(folders), str(python), "-I", "-S", f"{SERVING}/__main__.py", "check"]

    def check_view(self, *, as_root: bool) -> dict[str, Any]:
        """Give the view for that check."""
        return self._view(None, (), memory_bytes=2**20, uid=_FIRST_UID if as_root else None, isolated=True)

    def order(self, launch: ServingLaunch, *, bounded: bool) -> dict[str, Any]:
        """Give the order to become this instance; ``bounded``: a control group limits its memory."""
        model, volume = self._seen_data(launch, launch.model), self._seen_volume(launch)
        uid = self._uids.take(launch.instance_id) if self._uids else None
        return {
            "environment": dict(launch.variables),
            "model_dir": MODEL_FOLDER,
            "working_dir": "/tmp",  # noqa: S108 - the private one
            "core_bytes": launch.core_bytes,
            "memory_bytes": None if bounded else launch.memory_bytes,
            "view": {
                **self._view(
                    model,
                    launch.environment.folders,
                    memory_bytes=launch.memory_bytes,
                    uid=uid,
                    isolated=launch.isolated,
                ),
                "volume": volume,
                "additional": self._seen_data(launch, launch.additional),
                "models": self._seen_data(launch, launch.models),
            },
            "filtered": seccomp.is_available(),
        }

    async def surround(self, _launch: ServingLaunch) -> None:
        """Give nothing: control groups bound instances."""

    async def release(self, instance_id: str) -> None:
        """Take back what an instance that has ended had."""
        if self._uids:
            self._uids.give_back(instance_id)

    def open_namespaces(self, _launch: ServingLaunch) -> tuple[int, ...]:
        """Give nothing: instances make their own."""
        return ()

    def open_disk(self, launch: ServingLaunch) -> tuple[int, ...]:
        """Open an instance's volume, so that it can mount it; an ordinary user's instances see theirs already."""
        return (mounts.clone(launch.volume),) if launch.volume is not None and self._as_root else ()

    def _seen_volume(self, launch: ServingLaunch) -> str | None:
        if launch.volume is None:
            return None
        return _VOLUMES if self._as_root else f"{_VOLUMES}/{launch.volume.relative_to(self._volumes)}"

    def _seen_data(self, launch: ServingLaunch, folder: Path | None) -> str | None:
        if folder is None:
            return None
        if launch.volume is not None and folder.is_relative_to(launch.volume):
            return f"{self._seen_volume(launch)}/{folder.relative_to(launch.volume)}"
        return f"{_MODELS}/{folder.relative_to(self._models)}"

    def _view(
        self, model: str | None, folders: Iterable[Path], *, memory_bytes: int, uid: int | None, isolated: bool
    ) -> dict[str, Any]:
        return {
            "hidden": [_MODELS, _VOLUMES],
            "kept": [str(folder) for folder in folders if folder.is_relative_to("/tmp")],  # noqa: S108
            "model": model,
            "temporary_bytes": memory_bytes // 2,
            "hostname": HOSTNAME,
            "uid": uid,
            "isolated": isolated,
            "groups": self._groups,
        }

    def _command(self, folders: Iterable[Path]) -> list[str]:
        binds = same_place(folders)
        binds += [(str(SERVING_FOLDER), SERVING), (str(self._models), _MODELS)]
        resolver = self._scratch / _RESOLVER
        return [
            *self._enter_network(),
            "--die-with-parent",
            *("--cap-drop", "ALL"),
            *(word for capability in self._capabilities for word in ("--cap-add", capability)),
            *make_system_arguments(),
            *make_settings_arguments(self._scratch),
            *(("--ro-bind", str(resolver), "/etc/resolv.conf") if resolver.exists() else ()),
            *make_bind_arguments(binds),
            *make_folder_arguments(
                [MODEL_FOLDER, MODELS_FOLDER, ADDITIONAL_FOLDER, GROUPS_FOLDER, _VOLUMES],
                known=("/sys", "/sys/devices"),
            ),
            *(() if self._as_root else ("--bind", str(self._volumes), _VOLUMES)),
            *("--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/"),
            "--",
        ]

    def _enter_network(self) -> list[str]:
        if self._network is None:
            return [self._bubblewrap]
        command = [*self._network.enter(), self._bubblewrap]
        if not self._as_root:
            # In there this user is the network's root. One that owns nothing of it is what instances are to be.
            command += ["--unshare-user", "--uid", str(os.getuid()), "--gid", str(os.getgid())]
        return command


class UserIds:
    """The user ids of one installation's instances: each is one living instance's."""

    def __init__(self, first: int) -> None:
        self._first = first
        self._taken: dict[str, int] = {}

    @classmethod
    def of(cls, scratch: Path) -> "UserIds":
        """Give those of the installation with this folder."""
        return cls(_FIRST_UID + zlib.crc32(bytes(scratch)) % 8192 * _UIDS_OF_ONE)

    def take(self, instance_id: str) -> int:
        """Give an instance the lowest id that no other has; raises OSError when all are taken."""
        used = set(self._taken.values())
        for uid in range(self._first, self._first + _UIDS_OF_ONE):
            if uid not in used:
                self._taken[instance_id] = uid
                return uid
        raise OSError(f"{_UIDS_OF_ONE} instances run on this machine already")

    def give_back(self, instance_id: str) -> None:
        """Take an instance's id back."""
        self._taken.pop(instance_id, None)


def make_folder_arguments(paths: Iterable[str], known: Iterable[str] = ()) -> list[str]:
    """Make bubblewrap's arguments for folders and the folders above them.

    Without them it makes what is missing with 0700, and an instance of another user could not pass.
    """
    made = {"/", "/tmp", "/usr", "/etc", "/dev", "/proc", *known}  # noqa: S108
    arguments: list[str] = []
    for path in paths:
        for folder in (*reversed(PurePosixPath(path).parents), PurePosixPath(path)):
            if str(folder) not in made:
                made.add(str(folder))
                arguments += ["--perms", "0755", "--dir", str(folder)]
    return arguments


def make_bind_arguments(binds: Sequence[tuple[str, str]]) -> list[str]:
    """Make bubblewrap's arguments for folders to be seen read-only, the outer before the inner."""
    arguments = make_folder_arguments(sorted(str(PurePosixPath(target).parent) for _source, target in binds))
    for source, target in sorted(dict.fromkeys(binds), key=lambda bind: bind[1]):
        arguments += ["--ro-bind", source, target]
    return arguments


def make_settings_files(hosts: str) -> dict[str, str]:
    """Make the files of ``/etc`` that an instance sees instead of the machine's."""
    return {
        "hosts": f"{hosts.rstrip()}\n127.0.0.1 {HOSTNAME}\n".lstrip(),
        "passwd": "root:x:0:0:root:/nonexistent:/usr/sbin/nologin\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
        "group": "root:x:0:\nnogroup:x:65534:\n",
    }


def make_settings_arguments(scratch: Path) -> list[str]:
    """Make bubblewrap's arguments for what is seen of ``/etc``."""
    arguments = ["--perms", "0755", "--dir", "/etc"]
    for name in SETTINGS_FILES:
        arguments += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    for name in make_settings_files(""):
        arguments += ["--ro-bind", str(scratch / name), f"/etc/{name}"]
    return arguments


def make_system_arguments() -> list[str]:
    """Make bubblewrap's arguments for the machine's own folders; ``/bin`` and its like are links on newer systems."""
    arguments = ["--ro-bind", "/usr", "/usr"]
    for name in SYSTEM_FOLDERS:
        folder = Path(name)
        if folder.is_symlink():
            arguments += ["--symlink", str(folder.readlink()), name]
        elif folder.is_dir():
            arguments += ["--ro-bind", name, name]
    arguments += ["--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--tmpfs", "/tmp"]  # noqa: S108
    arguments += ["--perms", "0755", "--dir", "/var", "--symlink", "/tmp", "/var/tmp"]  # noqa: S108
    arguments += make_folder_arguments(["/sys/devices"])
    return [*arguments, "--ro-bind-try", "/sys/devices/system", "/sys/devices/system"]


def same_place(folders: Iterable[Path]) -> list[tuple[str, str]]:
    """Name folders to be bound where they are; what is seen with the system's own needs no bind."""
    return [(str(folder), str(folder)) for folder in folders if not _is_below_usr(folder)]


def _is_below_usr(folder: Path) -> bool:
    return any(folder.is_relative_to(seen) for seen in ("/usr", *SYSTEM_FOLDERS))


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return "127.0.0.1 localhost\n"
