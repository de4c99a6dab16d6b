"""One control group an instance: the memory, processors and number of processes of its instance type, and its end.

Version 1 (a hierarchy a controller) and version 2 (one for all) are used as they are mounted, also side by side:
then version 1 limits and version 2 kills. Groups lie below the group that Moorage itself runs in, or below the
hierarchy's root where that one cannot have children. What cannot be written is left out, and ``controllers`` says so.
"""

import contextlib
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from moorage.engine.trees import kill_all

log = logging.getLogger(__name__)

CONTROLLERS = ("memory", "cpu", "pids")
"""What an instance needs, in the kernel's words."""

_PERIOD_MICROSECONDS = 100_000
_KILL_ROUNDS = 20


@dataclass(frozen=True, slots=True)
class GroupLimits:
    """What one instance may use."""

    memory_bytes: int
    vcpus: float
    processes: int


@dataclass(frozen=True, slots=True)
class Hierarchies:
    """Where groups can be made: the folder of the parent group for each controller."""

    version1: Mapping[str, Path]
    version2: Path | None
    version2_controllers: frozenset[str]
    mounted_with: Mapping[str, str] = field(default_factory=dict)
    """For each controller of version 1: all that share its hierarchy, itself among them, with commas."""

    @property
    def visible(self) -> dict[str, str]:
        """What an instance needs to see its own limits (``serving.isolation.View.groups``)."""
        if self.version2_controllers:
            return {"": ""}
        return {controller: self.mounted_with.get(controller, controller) for controller in self.version1}

    @property
    def controllers(self) -> frozenset[str]:
        """The limits that can be set here."""
        return frozenset(self.version1) | self.version2_controllers

    @property
    def folders(self) -> tuple[Path, ...]:
        """Every parent group, each once."""
        unique = dict.fromkeys([*self.version1.values(), *([self.version2] if self.version2 else [])])
        return tuple(unique)


NOWHERE = Hierarchies({}, None, frozenset())
"""A machine, or a user, without control groups."""


def find_hierarchies(name: str, proc: Path = Path("/proc/self")) -> Hierarchies:
    """Find where groups can be made and make the parent group ``name`` there; NOWHERE where nothing can be written."""
    mounts = parse_mounts((proc / "mounts").read_text(encoding="utf-8"))
    groups = (proc / "cgroup").read_text(encoding="utf-8")
    own = parse_own_groups(groups)
    version1: dict[str, Path] = {}
    for controller in CONTROLLERS:
        root = mounts.get(controller)
        parent = _make_parent(root, own.get(controller, "/"), name) if root else None
        if parent is not None:
            version1[controller] = parent
    version2, usable = _find_version2(mounts.get(""), own.get("", "/"), name)
    return Hierarchies(version1, version2, usable - frozenset(version1), parse_sharing(groups))


def parse_mounts(text: str) -> dict[str, Path]:
    """Read where each controller's hierarchy is mounted; version 2 is under the empty name."""
    found: dict[str, Path] = {}
    for line in text.splitlines():
        _device, folder, kind, options, *_rest = line.split()
        if kind == "cgroup2":
            found.setdefault("", Path(folder))
        elif kind == "cgroup":
            for option in options.split(","):
                if option in CONTROLLERS:
                    found.setdefault(option, Path(folder))
    return found


def parse_own_groups(text: str) -> dict[str, str]:
    """Read the group of a process in each hierarchy; version 2 is under the empty name."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        _number, controllers, group = line.split(":", 2)
        for controller in controllers.split(","):
            found[controller] = group
    return found


def parse_sharing(text: str) -> dict[str, str]:
    """Read which controllers of version 1 share a hierarchy with each: ``cpu`` does with ``cpuacct``, mostly."""
    hierarchies = [line.split(":", 2)[1] for line in text.splitlines()]
    return {name: together for together in hierarchies for name in together.split(",") if name in CONTROLLERS}


def _make_parent(root: Path, own: str, name: str) -> Path | None:
    """Make the parent group below the own group, or else below the root; None where neither can be written."""
    for base in (root / own.lstrip("/"), root):
        folder = base / name
        if not base.is_dir():
            continue
        try:
            folder.mkdir(exist_ok=True)
        except OSError:
            continue
        if os.access(folder / "cgroup.procs", os.W_OK):
            return folder
    return None


def _find_version2(root: Path | None, own: str, name: str) -> tuple[Path | None, frozenset[str]]:
    """Find a parent group of version 2 whose children have the controllers, or at least can be killed as one."""
    if root is None:
        return None, frozenset()
    bare: Path | None = None
    for base in dict.fromkeys((root / own.lstrip("/"), root)):
        folder = _make_parent(base, "/", name) if base.is_dir() else None
        if folder is None:
            continue
        for group in (base, folder):
            for controller in CONTROLLERS:
                # A group with processes of its own may not hand controllers on: then this base is of no use for limits.
                with contextlib.suppress(OSError):
                    (group / "cgroup.subtree_control").write_text(f"+{controller}", encoding="ascii")
        handed_on = frozenset((folder / "cgroup.subtree_control").read_text(encoding="ascii").split())
        if usable := handed_on & frozenset(CONTROLLERS):
            return folder, usable
        bare = bare or folder
    return bare, frozenset()


class Cgroups:
    """The control groups of one installation's instances on this machine."""

    def __init__(self, hierarchies: Hierarchies) -> None:
        self._hierarchies = hierarchies

    @property
    def controllers(self) -> frozenset[str]:
        """The limits that are really set here."""
        return self._hierarchies.controllers

    @property
    def visible(self) -> dict[str, str]:
        """What an instance needs to see its own limits (``serving.isolation.View.groups``)."""
        return self._hierarchies.visible

    def make(self, name: str, limits: GroupLimits | None = None, *, within: str | None = None) -> "Cgroup":
        """Make a group, in the envelope of that name if it is within one, and set its limits if they are known.

        Raises OSError.
        """
        group = Cgroup(name if within is None else f"{within}/{name}", self._hierarchies)
        group.make()
        if limits is not None:
            group.limit(limits)
        return group

    def make_envelope(self, name: str, limits: GroupLimits) -> "Cgroup":
        """Make a group of groups, which bounds what is in all of them together; raises OSError."""
        group = self.make(name, limits)
        group.hand_on()
        return group

    def remove_leftovers(self) -> None:
        """Kill and remove what a node agent that was killed has left."""
        names = {group.name for folder in self._hierarchies.folders for group in folder.iterdir() if group.is_dir()}
        for name in names:
            for inner in (*self._names_within(name), name):
                group = Cgroup(inner, self._hierarchies)
                group.kill()
                group.remove()

    def _names_within(self, name: str) -> set[str]:
        """Name the groups in an envelope."""
        envelopes = [folder / name for folder in self._hierarchies.folders if (folder / name).is_dir()]
        return {f"{name}/{group.name}" for folder in envelopes for group in folder.iterdir() if group.is_dir()}

    def close(self) -> None:
        """Remove the parent groups, once no instance is left."""
        for folder in self._hierarchies.folders:
            with contextlib.suppress(OSError):
                folder.rmdir()


def groups_of(run_dir: Path) -> Cgroups:
    """Give the groups of the installation with this folder of sockets; makes their parents."""
    return Cgroups(find_hierarchies("moorage-" + run_dir.name.removeprefix("moorage-")))


def remove_groups(run_dir: Path) -> None:
    """Kill and remove what an installation that was killed has left in control groups, as far as it can be done."""
    with contextlib.suppress(OSError):
        groups = groups_of(run_dir)
        groups.remove_leftovers()
        groups.close()


def open_groups_of(pid: int, proc: Path = Path("/proc")) -> list[int]:
    """Open the groups of a process, as far as they can be written: a ``0`` written there puts the writer into one.

    Of all hierarchies, not only those that limit here: another's container may be held by its devices' group too.
    """
    theirs = parse_own_groups((proc / str(pid) / "cgroup").read_text(encoding="utf-8"))
    opened = []
    for line in (proc / "self" / "mounts").read_text(encoding="utf-8").splitlines():
        _device, folder, kind, options, *_rest = line.split()
        names: list[str] = {"cgroup": options.split(","), "cgroup2": [""]}.get(kind, [])
        for group in [theirs[name] for name in names if name in theirs][:1]:
            with contextlib.suppress(OSError):
                opened.append(os.open(Path(folder, group.lstrip("/"), "cgroup.procs"), os.O_WRONLY | os.O_CLOEXEC))
    return opened


def hasten() -> None:
    """Let the kernel do now what it will wait for at the next ``Cgroup.join``; blocks for that time.

    The first move of a process between groups after a quiet while waits for all processors to have come by
    (rcu_sync, 5 to 15 ms); those soon after it do not. So this moves this process to where it is already.
    """
    for descriptor in open_groups_of(os.getpid()):
        with contextlib.suppress(OSError):
            os.write(descriptor, b"0")
        os.close(descriptor)


class Cgroup:
    """The control group of one instance."""

    def __init__(self, name: str, hierarchies: Hierarchies) -> None:
        self._version1 = {controller: folder / name for controller, folder in hierarchies.version1.items()}
        self._version2 = hierarchies.version2 / name if hierarchies.version2 else None
        self._version2_controllers = hierarchies.version2_controllers

    @property
    def _folders(self) -> tuple[Path, ...]:
        return tuple(dict.fromkeys([*self._version1.values(), *([self._version2] if self._version2 else [])]))

    def make(self) -> None:
        """Make the folders."""
        for folder in self._folders:
            folder.mkdir(parents=True, exist_ok=True)

    def limit(self, limits: GroupLimits) -> None:
        """Write the limits, also of processes that are in it already; raises OSError."""
        for path, value in self._settings(limits):
            try:
                path.write_text(value, encoding="ascii")
            except OSError as fault:
                # Kernels without swap accounting have no swap files; a share of the processors above the parent
                # group's own is refused, and then that one bounds it.
                if "sw" not in path.name and not path.name.startswith("cpu."):
                    raise
                log.info("%s is not set: %s", path, fault)

    def _settings(self, limits: GroupLimits) -> Iterable[tuple[Path, str]]:
        quota = max(1000, int(limits.vcpus * _PERIOD_MICROSECONDS))
        if memory := self._version1.get("memory"):
            yield memory / "memory.limit_in_bytes", str(limits.memory_bytes)
            yield memory / "memory.memsw.limit_in_bytes", str(limits.memory_bytes)
        if cpu := self._version1.get("cpu"):
            yield cpu / "cpu.cfs_period_us", str(_PERIOD_MICROSECONDS)
            yield cpu / "cpu.cfs_quota_us", str(quota)
        if pids := self._version1.get("pids"):
            yield pids / "pids.max", str(limits.processes)
        if self._version2 is None:
            return
        if "memory" in self._version2_controllers:
            yield self._version2 / "memory.max", str(limits.memory_bytes)
            yield self._version2 / "memory.swap.max", "0"
        if "cpu" in self._version2_controllers:
            yield self._version2 / "cpu.max", f"{quota} {_PERIOD_MICROSECONDS}"
        if "pids" in self._version2_controllers:
            yield self._version2 / "pids.max", str(limits.processes)

    def hand_on(self) -> None:
        """Let groups in this one have limits of their own, and count here; raises OSError. No process may be in it."""
        if memory := self._version1.get("memory"):
            with contextlib.suppress(OSError):  # newer kernels have no other way, and no such file
                (memory / "memory.use_hierarchy").write_text("1", encoding="ascii")
        if self._version2 is not None:
            for controller in sorted(self._version2_controllers):
                (self._version2 / "cgroup.subtree_control").write_text(f"+{controller}", encoding="ascii")

    def join(self, pid: int) -> None:
        """Put a process into the group, and with it all that it will start; raises OSError."""
        for folder in self._folders:
            (folder / "cgroup.procs").write_text(str(pid), encoding="ascii")

    def out_of_memory_kills(self) -> int:
        """Count the processes that the kernel has killed at the memory limit.

        ``memory.failcnt`` is of no use for this: it stays 0 when memory and swap have the same limit (feasibility.md
        section 3).
        """
        memory = self._version1.get("memory")
        counters = memory / "memory.oom_control" if memory else None
        if counters is None and self._version2 is not None:
            counters = self._version2 / "memory.events"
        return read_out_of_memory_kills(counters) if counters else 0

    def members(self) -> set[int]:
        """Give the processes of the group."""
        found: set[int] = set()
        for folder in self._folders:
            with contextlib.suppress(OSError):
                found.update(int(pid) for pid in (folder / "cgroup.procs").read_text(encoding="ascii").split())
        return found

    def kill(self) -> None:
        """Kill every process of the group, also while they fork."""
        if self._version2 is not None:
            with contextlib.suppress(OSError):
                (self._version2 / "cgroup.kill").write_text("1", encoding="ascii")
        if pids := self._version1.get("pids"):
            with contextlib.suppress(OSError):
                (pids / "pids.max").write_text("0", encoding="ascii")
        for _round in range(_KILL_ROUNDS):
            members = self.members()
            if not members:
                return
            kill_all(members)

    def remove(self) -> bool:
        """Remove the group; False while a process of it is still there (dead, and not yet waited for)."""
        for folder in self._folders:
            try:
                folder.rmdir()
            except FileNotFoundError:
                continue
            except OSError:
                return False
        return True


def find_out_of_memory_counter(pid: int, proc: Path = Path("/proc")) -> Path | None:
    """Find the file that counts the kills at the memory limit of a process's group; None where there is none."""
    try:
        mounts = parse_mounts((proc / "self/mounts").read_text(encoding="utf-8"))
        groups = parse_own_groups((proc / str(pid) / "cgroup").read_text(encoding="utf-8"))
    except OSError:
        return None
    for controller, name in (("memory", "memory.oom_control"), ("", "memory.events")):
        if controller in mounts and controller in groups:
            counter = mounts[controller] / groups[controller].lstrip("/") / name
            if counter.exists():
                return counter
    return None


def read_out_of_memory_kills(counter: Path) -> int:
    """Read what ``find_out_of_memory_counter`` has found; 0 where the group is gone."""
    return _read_counter(counter, "oom_kill")


def _read_counter(path: Path, name: str) -> int:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    for line in lines:
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0
