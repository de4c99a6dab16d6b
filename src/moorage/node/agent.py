"""Does what the control plane says and tells it what there is (``engine/contract.py`` has the messages)."""

import asyncio
import logging
from collections.abc import Callable

from moorage.base.link import Link, LinkClosed, Message
from moorage.base.tasks import Tasks
from moorage.engine.contract import ENDED, InstanceSpec
from moorage.node.entrances import Entrance, Wanted, choose
from moorage.node.life import Life
from moorage.node.reports import Reports

log = logging.getLogger(__name__)


class Agent:
    """The instances of this machine."""

    def __init__(self, reports: Reports, make_life: Callable[[InstanceSpec], Life]) -> None:
        self._reports = reports
        self._make_life = make_life
        self._lives: dict[str, tuple[Life, asyncio.Task[None]]] = {}
        self._tasks = Tasks()
        self._closing = False

    def launch(self, spec: InstanceSpec) -> None:
        """Start an instance, unless its id is known."""
        if self._closing or self._reports.get(spec.instance_id) is not None:
            return
        _life, before = self._lives.get(spec.instance_id, (None, None))
        life = self._make_life(spec)
        living = self._tasks.start(f"instance {spec.instance_id}", self._live(spec.instance_id, life, before))
        self._lives[spec.instance_id] = (life, living)

    async def _live(self, instance_id: str, life: Life, before: "asyncio.Task[None] | None") -> None:
        """Let an instance live, once an earlier one of its id is wholly gone: its disk, too."""
        try:
            if before is not None:
                await asyncio.wait([before])
            await life.run()
        finally:
            if self._lives[instance_id][0] is life:
                del self._lives[instance_id]

    def stop(self, instance_id: str) -> None:
        """Begin an instance's end; nothing happens when it is unknown or has ended."""
        if instance_id in self._lives:
            self._lives[instance_id][0].stop()

    def forget(self, instance_id: str) -> None:
        """Drop the record of an instance that has ended."""
        report = self._reports.get(instance_id)
        if report is not None and report.state in ENDED:
            self._reports.forget(instance_id)

    def find_entrance(self, wanted: Wanted) -> Entrance:
        """Say where a shell is to be opened; raises NoShell."""
        return choose(wanted, [life.candidate for life, _living in self._lives.values()])

    async def serve(self, link: Link) -> None:
        """Speak with one control plane until either side ends it."""
        tasks = Tasks()
        telling = tasks.start("tell reports", self._tell(link))
        hearing = tasks.start("hear orders", self._hear(link))
        try:
            await asyncio.wait([telling, hearing], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await tasks.close()

    async def _tell(self, link: Link) -> None:
        try:
            async for message in self._reports.listen():
                await link.send(message)
        except LinkClosed:
            return

    async def _hear(self, link: Link) -> None:
        async for message in link.messages():
            try:
                self.obey(message)
            except (KeyError, TypeError, ValueError) as fault:
                log.error("an order of the control plane cannot be read: %s: %r", type(fault).__name__, fault)

    def obey(self, message: Message) -> None:
        """Do what one message says; raises KeyError, TypeError or ValueError when it is none of ours."""
        match message["op"]:
            case "launch":
                self.launch(InstanceSpec.from_message(message["spec"]))
            case "stop":
                self.stop(message["instance_id"])
            case "forget":
                self.forget(message["instance_id"])
            case other:
                raise ValueError(f"unknown op {other!r}")

    async def close(self, seconds: float) -> None:
        """Stop all instances and wait for their end, at most so long; then tell it and end all links."""
        self._closing = True
        for life, _living in self._lives.values():
            life.stop()
        living = [living for _life, living in self._lives.values()]
        if living:
            await asyncio.wait(living, timeout=seconds)
        self._reports.close()
        await self._tasks.close()

    def __repr__(self) -> str:
        return f"<Agent: {len(self._lives)} living | {self._reports!r}>"
