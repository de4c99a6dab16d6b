"""The node agent's side of the warm processes: one per environment and number of threads, started on first need.

``serving/zygote.py`` is the other side and has the protocol. A zygote that has no living instance for a while is
ended: it is memory that nobody uses.
"""

import array
import asyncio
import contextlib
import logging
import os
import socket
import subprocess
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from moorage.base.clock import Clock
from moorage.base.tasks import Tasks
from moorage.engine.embryo import Embryo
from moorage.engine.environments import Environment
from moorage.engine.launch import Engine, LaunchFailed
from moorage.engine.logs import read_tail
from moorage.engine.trees import kill_below
from moorage.engine.variables import base_variables

log = logging.getLogger(__name__)

WARM_UP_SECONDS = 120.0
"""For the imports of a framework from a cold disk."""

FORK_SECONDS = 20.0
"""For one fork: milliseconds, unless the machine is out of memory."""

IDLE_SECONDS = 60.0
"""How long a zygote without instances is kept."""

_ANSWER_BYTES = 64 * 1024


class ZygoteGone(Exception):
    """The zygote ended or does not answer; another can be started."""


class Zygote:
    """One warm process."""

    def __init__(self, process: "subprocess.Popen[bytes]", channel: socket.socket) -> None:
        self._process = process
        self._channel = channel
        self._turn = asyncio.Lock()
        loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[bytes] = loop.create_future()
        self.gone: asyncio.Future[None] = loop.create_future()
        """The process has ended, or is to."""
        loop.add_reader(channel, self._hear)

    @classmethod
    def start(cls, command: Sequence[str], preload: Sequence[str], variables: dict[str, str], output: int) -> "Zygote":
        """Start a zygote that is not warm yet; raises OSError.

        To be called in the main thread: the kernel kills it when the thread ends that started it.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = subprocess.Popen(
                [*command, str(theirs.fileno()), *preload],
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        ours.setblocking(False)
        return cls(process, ours)

    @property
    def pid(self) -> int:
        """Process id of the zygote, or of the bubblewrap that holds it."""
        return self._process.pid

    async def warm(self) -> None:
        """Wait until the framework is imported; raises ZygoteGone."""
        await self._receive(WARM_UP_SECONDS)

    async def fork(self, message: dict[str, Any], descriptors: Sequence[int]) -> int:
        """Have a process forked as a message says, and give its process id; raises ZygoteGone, LaunchFailed."""
        async with self._turn:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
            try:
                self._channel.sendmsg([orjson.dumps(message)], rights)
            except OSError as fault:
                raise ZygoteGone(str(fault)) from fault
            answer = orjson.loads(await self._receive(FORK_SECONDS))
        if "pid" not in answer:
            raise LaunchFailed(f"the instance could not be started: {answer.get('error')}")
        return int(answer["pid"])

    def _hear(self) -> None:
        """Take an answer, or the end of all answers."""
        try:
            answer = self._channel.recv(_ANSWER_BYTES)
        except BlockingIOError:
            return
        except OSError:
            answer = b""
        if not answer:
            self._let_go()
        elif not self._answer.done():
            self._answer.set_result(answer)

    def _let_go(self) -> None:
        asyncio.get_running_loop().remove_reader(self._channel)
        if not self.gone.done():
            self.gone.set_result(None)

    async def _receive(self, seconds: float) -> bytes:
        waited: list[asyncio.Future[Any]] = [self._answer, self.gone]
        await asyncio.wait(waited, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not self._answer.done():
            raise ZygoteGone("the process has ended" if self.gone.done() else f"no answer in {seconds:g} seconds")
        answer = self._answer.result()
        self._answer = asyncio.get_running_loop().create_future()
        return answer

    async def rest(self) -> None:
        """Wait for the end of what is being forked: nobody would hear of a process whose zygote ends in the middle."""
        async with self._turn:
            pass

    async def close(self) -> None:
        """End the zygote; its instances go on."""
        if not self.gone.done():
            self._let_go()
        self._channel.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await asyncio.to_thread(self._process.wait)
        # Bubblewrap's inner half, the zygote proper, becomes our child when the outer one dies. Instances have left
        # their session.
        await asyncio.to_thread(kill_below, self._process.pid)


@dataclass(slots=True)
class _Place:
    """Where the zygote of one environment is, or will be."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    zygote: Zygote | None = None
    instances: int = 0
    idle_since: float = 0.0


class Zygotes:
    """The warm processes of this machine."""

    def __init__(self, engine: Engine, clock: Clock, logs: Path) -> None:
        self._engine = engine
        self._clock = clock
        self._logs = logs
        self._places: defaultdict[tuple[str, int], _Place] = defaultdict(_Place)
        self._ending: set[Zygote] = set()
        """Of no use any more, and not yet reaped for certain."""
        self._tasks = Tasks()

    def hold(self, environment: Environment, threads: int) -> None:
        """Keep the environment's zygote warm, once it is, until ``release`` is called."""
        self._places[environment.key, threads].instances += 1

    async def fork(self, environment: Environment, threads: int, namespaces: Sequence[int] = ()) -> Embryo:
        """Fork a process from the environment's zygote, which is started if need be; raises LaunchFailed, ZygoteGone.

        ``namespaces`` are those of the container that it is to be in.
        """
        place = self._places[environment.key, threads]
        return await self._fork_from(place, await self._warm(place, environment, threads), namespaces)

    async def fork_ahead(self, environment: Environment, threads: int) -> Embryo | None:
        """Fork a process if the environment's zygote is warm; raises LaunchFailed, ZygoteGone."""
        place = self._places[environment.key, threads]
        return None if place.zygote is None else await self._fork_from(place, place.zygote, ())

    async def _fork_from(self, place: _Place, zygote: Zygote, namespaces: Sequence[int]) -> Embryo:
        birth = {"room": self._engine.makes_rooms, "guest": bool(namespaces)}
        # A channel for each attempt: what an attempt forked that failed finds its own closed, and ends.
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                pid = await zygote.fork(birth, (theirs.fileno(), *namespaces))
            ours.setblocking(False)
            return Embryo(pid, ours, zygote.gone)
        except BaseException as fault:
            ours.close()
            if isinstance(fault, ZygoteGone | asyncio.CancelledError):
                # An answer that nobody waits for would be taken for the next one's: it is of no use any more.
                if place.zygote is zygote:
                    place.zygote = None
                await self._end(zygote)
            raise

    async def _warm(self, place: _Place, environment: Environment, threads: int) -> Zygote:
        async with place.lock:
            if place.zygote is None:
                place.zygote = await self._start(environment, threads)
            return place.zygote

    async def _start(self, environment: Environment, threads: int) -> Zygote:
        command = await asyncio.to_thread(self._engine.zygote_command, environment)
        path = self._logs / f"{environment.key}.log"
        output = await asyncio.to_thread(_open_empty, path)
        try:
            variables = base_variables(environment.python, threads)
            zygote = Zygote.start(command, environment.preload, variables, output)
        except OSError as fault:
            raise LaunchFailed(f"{command[0]} could not be started: {fault}") from fault
        finally:
            os.close(output)
        try:
            await zygote.warm()
        except BaseException as fault:
            await self._end(zygote)
            if not isinstance(fault, ZygoteGone):
                raise
            tail = await asyncio.to_thread(read_tail, path)
            message = f"the environment {environment.key} could not be loaded: {fault}\n{tail}"
            raise LaunchFailed(message.rstrip()) from fault
        return zygote

    def release(self, environment: Environment, threads: int) -> None:
        """Say that an instance has ended; the last one's end starts the zygote's last minute."""
        place = self._places[environment.key, threads]
        place.instances -= 1
        place.idle_since = self._clock.monotonic()
        if place.instances == 0:
            self._tasks.start(f"idle zygote of {environment.key}", self._end_when_idle(place))

    async def _end_when_idle(self, place: _Place) -> None:
        deadline = place.idle_since + IDLE_SECONDS
        await self._clock.sleep_until(deadline)
        # Whoever used it meanwhile starts a wait of their own.
        if place.instances or place.idle_since + IDLE_SECONDS > deadline or place.zygote is None:
            return
        zygote, place.zygote = place.zygote, None
        await self._end(zygote, after_forks=True)

    async def _end(self, zygote: Zygote, *, after_forks: bool = False) -> None:
        """End a zygote; if this is cancelled in the middle, ``close`` does the rest."""
        self._ending.add(zygote)
        if after_forks:
            await zygote.rest()
        await zygote.close()
        self._ending.discard(zygote)

    async def retire(self) -> None:
        """End all zygotes, each of which is started anew when it is needed; their instances go on."""
        for place in self._places.values():
            async with place.lock:
                zygote, place.zygote = place.zygote, None
            if zygote is not None:
                await self._end(zygote, after_forks=True)

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the zygotes."""
        return tuple(place.zygote.pid for place in self._places.values() if place.zygote)

    async def close(self) -> None:
        """End all zygotes."""
        await self._tasks.close()
        for place in self._places.values():
            if place.zygote is not None:
                self._ending.add(place.zygote)
                place.zygote = None
        for zygote in list(self._ending):
            await self._end(zygote)

    def __repr__(self) -> str:
        warm = sum(place.zygote is not None for place in self._places.values())
        instances = sum(place.instances for place in self._places.values())
        return f"<Zygotes: {warm} warm | {instances} instances>"


def _open_empty(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
