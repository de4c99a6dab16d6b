"""A node agent that runs nothing: it says of each instance what a script says, over any link.

It checks what must always hold: no instance that has been launched is launched again as another one, and no
instance is stopped that a gateway may still send to (``stopping`` is told before).
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from moorage.base.clock import Clock
from moorage.base.link import Link, LinkClosed, Message
from moorage.base.tasks import Tasks
from moorage.engine.contract import ENDED, Failure, InstanceReport, InstanceSpec, InstanceState


@dataclass(frozen=True, slots=True)
class Script:
    """The life of one instance; times in seconds."""

    ready_after: float = 1.0
    fails_after: float | None = None
    """Never becomes ready, and ends after so long."""
    failure: Failure = Failure.HEALTH_CHECK
    failing_container: int = 0
    """Which of its containers it is that fails, counted from 0."""
    message: str = ""
    log_tail: str = ""
    dies_after: float | None = None
    """Ends by itself so long after it was ready."""
    stop_seconds: float = 0.5
    """From the order to stop to the end."""
    address: str | None = None
    """``unix:PATH``, ``dial:PATH`` or ``host:port``; None makes one up."""


Scripts = Callable[[InstanceSpec], Script]


class FakeNode:
    """A node agent with a script per instance."""

    def __init__(self, clock: Clock, tasks: Tasks, scripts: Scripts = lambda _spec: Script()) -> None:
        self._clock = clock
        self._tasks = tasks
        self._scripts = scripts
        self._links: set[Link] = set()
        self._reports: dict[str, InstanceReport] = {}
        self._known: dict[str, Script] = {}
        self.gpu_driver = ""
        """Version of the driver that it says its GPUs have."""
        self.machine: dict[str, float] = {"vcpus": 4, "memory_mib": 16_384, "gpus": 0}
        """What it says that the machine has."""
        self.refuses: dict[str, str] = {}
        """What it says that no engine keeps, by member of the API."""
        self.specs: dict[str, InstanceSpec] = {}
        """What it was told of each instance, by its id."""
        self.calls: list[tuple[str, str]] = []
        """What was asked for, in order: operation and instance id."""
        self.stopping: Callable[[str], None] = lambda _instance_id: None
        """Told of each order to stop."""

    @property
    def reports(self) -> Mapping[str, InstanceReport]:
        """What it would report now, by instance id."""
        return dict(self._reports)

    @property
    def alive(self) -> dict[str, InstanceReport]:
        """The instances that have not ended."""
        return {i: report for i, report in self._reports.items() if report.state not in ENDED}

    async def serve(self, link: Link) -> None:
        """Answer one call, until the caller goes."""
        self._links.add(link)
        try:
            everything = [report.to_message() for report in self._reports.values()]
            about = {"machine": {**self.machine, "gpu_driver": self.gpu_driver}, "refuses": self.refuses}
            await link.send({"op": "report", "complete": True, "instances": everything, **about})
            async for message in link.messages():
                await self._hear(message)
        except LinkClosed:
            pass
        finally:
            self._links.discard(link)

    async def _hear(self, message: Message) -> None:
        match message["op"]:
            case "launch":
                spec = InstanceSpec.from_message(message["spec"])
                self.calls.append(("launch", spec.instance_id))
                if spec.instance_id not in self._reports:
                    self._launch(spec)
            case "stop":
                self.calls.append(("stop", message["instance_id"]))
                await self._stop(message["instance_id"])
            case "forget":
                self.calls.append(("forget", message["instance_id"]))
                self._reports.pop(message["instance_id"], None)

    def _launch(self, spec: InstanceSpec) -> None:
        self.specs[spec.instance_id] = spec
        script = self._known[spec.instance_id] = self._scripts(spec)
        self._reports[spec.instance_id] = InstanceReport(
            instance_id=spec.instance_id,
            endpoint=spec.endpoint,
            variant=spec.variant,
            state=InstanceState.STARTING,
            since=self._clock.now(),
            resolved_images=tuple(f"{c.image.split(':')[0]}@sha256:{'0' * 64}" for c in spec.containers),
            account=spec.account,
            region=spec.region,
        )
        self._tasks.start(f"instance {spec.instance_id}", self._live(spec, script))

    async def _live(self, spec: InstanceSpec, script: Script) -> None:
        instance_id, born = spec.instance_id, self._reports[spec.instance_id]
        await self._tell(instance_id)
        if script.fails_after is not None:
            await self._pass(script.fails_after)
            failed = dataclasses.replace(
                born,
                state=InstanceState.FAILED,
                failure=script.failure,
                container=spec.containers[script.failing_container].name,
                message=script.message,
                log_tail=script.log_tail,
            )
            await self._change(born, failed)
            return
        await self._pass(script.ready_after)
        ready = dataclasses.replace(
            born,
            state=InstanceState.READY,
            address=script.address or f"unix:/run/{instance_id}.sock",
            pid=1000 + len(self._known),
        )
        await self._change(born, ready)
        if script.dies_after is not None:
            await self._pass(script.dies_after)
            await self.kill(instance_id)

    async def _pass(self, seconds: float) -> None:
        await self._clock.sleep_until(self._clock.monotonic() + seconds)

    async def _change(self, before: InstanceReport, after: InstanceReport) -> None:
        """Go on to the next state, unless something else has happened to the instance meanwhile."""
        if (now := self._reports.get(before.instance_id)) is not None and now.state == before.state:
            self._reports[before.instance_id] = dataclasses.replace(after, since=self._clock.now())
            await self._tell(before.instance_id)

    async def _stop(self, instance_id: str) -> None:
        report = self._reports.get(instance_id)
        if report is None or report.state in ENDED or report.state == InstanceState.STOPPING:
            return
        self.stopping(instance_id)
        self._reports[instance_id] = dataclasses.replace(report, state=InstanceState.STOPPING, since=self._clock.now())
        await self._tell(instance_id)
        self._tasks.start(f"end of {instance_id}", self._end(self._reports[instance_id]))

    async def _end(self, stopping: InstanceReport) -> None:
        await self._pass(self._known[stopping.instance_id].stop_seconds)
        await self._change(stopping, dataclasses.replace(stopping, state=InstanceState.STOPPED))

    async def kill(self, instance_id: str) -> None:
        """End an instance from outside, as ``kill -9`` does."""
        report = self._reports.get(instance_id)
        if report is None or report.state in ENDED:
            return
        ready = report.state in {InstanceState.READY, InstanceState.UNHEALTHY}
        state = InstanceState.EXITED if ready else InstanceState.FAILED
        failure = None if ready else Failure.START
        self._reports[instance_id] = dataclasses.replace(report, state=state, failure=failure, since=self._clock.now())
        await self._tell(instance_id)

    async def restart(self) -> None:
        """Lose everything, as a node agent does that is killed: its instances end with it."""
        self._reports.clear()
        for link in list(self._links):
            await link.close()

    async def _tell(self, instance_id: str) -> None:
        report = self._reports.get(instance_id)
        if report is None:
            return
        for link in list(self._links):
            try:
                await link.send({"op": "report", "complete": False, "instances": [report.to_message()]})
            except LinkClosed:
                self._links.discard(link)
