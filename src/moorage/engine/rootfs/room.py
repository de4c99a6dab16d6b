"""Makes a container out of an image's unpacked layers, and becomes the image's program.

A program of its own (standard library only). It talks with the node agent as the warm processes of built-in images do
(``serving/zygote.py``): each order is a JSON object with two descriptors, the log and the gate; the answer is the new
process's id, or an error in words. For each order it forks. Nothing that the fork mounts is seen outside: the mounts
are those of a namespace of its own, and end with the container. It

1. makes the container's file system: the layers, read-only, under a disk of its own (overlayfs). Started by root it
   shows the layers' files as belonging to user ids that are this container's alone (idmapped mounts), so that the
   image's root is nobody on this machine. Started by an ordinary user, all ids of the image are that user.
2. enters a user namespace of those ids, makes all other namespaces in it, and forks. The child is the container's
   process 1. The fork says its id and ends: the node agent, which adopts orphans, becomes the child's parent.
3. The child waits at its gate, a pipe, until the node agent has put it under its limits; then it gives up what the
   image's user needs no more, and starts the image's program.

All paths of the image are resolved inside its root, by the child: an image cannot lead anything out of it by links.
"""

import contextlib
import json
import os
import resource
import select
import signal
import socket
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from moorage.engine import network_rules
from moorage.engine.rootfs import kernel
from moorage.serving import isolation, seccomp

IDS = 65_536
"""User ids of one container, when root starts it: as many as a container engine gives."""

MESSAGE_BYTES = 256 * 1024
"""Larger than any order: a user's environment variables have at most 32 KB, the names of 500 layers 75 KB."""

_TRIAL_ID = 0x7FFE_0000
"""First of the user ids of a container that is only tried."""

SETUP_FAILED = 70
NOT_EXECUTABLE, NOT_FOUND = 126, 127
"""Exit codes of a program that cannot be started, as a shell's and a container engine's."""

_CAPABILITIES = frozenset({0, 1, 3, 4, 5, 6, 7, 10})
"""What root of an image may do with its own files, users and processes: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL,
SETGID, SETUID, NET_BIND_SERVICE. Of what container engines leave, without MKNOD, NET_RAW, SETPCAP, SETFCAP,
SYS_CHROOT and AUDIT_WRITE."""

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_MODEL_FOLDER = "/opt/ml/model"
_ADDITIONAL_FOLDER = "/opt/ml/additional-model-data-sources"
_MODELS_FOLDER = "/opt/ml/models"
_SYSTEM_FOLDER = "/sys/devices/system"
_LAYER_ATTRIBUTES = kernel.MOUNT_ATTR_RDONLY | kernel.MOUNT_ATTR_NODEV | kernel.MOUNT_ATTR_NOSUID
_PRIVATE = kernel.MS_NOSUID | kernel.MS_NODEV


@dataclass(frozen=True)
class Order:
    """One container."""

    stage: str
    """Any folder: what is mounted is mounted over it, and seen by nobody else."""
    layers: tuple[str, ...]
    """Folders of the image's layers, the topmost first."""
    disk: str | None
    """Folder for all that the container writes, in ``upper`` (``volumes.OVERLAY``); None: memory."""
    memory_bytes: int
    """Half of it is the size of a disk in memory, and of /dev/shm."""
    limit_bytes: int | None
    """Limit for each process, where there is no cgroup to limit them all."""
    model: str | None
    additional: str | None
    """Folder of additional model data."""
    models: str | None
    first_id: int | None
    """First of the user ids on this machine that are the container's; None: an ordinary user starts it."""
    uid: int
    gid: int
    groups: tuple[int, ...]
    """As the image sees them."""
    hostname: str
    files: Mapping[str, str]
    """Files that are written over the image's: their path and text."""
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    folder: str
    """Where the program is started; made when it is not there."""
    core_bytes: int
    """Largest core file that a crash may leave in the working folder."""
    control_groups: Mapping[str, str]
    """Those that the container's limits are seen in (``engine.cgroups.Cgroups.visible``)."""

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> "Order":
        """Read the JSON form."""
        sequences = {name: tuple(message[name]) for name in ("layers", "groups", "arguments")}
        return cls(**{**message, **sequences})


@dataclass(frozen=True)
class Mounts:
    """Mounts that are made and not yet put in their place."""

    model: int | None
    additional: int | None
    models: int | None
    system: int
    devices: Mapping[str, int]


def run(arguments: Sequence[str]) -> None:
    """Serve the node agent at the inherited socket, or with ``check`` say what hinders a container here."""
    if arguments[0] == "check":
        check(arguments[1])
    else:
        serve(socket.socket(fileno=int(arguments[0])))


def serve(channel: socket.socket) -> None:
    """Make containers until the other end closes."""
    isolation.die_with_parent()
    channel.set_inheritable(False)
    channel.send(b'{"ready": true}')
    while True:
        message, descriptors, _flags, _address = socket.recv_fds(channel, MESSAGE_BYTES, 2)
        if not message:
            return
        channel.send(json.dumps(_answer(message, descriptors)).encode())


def _answer(message: bytes, descriptors: Sequence[int]) -> dict[str, Any]:
    try:
        log, gate = descriptors
        reader, writer = os.pipe()
        maker = os.fork()
        if maker == 0:
            _be_the_maker(message, log, gate, writer)
        os.close(writer)
        with os.fdopen(reader, "rb") as answers:
            said = answers.readline()  # the container has the other end too, until it starts
        os.waitpid(maker, 0)
        found: dict[str, Any] = json.loads(said)
        return found
    except (OSError, ValueError) as fault:
        return {"error": str(fault)}
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _be_the_maker(message: bytes, log: int, gate: int, writer: int) -> NoReturn:
    try:
        answer: dict[str, Any] = {"pid": make(Order.from_message(json.loads(message)), log, gate)}
    except BaseException as fault:  # noqa: BLE001 - the last frame of this process: whatever it is, it is said
        answer = {"error": str(fault)}
    os.write(writer, json.dumps(answer).encode() + b"\n")
    os._exit(0)


def check(images: str) -> None:
    """Make a container of nothing, as far as to its gate; says on standard output why that cannot be done.

    ``images``: a folder of the file system that images are unpacked on.
    """
    with tempfile.TemporaryDirectory(prefix=".moorage-probe-", dir=images) as folder:
        Path(folder).chmod(0o755)
        layer, stage = Path(folder, "layer"), Path(folder, "stage")
        layer.mkdir()
        stage.mkdir()
        trial = os.fork()
        if trial == 0:
            _be_the_trial(str(layer), str(stage))
        os.waitpid(trial, 0)


def _be_the_trial(layer: str, stage: str) -> NoReturn:
    try:
        reader, gate = os.pipe()
        os.close(gate)
        make(_order_of_nothing(layer, stage), os.open(os.devnull, os.O_WRONLY), reader)
    except BaseException as fault:  # noqa: BLE001 - the last frame of this process: whatever it is, it is said
        os.write(1, str(fault).encode())
    os._exit(0)


def _order_of_nothing(layer: str, stage: str) -> Order:
    return Order(
        stage=stage,
        layers=(layer,),
        disk=None,
        memory_bytes=2**20,
        limit_bytes=None,
        model=None,
        additional=None,
        models=None,
        first_id=_TRIAL_ID if os.geteuid() == 0 else None,
        uid=0,
        gid=0,
        groups=(),
        hostname="trial",
        files={},
        arguments=("/nothing",),
        environment={},
        folder="/",
        core_bytes=0,
        control_groups={},
    )


def make(order: Order, log: int, gate: int) -> int:
    """Make a container whose program waits at the gate; gives its process id, raises OSError."""
    namespace = _separate(order)
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    mounts = _mount_root(order, namespace)
    if namespace is not None:
        kernel.enter(namespace, kernel.CLONE_NEWUSER)
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    kernel.unshare(
        kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS
    )
    # Process 1 of a list hears no signal that it has no handler for; one that comes too early has to wait.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    ready, said = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ready)
        _be_the_container(order, mounts, (log, gate, said))
    os.close(said)
    with os.fdopen(ready, "rb") as answers:
        fault = answers.read()
    if fault != b"ready":
        os.waitpid(child, 0)
        raise OSError(fault.decode(errors="replace") or "the container's process ended while it was made")
    return child


def _separate(order: Order) -> int | None:
    """Leave the machine's mounts. Gives the container's user namespace when root starts it: it is entered later."""
    if order.first_id is not None:
        kernel.unshare(kernel.CLONE_NEWNS)
        return _make_user_namespace(order.first_id)
    uid, gid = os.geteuid(), os.getegid()
    kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS)
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{order.gid} {gid} 1", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"{order.uid} {uid} 1", encoding="ascii")
    return None


def _make_user_namespace(first_id: int) -> int:
    """Make a user namespace whose ids from 0 on are this machine's from ``first_id`` on; gives a descriptor of it."""
    made, told = os.pipe()
    hold, let_go = os.pipe()
    holder = os.fork()
    if holder == 0:
        os.close(let_go)
        os.setgroups([])
        os.setresgid(first_id, first_id, first_id)
        os.setresuid(first_id, first_id, first_id)  # whose it is then: what serves its network runs as that user
        kernel.unshare(kernel.CLONE_NEWUSER)
        os.write(told, b"1")
        os.read(hold, 1)
        os._exit(0)
    try:
        os.close(told)
        if os.read(made, 1) != b"1":
            raise OSError("a user namespace could not be made")
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{holder}/{name}").write_text(f"0 {first_id} {IDS}", encoding="ascii")
        return os.open(f"/proc/{holder}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        for descriptor in (made, hold, let_go):
            os.close(descriptor)
        os.waitpid(holder, 0)


def _mount_root(order: Order, namespace: int | None) -> Mounts:
    """Mount the container's file system at ``root`` of the stage, which becomes the working folder."""
    layers = [kernel.clone_mount(layer, _LAYER_ATTRIBUTES, namespace) for layer in order.layers]
    disk = None if order.disk is None else kernel.clone_mount(order.disk, _PRIVATE_DISK)
    model_attributes = kernel.MOUNT_ATTR_RDONLY | _PRIVATE_DISK
    mounts = Mounts(
        model=None if order.model is None else kernel.clone_mount(order.model, model_attributes),
        additional=None if order.additional is None else kernel.clone_mount(order.additional, model_attributes),
        models=None if order.models is None else kernel.clone_mount(order.models, model_attributes),
        system=kernel.clone_mount(_SYSTEM_FOLDER, model_attributes),
        devices={name: kernel.clone_mount(f"/dev/{name}", kernel.MOUNT_ATTR_NOSUID) for name in _DEVICES},
    )
    kernel.mount("tmpfs", order.stage, "tmpfs", _PRIVATE, "mode=755,size=1m")
    os.chdir(order.stage)
    for number, layer in enumerate(layers):
        Path(str(number)).mkdir()
        kernel.attach(layer, str(number))
    Path("disk").mkdir()
    if disk is None:
        kernel.mount("tmpfs", "disk", "tmpfs", _PRIVATE, f"mode=755,size={order.memory_bytes // 2}")
    else:
        kernel.attach(disk, "disk")
    owner = order.first_id if order.first_id is not None else os.geteuid()
    for name in ("disk/upper", "disk/work"):
        Path(name).mkdir(exist_ok=True)
        os.chown(name, owner, owner if order.first_id is not None else os.getegid())
    for name in ("proc", "root"):
        Path(name).mkdir()
    lower = ":".join(str(number) for number in range(len(layers)))
    options = f"lowerdir={lower},upperdir=disk/upper,workdir=disk/work"
    kernel.mount("overlay", "root", "overlay", 0, options if namespace is not None else f"{options},userxattr")
    return mounts


_PRIVATE_DISK = kernel.MOUNT_ATTR_NODEV | kernel.MOUNT_ATTR_NOSUID


def _be_the_container(order: Order, mounts: Mounts, descriptors: tuple[int, int, int]) -> NoReturn:
    log, gate, said = descriptors
    code = SETUP_FAILED
    try:
        try:
            _take_streams(log)
            _build_view(order, mounts)
            kernel.allow_inspection()
        except OSError as fault:
            os.write(said, str(fault).encode())
            os._exit(SETUP_FAILED)
        os.write(said, b"ready")
        os.close(said)
        _pass(gate, order)
        code = _start(order)
    except BaseException as fault:  # noqa: BLE001 - the last frame of this process: whatever it is, the log gets it
        os.write(2, f"The container could not be started: {fault}\n".encode())
    os._exit(code)


def _take_streams(log: int) -> None:
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)


def _build_view(order: Order, mounts: Mounts) -> None:
    """Mount what every container has, and make its file system the only one that is seen."""
    root = kernel.clone_mount("root", 0)  # one that may be made the root: what was inherited may not
    proc = _mount_aside("proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    kernel.attach(root, "root")
    kernel.change_root("root")
    _attach_in(proc, "/proc")
    _make_devices(order, mounts.devices)
    _make_folder("/sys")
    kernel.mount("tmpfs", "/sys", "tmpfs", _PRIVATE | kernel.MS_NOEXEC, "mode=755,size=64k")
    _attach_in(mounts.system, _SYSTEM_FOLDER)
    _make_folder(isolation.GROUPS_FOLDER)
    if mounts.model is None:
        _make_folder(_MODEL_FOLDER)
        Path(_MODEL_FOLDER).chmod(0o777)
    else:
        _attach_in(mounts.model, _MODEL_FOLDER)
    if mounts.additional is not None:
        _attach_in(mounts.additional, _ADDITIONAL_FOLDER)
    if mounts.models is not None:
        _attach_in(mounts.models, _MODELS_FOLDER)
    _make_folder("/tmp")  # noqa: S108 - the container's own, as all that follows
    Path("/tmp").chmod(0o1777)  # noqa: S108
    for path, text in order.files.items():
        _write_file(path, text)
    isolation.raise_loopback()
    network_rules.refuse_link_local()
    socket.sethostname(order.hostname)


def _mount_aside(kind: str, flags: int) -> int:
    """Mount a file system of this process's namespaces on the stage; gives a descriptor that ``attach`` takes.

    The kernel mounts ``/proc`` only where another one is seen: so before the machine's is let go of.
    """
    kernel.mount(kind, kind, kind, flags)
    return kernel.clone_mount(kind, 0)


def _attach_in(mount: int, folder: str) -> None:
    _make_folder(folder)
    kernel.attach(mount, folder)


def _make_folder(folder: str) -> None:
    Path(folder).mkdir(mode=0o755, parents=True, exist_ok=True)


def _make_devices(order: Order, devices: Mapping[str, int]) -> None:
    _make_folder("/dev")
    kernel.mount("tmpfs", "/dev", "tmpfs", kernel.MS_NOSUID | kernel.MS_NOEXEC, "mode=755,size=64k")
    for name, device in devices.items():
        Path("/dev", name).touch()
        kernel.attach(device, f"/dev/{name}")
    for name, target in (
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ):
        Path("/dev", name).symlink_to(target)
    Path("/dev/pts").mkdir()
    flags = kernel.MS_NOSUID | kernel.MS_NOEXEC
    kernel.mount("devpts", "/dev/pts", "devpts", flags, "newinstance,ptmxmode=0666,mode=0620")
    Path("/dev/shm").mkdir()  # noqa: S108
    kernel.mount("tmpfs", "/dev/shm", "tmpfs", _PRIVATE, f"mode=1777,size={order.memory_bytes // 2}")  # noqa: S108


def _write_file(path: str, text: str) -> None:
    file = Path(path)
    _make_folder(str(file.parent))
    file.unlink(missing_ok=True)
    file.write_text(text, encoding="utf-8")
    file.chmod(0o644)


def _pass(gate: int, order: Order) -> None:
    """Wait until the node agent opens the gate, become the image's user, and tie this life to the node agent's."""
    if os.read(gate, 1) != b"1":
        os._exit(SETUP_FAILED)
    isolation.show_groups(order.control_groups)
    _enter_folder(order)
    kept = _CAPABILITIES if order.uid == 0 else frozenset()
    kernel.bound_capabilities(kept)
    if order.first_id is not None:  # an ordinary user's namespace has this one user, and setgroups is denied there
        os.setgroups(order.groups)
        os.setresgid(order.gid, order.gid, order.gid)
        os.setresuid(order.uid, order.uid, order.uid)
    kernel.keep_capabilities(kept)
    kernel.forbid_new_privileges()
    if seccomp.is_available():
        seccomp.install()
    isolation.go_first_when_memory_ends()
    isolation.limit_resources(order.limit_bytes, order.core_bytes)
    isolation.die_with_parent()
    poll = select.poll()
    poll.register(gate, 0)
    if poll.poll(0):
        os._exit(SETUP_FAILED)


def _limit(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def _enter_folder(order: Order) -> None:
    """Go to the image's WORKDIR, as a container engine does: it makes the folder, which is the user's then."""
    if not Path(order.folder).is_dir():
        _make_folder(order.folder)
        os.chown(order.folder, order.uid, order.gid)
    os.chdir(order.folder)


def _start(order: Order) -> int:
    """Become the image's program; gives an exit code when that cannot be."""
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    for number in signal.Signals:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.umask(0o022)
    program = order.arguments[0]
    try:
        os.execvpe(program, list(order.arguments), dict(order.environment))  # noqa: S606
    except FileNotFoundError:
        reason, code = "it is not there (or its interpreter is not)", NOT_FOUND
    except OSError as fault:
        reason, code = str(fault.strerror), NOT_EXECUTABLE
    os.write(2, f"The image's program {program} cannot be started: {reason}.\n".encode())
    return code
