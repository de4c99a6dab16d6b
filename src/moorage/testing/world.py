"""A whole control plane under virtual time, with a fake node agent and a fake gateway, that can be killed anywhere.

The store is a real file. *Points* lie before and after each effect on the world (a commit, a snapshot written, an
order to the node agent); ``Killer`` ends the control plane at the one that a test names, and ``until`` starts it
again. Time passes only in ``until`` and ``pass_time``.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import orjson
from sqlalchemy import Connection

from moorage.base.ids import CountingIds
from moorage.base.link import Link
from moorage.base.tasks import Tasks
from moorage.control.capacity import Capacity
from moorage.control.dispatch import OPERATIONS
from moorage.control.events import Recorder
from moorage.control.node_link import NodeLink
from moorage.control.operations.call import Call, Services
from moorage.control.planning.observed import Patience
from moorage.control.publish import Publisher
from moorage.control.reconcile import Reconciler, World
from moorage.engine.contract import InstanceSpec, ModelSource
from moorage.routing.snapshot import Snapshot
from moorage.state.events import Retention
from moorage.state.records import EndpointKey
from moorage.state.store import InlineStore
from moorage.testing.builders import ACCOUNT, IMAGE, REGION
from moorage.testing.fake_gateway import FakeGateway, instances_of
from moorage.testing.fake_node import FakeNode, Script, Scripts
from moorage.testing.links import join
from moorage.testing.virtual_time import VirtualClock

T = TypeVar("T")

_STEP_SECONDS = 0.05
_RESTART_SECONDS = 0.2

_NONE: Mapping[str, int] = {}

PATIENCE = Patience(drain_seconds=20.0, capacity_seconds=300.0, download_seconds=60.0, startup_seconds=240.0)


class Killer:
    """Counts the points that are passed, and ends the control plane at one of them."""

    def __init__(self, at: int | None = None) -> None:
        self._at = at
        self.passed = 0
        self.struck = False
        self.armed = False

    async def point(self) -> None:
        """Pass a point, or never come back."""
        if self.armed:
            self.passed += 1
            if self.passed - 1 == self._at:
                self.struck = True
                await asyncio.Event().wait()


class _Store(InlineStore):
    """A store with points around each commit."""

    def __init__(self, path: Path, killer: Killer) -> None:
        super().__init__(path)
        self._killer = killer

    async def transact(self, work: Callable[[Connection], T]) -> T:
        """Do work in one transaction."""
        await self._killer.point()
        result = await super().transact(work)
        await self._killer.point()
        return result


class _Node(NodeLink):
    """A link to the node agent with points around each order."""

    def __init__(self, connect: Callable[[], Awaitable[Link]], killer: Killer) -> None:
        super().__init__(connect, VirtualClock())
        self._killer = killer

    async def launch(self, spec: InstanceSpec) -> None:
        """Ask for an instance."""
        await self._killer.point()
        await super().launch(spec)
        await self._killer.point()

    async def stop(self, instance_id: str) -> None:
        """Ask for an instance's end."""
        await self._killer.point()
        await super().stop(instance_id)
        await self._killer.point()

    async def forget(self, key: EndpointKey, instance_id: str) -> None:
        """Let go of a report."""
        await self._killer.point()
        await super().forget(key, instance_id)
        await self._killer.point()


class ControlWorld:
    """One control plane after another, and what stays when it dies."""

    def __init__(  # noqa: PLR0913 - what a test may want to be otherwise
        self,
        folder: Path,
        *,
        scripts: Scripts = lambda _spec: Script(),
        killer: Killer | None = None,
        apply_seconds: float = 0.0,
        drain_seconds: float = 0.0,
        strict: bool = False,
    ) -> None:
        self.clock = VirtualClock()
        self.killer = killer or Killer()
        self.violations: list[str] = []
        self.quotas: dict[str, int] = {}
        """Limits of instances, by AWS's names."""
        self.capacity = Capacity(lambda: self.link.machine, strict=strict, gpu_driver=lambda: self.link.gpu_driver)
        self._folder = folder
        self._others = Tasks()
        self._saved = orjson.dumps(Snapshot(0).to_message())
        self._ids = CountingIds()
        self.node = FakeNode(self.clock, self._others, scripts)
        self.node.stopping = self._check_stop
        self.gateway = FakeGateway(self.clock, apply_seconds=apply_seconds, drain_seconds=drain_seconds)
        self._start()

    def _check_stop(self, instance_id: str) -> None:
        if instance_id in self.gateway.uses:
            self.violations.append(f"{instance_id} is stopped while a gateway uses it")

    def _start(self) -> None:
        self._tasks = Tasks()
        self.store = _Store(self._folder / "state.db", self.killer)
        self.publisher = Publisher(Snapshot.from_message(orjson.loads(self._saved)), self._save, self._tasks)
        self.link = _Node(self._connect, self.killer)
        recorder = Recorder(self.link, self.publisher, self.clock, self._ids, Retention(1000, 1e9))
        self.store.call_witness(recorder.witness)
        self.reconciler = Reconciler(
            World(
                store=self.store,
                node=self.link,
                publisher=self.publisher,
                recorder=recorder,
                clock=self.clock,
                ids=self._ids,
                patience=PATIENCE,
                capacity=self.capacity,
                started_at=self.clock.now(),
            ),
            self._tasks,
        )
        self._tasks.start("node link", self.link.run(self.reconciler.wake_all))
        self._tasks.start("gateways to be met", self.publisher.meet(self.reconciler.wake_all))
        near, far = join()
        self._tasks.start("snapshots", self.publisher.serve(near))
        self._others.start("gateway", self.gateway.call(far))
        self._gateway_link = far

    async def _save(self, content: bytes) -> None:
        await self.killer.point()
        self._saved = content
        await self.killer.point()

    async def _connect(self) -> Link:
        near, far = join()
        self._others.start("node", self.node.serve(far))
        return near

    async def restart(self) -> None:
        """Kill the control plane, and start another one a moment later."""
        await self._tasks.close()
        await self._gateway_link.close()
        self.store.close()
        self.killer.struck = False
        await self.pass_time(_RESTART_SECONDS)
        self._start()

    async def close(self) -> None:
        """End everything."""
        await self._tasks.close()
        await self._others.close()
        self.store.close()

    async def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        await self.clock.sleep_until(self.clock.monotonic() + seconds)

    async def ask(self, operation: str, **members: Any) -> dict[str, Any]:
        """Call an operation as a client does."""
        armed, self.killer.armed = self.killer.armed, False
        try:
            return await OPERATIONS[operation](self._call(), members)
        finally:
            self.killer.armed = armed

    def _call(self) -> Call:
        async def has_data(_account: str, _source: ModelSource) -> bool:
            return True

        services = Services(
            self.store, self.clock, self.link, self.publisher, lambda _uri: True, has_data, self.capacity, self.quotas
        )
        return Call(services, ACCOUNT, REGION, round(self.clock.now(), 3))

    async def until(self, done: Callable[[], Awaitable[bool]], seconds: float = 120.0) -> None:
        """Let time pass until something holds, starting the control plane again where it is killed."""
        deadline = self.clock.monotonic() + seconds
        while True:
            if self.killer.struck:
                await self.restart()
            if await done():
                return
            if self.clock.monotonic() >= deadline:
                raise AssertionError(f"not so after {seconds} s; the node agent was told {self.node.calls}")
            await self.pass_time(_STEP_SECONDS)

    async def status(self, name: str = "ep") -> str | None:
        """Give an endpoint's status; None when there is none."""
        listed = await self.ask("ListEndpoints")
        return next((e["EndpointStatus"] for e in listed["Endpoints"] if e["EndpointName"] == name), None)

    async def until_status(self, wanted: str | None, name: str = "ep", seconds: float = 120.0) -> None:
        """Let time pass until an endpoint has a status; None waits for its end."""

        async def done() -> bool:
            return await self.status(name) == wanted

        await self.until(done, seconds)

    async def create(
        self,
        counts: Mapping[str, int],
        name: str = "ep",
        source: str = "ep",
        *,
        shadows: Mapping[str, int] = _NONE,
        capture: Mapping[str, Any] | None = None,
    ) -> None:
        """Make an endpoint with a variant per entry from a new model and configuration; it is not waited for."""
        await self.configure(counts, source, shadows=shadows, capture=capture)
        await self.ask("CreateEndpoint", EndpointName=name, EndpointConfigName=f"{source}-config")

    async def deploy(
        self,
        counts: Mapping[str, int],
        source: str,
        name: str = "ep",
        *,
        shadows: Mapping[str, int] = _NONE,
        capture: Mapping[str, Any] | None = None,
        **members: Any,
    ) -> None:
        """Update an endpoint to a new model and configuration with a variant per entry; it is not waited for."""
        await self.configure(counts, source, shadows=shadows, capture=capture)
        await self.ask("UpdateEndpoint", EndpointName=name, EndpointConfigName=f"{source}-config", **members)

    async def configure(
        self,
        counts: Mapping[str, int],
        source: str,
        *,
        shadows: Mapping[str, int] = _NONE,
        capture: Mapping[str, Any] | None = None,
    ) -> None:
        """Make a model and an endpoint configuration with a variant per entry, production and shadow."""
        await self.ask("CreateModel", ModelName=f"{source}-model", PrimaryContainer={"Image": IMAGE})
        production, shadow = (
            [
                {
                    "VariantName": variant,
                    "ModelName": f"{source}-model",
                    "InstanceType": "ml.m5.large",
                    "InitialInstanceCount": count,
                }
                for variant, count in group.items()
            ]
            for group in (counts, shadows)
        )
        members: dict[str, Any] = {"ProductionVariants": production}
        if shadow:
            members["ShadowProductionVariants"] = shadow
        if capture is not None:
            members["DataCaptureConfig"] = capture
        await self.ask("CreateEndpointConfig", EndpointConfigName=f"{source}-config", **members)

    @property
    def routed(self) -> frozenset[str]:
        """The instances that the gateway routes to."""
        return instances_of(self.gateway.snapshot)
