"""What every instance can rely on: the list of promises, and who keeps which of them on a machine. Pure.

``moorage doctor`` prints it, ``docs/reference/engines.md`` is it, the node agent refuses by it what its engine cannot
keep before anything is started, and tells the control plane, which refuses earlier.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from moorage.engine.contract import InstanceSpec
from moorage.engine.machine import GROUP_NEEDS, Machine, Need

NETWORK_ISOLATION = "EnableNetworkIsolation"
VOLUME_SIZE = "VolumeSizeInGB"
VOLUME_KEY = "KmsKeyId"
CORE_DUMPS = "CoreDumpConfig"
SHELL_ACCESS = "EnableSSMAccess"
ADDITIONAL_DATA = "AdditionalModelDataSources"

_ENGINE_NEEDS = {"docker": (Need.DOCKER,), "sandbox": (Need.SANDBOX,), "process": ()}

_WRITES_ANYWHERE = "what a model writes may lie anywhere on the machine"
_NO_NAMESPACES = "its instances are ordinary processes of the user that started Moorage"


@dataclass(frozen=True, slots=True)
class With:
    """Kept where all of this is to be had."""

    needs: tuple[Need, ...] = ()


@dataclass(frozen=True, slots=True)
class Never:
    """Kept nowhere by this engine."""

    reason: str


Keeping = With | Never


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """One thing that an instance can rely on."""

    id: str
    text: str
    docker: Keeping
    sandbox: Keeping
    process: Keeping
    member: str | None = None
    """Of the API: what asks for it, and is refused where it is not kept. None: nobody asks, it holds or it does not."""

    def by(self, engine: str) -> Keeping:
        """Say what an engine needs to keep it."""
        return {"docker": self.docker, "sandbox": self.sandbox, "process": self.process}[engine]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an engine keeps a promise on a machine."""

    kept: bool
    reason: str = ""
    """Why not, in words that go on after "because"."""
    advice: str = ""
    """What to do about it, a sentence."""


ALWAYS = With()

PROMISES = (
    Promise(
        id="processes",
        text="an instance cannot see or signal other processes",
        docker=ALWAYS,
        sandbox=ALWAYS,
        process=Never(_NO_NAMESPACES),
    ),
    Promise(
        id="files",
        text="an instance sees no files but its model, its image or environment, and the system's",
        docker=ALWAYS,
        sandbox=ALWAYS,
        process=Never(_NO_NAMESPACES),
    ),
    Promise(
        id="model-read-only",
        text="the model folder is read-only",
        docker=ALWAYS,
        sandbox=ALWAYS,
        process=Never(_NO_NAMESPACES),
    ),
    Promise(
        id="additional-data",
        text="additional model data is where the container contract puts it, and read-only",
        member=ADDITIONAL_DATA,
        docker=ALWAYS,
        sandbox=ALWAYS,
        process=Never(_NO_NAMESPACES),
    ),
    Promise(
        id="temporary-folders",
        text="each instance has its own /tmp and /dev/shm",
        docker=ALWAYS,
        sandbox=ALWAYS,
        process=Never(_NO_NAMESPACES),
    ),
    Promise(
        id="privileges",
        text="an instance has no privileges over the machine and can get none",
        docker=ALWAYS,
        sandbox=ALWAYS,
        process=With((Need.ORDINARY_USER,)),
    ),
    Promise(
        id="own-user",
        text="each instance is a user of its own",
        docker=Never("an image says itself which user it runs as"),
        sandbox=With((Need.ROOT,)),
        process=Never(_NO_NAMESPACES),
    ),
    Promise(
        id="system-calls",
        text="system calls that no model needs are refused",
        docker=ALWAYS,
        sandbox=With((Need.CALL_FILTER,)),
        process=With((Need.CALL_FILTER,)),
    ),
    Promise(
        id="no-network",
        text="an isolated instance has no network",
        member=NETWORK_ISOLATION,
        docker=With((Need.CONTAINER_NETWORKS,)),
        sandbox=ALWAYS,
        process=Never(_NO_NAMESPACES),
    ),
    Promise(
        id="loopback",
        text="an instance with network does not reach what listens on the machine's loopback",
        docker=ALWAYS,
        sandbox=With((Need.OUTSIDE_NETWORK,)),
        process=Never(_NO_NAMESPACES),
    ),
    Promise(
        id="link-local",
        text="an instance with network does not reach link-local addresses, as a cloud's metadata service has",
        docker=With((Need.ROOT,)),
        sandbox=With((Need.OUTSIDE_NETWORK,)),
        process=Never(_NO_NAMESPACES),
    ),
    Promise(
        id="memory",
        text="memory is limited to the instance type's; beyond it only that instance ends",
        docker=ALWAYS,
        sandbox=With((Need.MEMORY_GROUP,)),
        process=With((Need.MEMORY_GROUP,)),
    ),
    Promise(
        id="processors",
        text="processors are limited to the instance type's",
        docker=ALWAYS,
        sandbox=With((Need.CPU_GROUP,)),
        process=With((Need.CPU_GROUP,)),
    ),
    Promise(
        id="process-count",
        text="the number of processes is limited: a fork bomb harms only its instance",
        docker=ALWAYS,
        sandbox=With((Need.PIDS_GROUP,)),
        process=With((Need.PIDS_GROUP,)),
    ),
    Promise(
        id="limits-seen",
        text="an instance can read its limits where programs look for them (/sys/fs/cgroup)",
        docker=ALWAYS,
        sandbox=With((Need.MEMORY_GROUP, Need.CPU_GROUP)),
        process=Never(_NO_NAMESPACES),
    ),
    Promise(
        id="ends-whole",
        text="an instance ends with all its processes",
        docker=ALWAYS,
        sandbox=ALWAYS,
        process=With((Need.ANY_GROUP,)),
    ),
    Promise(
        id="ends-with-moorage",
        text="all instances end with Moorage, also when it is killed",
        docker=Never("the daemon's containers go on until Moorage starts again, which ends them"),
        sandbox=ALWAYS,
        process=With((Need.ANY_GROUP,)),
    ),
    Promise(
        id="volume-size",
        text="the disk of an instance has the size that was asked for",
        member=VOLUME_SIZE,
        docker=With((Need.VOLUME,)),
        sandbox=With((Need.VOLUME,)),
        process=Never(_WRITES_ANYWHERE),
    ),
    Promise(
        id="volume-key",
        text="the disk of an instance is encrypted with the key",
        member=VOLUME_KEY,
        docker=With((Need.VOLUME, Need.ENCRYPTION)),
        sandbox=With((Need.VOLUME, Need.ENCRYPTION)),
        process=Never(_WRITES_ANYWHERE),
    ),
    Promise(
        id="core-dumps",
        text="a crash leaves its core file at the destination",
        member=CORE_DUMPS,
        docker=With((Need.CORE_FILES,)),
        sandbox=With((Need.CORE_FILES,)),
        process=With((Need.CORE_FILES,)),
    ),
    Promise(
        id="shell",
        text="a shell can be opened in an instance, and only in one that allows it",
        member=SHELL_ACCESS,
        docker=ALWAYS,
        sandbox=ALWAYS,
        process=ALWAYS,
    ),
)
"""In the order of the tables."""


def judge(promise: Promise, machine: Machine, engine: str) -> Verdict:
    """Decide whether an engine keeps a promise on a machine."""
    keeping = promise.by(engine)
    if isinstance(keeping, Never):
        return Verdict(False, keeping.reason, _other_engine(promise, engine))
    for need in (*_ENGINE_NEEDS[engine], *keeping.needs):
        if need in machine.lacks:
            return Verdict(False, machine.lacks[need], advise(need, machine))
    return Verdict(True)


def refusals(machine: Machine, engine: str) -> dict[str, str]:
    """Give the API's members that an engine here cannot do as they ask: why, and what to do."""
    found = {}
    for promise in PROMISES:
        verdict = judge(promise, machine, engine)
        if promise.member is not None and not verdict.kept:
            text = f"the engine {engine} does not keep here that {promise.text}, because {verdict.reason}."
            found[promise.member] = f"{text} {verdict.advice}".rstrip()
    return found


@dataclass(frozen=True, slots=True)
class Refusals:
    """The members that a machine's engines cannot do as they ask, with the reason in words for people."""

    serving: Mapping[str, str] = field(default_factory=dict)
    """By the engine of built-in images."""
    images: Mapping[str, str] | None = None
    """By the engine of other images; None: no engine runs them."""

    @property
    def by_all(self) -> dict[str, str]:
        """Those that no engine here can do."""
        if self.images is None:
            return dict(self.serving)
        return {member: why for member, why in self.serving.items() if member in self.images}


NOTHING_REFUSED = Refusals()


def asked_for(spec: InstanceSpec) -> tuple[str, ...]:
    """Give the members that an instance's specification makes use of."""
    asked = {
        NETWORK_ISOLATION: spec.network_isolation,
        VOLUME_SIZE: spec.volume_gib is not None,
        VOLUME_KEY: spec.kms_key is not None,
        CORE_DUMPS: spec.core_dumps is not None,
        SHELL_ACCESS: spec.shell_access,
        ADDITIONAL_DATA: any(container.additional for container in spec.containers),
    }
    return tuple(member for member, is_asked in asked.items() if is_asked)


def advise(need: Need, machine: Machine) -> str:
    """Say what to do about something that a machine lacks."""
    if need is Need.SANDBOX:
        return _sandbox_advice(machine)
    if need in _GROUPS:
        return _GROUPS_AS_ROOT if machine.as_root else _GROUPS_AS_USER
    return _ADVICE[need]


def _other_engine(promise: Promise, engine: str) -> str:
    if engine != "process":
        return ""
    others = [name for name in ("sandbox", "docker") if isinstance(promise.by(name), With)]
    return f"Use the engine {' or '.join(others)}: moorage doctor says what it needs." if others else ""


def _sandbox_advice(machine: Machine) -> str:
    if machine.bubblewrap is None:
        return "Install bubblewrap (package bubblewrap of the distribution, command bwrap)."
    return (
        "Allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, "
        "kernel.apparmor_restrict_unprivileged_userns=0), or start the surrounding container with SYS_ADMIN."
    )


_GROUPS = frozenset({*GROUP_NEEDS.values(), Need.ANY_GROUP})
_GROUPS_AS_ROOT = "Mount the control groups writable (/sys/fs/cgroup)."
_GROUPS_AS_USER = (
    "Start Moorage as root, or with a delegated group (systemd-run --user --scope -p Delegate=yes moorage up). Until "
    "then only each process's own memory is bounded."
)

_ADVICE = {
    Need.DOCKER: "Start dockerd or podman's service, and name its socket with DOCKER_HOST.",
    Need.CONTAINER_NETWORKS: "Start Moorage as root, or use a rootless daemon of this user, or the engine sandbox.",
    Need.ROOT: "Start Moorage as root: only root can give others a user id.",
    Need.ORDINARY_USER: "Start Moorage as an ordinary user, or use the engine sandbox.",
    Need.OUTSIDE_NETWORK: "Install pasta (package passt of the distribution) and let this user open /dev/net/tun. "
    "Until then instances share the machine's network.",
    Need.CALL_FILTER: "Use a kernel with CONFIG_SECCOMP_FILTER on x86_64 or aarch64.",
    Need.VOLUME: "Start Moorage as root on a machine with loop devices and mkfs.ext4 (package e2fsprogs).",
    Need.ENCRYPTION: "Start Moorage as root on a kernel with CONFIG_FS_ENCRYPTION (dm-crypt is not used in its place).",
    Need.CORE_FILES: "Let the kernel write core files where a program runs: sysctl kernel.core_pattern=core",
}


def table() -> list[tuple[str, str, str, str, str]]:
    """Give the rows of the reference: the promise, the member that asks for it, and who keeps it with what."""
    return [
        (
            promise.text,
            promise.member or "",
            _cell(promise.docker),
            _cell(promise.sandbox),
            _cell(promise.process),
        )
        for promise in PROMISES
    ]


def _cell(keeping: Keeping) -> str:
    if isinstance(keeping, Never):
        return "no"
    return "yes" if not keeping.needs else "with " + " and ".join(keeping.needs)
