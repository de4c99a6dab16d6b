"""What tests of engines share: an environment that is just this Python, models that do as they are told."""

import asyncio
import contextlib
import os
import secrets
import shutil
import sys
import tempfile
import zlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from moorage.base.clock import Clock, SystemClock
from moorage.engine.cgroups import Cgroups, find_hierarchies
from moorage.engine.docker.engine import DockerEngine
from moorage.engine.docker.guests import ZYGOTE_CAPABILITIES, Guests
from moorage.engine.environments import Environment
from moorage.engine.exit import Exit
from moorage.engine.launch import Engine, ServingLaunch
from moorage.engine.launcher import Launcher, Running
from moorage.engine.ping import NoAnswer, ping
from moorage.engine.process import PlainProcess
from moorage.engine.sandbox import Network, Sandbox, Shared, UserIds
from moorage.engine.variables import make_variables
from moorage.engine.volumes import Volumes, Wanted
from moorage.engine.zygote import Zygotes
from moorage.kms.faults import KeyUnusable
from moorage.logs.names import Place
from moorage.logs.pump import ContainerLog, Pump
from moorage.logs.reader import StreamReader
from moorage.logs.writer import Bounds
from moorage.serving.embryo import NAME as EMBRYO
from moorage.serving.isolation import CAPABILITIES, adopt_orphans

DEADLINE_SECONDS = 20.0

PYTHON = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"

BARE = Environment("bare", PYTHON, (Path(sys.base_prefix),), (), ())
"""This Python and nothing else."""

OBEDIENT = """
import ctypes, os, signal, socket, subprocess, sys, time
from pathlib import Path

def attempt(what):
    try:
        return repr(eval(what))
    except BaseException as fault:
        return f"{type(fault).__name__}: {fault}"

def model_fn(folder):
    print("loaded", folder)
    return None

def input_fn(body, content_type):
    return body if isinstance(body, str) else body.decode()

def predict_fn(what, model):
    return attempt(what)

def output_fn(answer, accept):
    return answer, "text/plain"
"""
"""A model that evaluates what it is sent: the view from inside."""


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition; fails after the deadline."""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"did not happen in {DEADLINE_SECONDS:g} s: {what}") from None


def printed(folder: Path) -> str:
    """Give what a container has printed, without the times."""
    reader = StreamReader(folder)
    lines = [event.message.decode() + "\n" for event in reader.forward(reader.start, reader.end)]
    unfinished = reader.unfinished()
    return "".join(lines) + (unfinished.message.decode() if unfinished else "")


@dataclass
class Instance:
    """A started container."""

    launch: ServingLaunch
    running: Running

    @property
    def pid(self) -> int:
        return self.running.pid

    @property
    def folder(self) -> Path:
        """Where its log is kept."""
        assert isinstance(self.launch.log, ContainerLog)
        return self.launch.log.folder

    @property
    def log(self) -> str:
        return printed(self.folder)

    async def is_ready(self) -> "Instance":
        assert await ping(f"unix:{self.launch.socket}", DEADLINE_SECONDS) == 200, self.log
        return self

    async def refuses(self) -> bool:
        try:
            await ping(f"unix:{self.launch.socket}", DEADLINE_SECONDS)
        except NoAnswer:
            return True
        return False

    async def ask(self, what: str) -> str:
        """Let the model evaluate a Python expression."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            reader, writer = await asyncio.open_unix_connection(self.launch.socket)
            body = what.encode()
            head = (
                f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
            )
            writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
            answer = await reader.read()
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        return answer.partition(b"\r\n\r\n")[2].decode()

    @property
    def instance_id(self) -> str:
        return self.launch.instance_id

    async def kill(self) -> None:
        await self.running.kill()

    async def end(self) -> Exit:
        """Wait until it has ended, and its log is complete."""
        end = await asyncio.wait_for(asyncio.shield(self.running.ended), DEADLINE_SECONDS)
        assert isinstance(self.launch.log, ContainerLog)
        await asyncio.to_thread(self.launch.log.finish)
        return end


@dataclass(frozen=True)
class MadeKey:
    plaintext: bytes
    sealed: bytes


class OneKey:
    """A key ring that has ``alias/mine``, and remembers what it has sealed."""

    def __init__(self) -> None:
        self.made: list[MadeKey] = []

    def data_key(self, key: str, context: Mapping[str, str]) -> MadeKey:
        if not key.endswith("alias/mine"):
            raise KeyUnusable(f"There is no key {key}.")
        plaintext = secrets.token_bytes(32)
        made = MadeKey(plaintext, repr(sorted(context.items())).encode() + bytes(255 - byte for byte in plaintext))
        self.made.append(made)
        return made

    def open(self, sealed: bytes, context: Mapping[str, str]) -> bytes:
        head = repr(sorted(context.items())).encode()
        if not sealed.startswith(head):
            raise KeyUnusable("The context is another's.")
        return bytes(255 - byte for byte in sealed.removeprefix(head))


@dataclass
class Bench:
    """One engine of this machine, with a folder for everything."""

    folder: Path
    sockets: Path
    """Elsewhere, because a socket's path has at most 107 bytes."""
    engine: Engine
    cgroups: Cgroups
    zygotes: Zygotes
    launcher: Launcher
    volumes: Volumes
    pump: Pump
    count: int = 0
    instances: list[Instance] = field(default_factory=list)

    def model(self, code: str, name: str = "model") -> Path:
        """Lay a model down as an extracted artefact."""
        folder = self.folder / "models" / name / "content"
        (folder / "code").mkdir(parents=True)
        (folder / "code" / "inference.py").write_text(code, encoding="utf-8")
        return folder

    async def start(
        self,
        model: Path | None,
        *,
        memory_mib: int = 512,
        vcpus: float = 1,
        variables: dict[str, str] | None = None,
        environment: Environment = BARE,
        volume: Wanted | None = None,
        made: tuple[str, Path] | None = None,
        core_bytes: int = 0,
        isolated: bool = False,
        additional: Path | None = None,
        models: Path | None = None,
    ) -> Instance:
        """Start an instance of a model; ``made`` is the name and the folder of a volume that is there already."""
        self.count += 1
        name, disk = made or (f"i-{zlib.crc32(bytes(self.folder)):08x}{self.count:09x}", None)
        if volume is not None:
            disk = self.volumes.make(name, volume).folder
        launch = ServingLaunch(
            instance_id=name,
            environment=environment,
            model=model,
            additional=additional,
            models=models,
            variables=make_variables(variables or {}, region="eu-north-1", python=PYTHON, threads=1),
            threads=1,
            memory_bytes=memory_mib * 2**20,
            vcpus=vcpus,
            socket=self.sockets / f"{name}.sock",
            log=ContainerLog(self.pump, Place(self.folder / "logs" / "group", name)),
            volume=disk,
            core_bytes=core_bytes,
            isolated=isolated,
        )
        instance = Instance(launch, await self.launcher.launch(launch))
        self.instances.append(instance)
        return instance

    async def spare(self) -> int:
        """Wait until a process is forked ahead, and can be taken; gives its process id."""
        await until(
            # It takes its name a moment after its fork.
            lambda: self.launcher.has_spare and len(embryos_of(os.getpid())) == 1,
            "one process is forked ahead",
        )
        (pid,) = embryos_of(os.getpid())
        return pid

    async def ready(
        self,
        code: str = OBEDIENT,
        name: str = "model",
        *,
        memory_mib: int = 512,
        vcpus: float = 1,
        isolated: bool = False,
    ) -> Instance:
        """Start an instance of new code and wait until it is ready."""
        model = self.model(code, name)
        instance = await self.start(model, memory_mib=memory_mib, vcpus=vcpus, isolated=isolated)
        return await instance.is_ready()


class PatientClock:
    """Waits as long as it is told to wait, and lets a test say when that is over."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds

    async def sleep_until(self, deadline: float) -> None:
        while self.seconds < deadline:
            await asyncio.sleep(0.01)


def make_engine(name: str, folder: Path, shared: Shared, docker: DockerEngine | None = None) -> Engine:
    """Make an engine whose models, sockets and logs are in a folder."""
    if name == "sandbox":
        return _make_sandbox(folder, shared, CAPABILITIES)
    if name == "docker":
        assert docker is not None
        return Guests(docker, _make_sandbox(folder, shared, ZYGOTE_CAPABILITIES), UserIds.of(folder / "sandbox"))
    return PlainProcess(scratch=folder / "instances")


def _make_sandbox(folder: Path, shared: Shared, capabilities: Sequence[str]) -> Sandbox:
    return Sandbox(
        shutil.which("bwrap") or "bwrap",
        models=folder / "models",
        volumes=folder / "volumes",
        scratch=folder / "sandbox",
        as_root=os.getuid() == 0,
        shared=shared,
        capabilities=capabilities,
    )


@asynccontextmanager
async def bench(
    name: str,
    folder: Path,
    clock: Clock | None = None,
    network: Network | None = None,
    docker: DockerEngine | None = None,
) -> AsyncIterator[Bench]:
    """Have an engine; what still runs at the end is killed."""
    adopt_orphans()
    cgroups = Cgroups(find_hierarchies(f"moorage-test-{os.getpid()}-{folder.name}"))
    engine = make_engine(name, folder, Shared(network, cgroups.visible), docker)
    engine.prepare()
    (folder / "models").mkdir(exist_ok=True)
    zygotes = Zygotes(engine, clock or SystemClock(), folder / "logs" / "zygotes")
    sockets = Path(tempfile.mkdtemp(prefix="moorage-"))
    volumes = Volumes(folder / "volumes", OneKey())
    volumes.prepare()
    pump = Pump(Bounds(2**20, 2), SystemClock())
    launcher = Launcher(engine, cgroups, zygotes, clock or SystemClock())
    made = Bench(folder, sockets, engine, cgroups, zygotes, launcher, volumes, pump)
    try:
        yield made
    finally:
        for instance in made.instances:
            if not instance.running.ended.done():
                await instance.running.kill()
                await instance.end()
        await made.launcher.close()
        if docker is not None:
            await docker.close()
        volumes.close()
        pump.close()
        shutil.rmtree(sockets)


def processes_that_say(word: str) -> list[int]:
    """Find the living processes with a word in their command line or, as a name, in their status."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.name != str(os.getpid()):
            with contextlib.suppress(OSError):
                if word.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found


def embryos_of(parent: int) -> list[int]:
    """Find the living children of a node agent that were forked ahead and wait for their orders."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                status = (entry / "status").read_text(encoding="utf-8")
                is_one = status.startswith(f"Name:\t{EMBRYO}\n") and f"\nPPid:\t{parent}\n" in status
                if is_one and is_living(int(entry.name)):
                    found.append(int(entry.name))
    return found


def is_living(pid: int) -> bool:
    """Look whether a process is there and not merely waiting to be waited for."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"
