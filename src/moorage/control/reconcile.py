"""The loops that make endpoints become what was asked: observe, plan, act, come back.

One worker per endpoint, so that two passes of one endpoint never overlap; it ends when there is nothing to wait
for. Woken by the change feed of the store, by reports of the node agent, by answers of gateways and by the plan's
own wake time; why it was woken does not matter, each pass looks at everything. The order of acting is

    record ─► launch ─► publish ─► stop, forget

so that whatever exists was recorded first, what takes longest begins soonest, and nothing is stopped that a gateway
still sends to.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from moorage.base.clock import Clock
from moorage.base.ids import Ids
from moorage.base.tasks import Tasks
from moorage.control import decided
from moorage.control.capacity import Capacity
from moorage.control.events import Recorder
from moorage.control.node_link import NodeLink
from moorage.control.planning import summary
from moorage.control.planning.endpoint import Plan, plan
from moorage.control.planning.failures import in_brief
from moorage.control.planning.observed import Observed, Patience
from moorage.control.planning.specs import make_spec
from moorage.control.publish import Publisher
from moorage.engine.contract import ENDED, InstanceReport
from moorage.state import endpoints, instances, tags
from moorage.state.endpoints import ChangedMeanwhile
from moorage.state.records import EndpointKey, EndpointRecord, InstanceRecord, Kind, ResourceKey
from moorage.state.store import Store

log = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class World:
    """What the reconciler works on and with."""

    store: Store
    node: NodeLink
    publisher: Publisher
    recorder: Recorder
    clock: Clock
    ids: Ids
    patience: Patience
    capacity: Capacity
    started_at: float
    """When this control plane began to listen to gateways, in seconds since the epoch."""


class Reconciler:
    """The workers of all endpoints."""

    def __init__(self, world: World, tasks: Tasks) -> None:
        self._world = world
        self._tasks = tasks
        self._bells: dict[EndpointKey, asyncio.Event] = {}
        world.store.listen(self.wake)
        world.node.tell(self.wake)
        world.publisher.tell(self.wake)

    def __repr__(self) -> str:
        return f"<Reconciler: {len(self._bells)} endpoints at work>"

    def wake(self, keys: Iterable[EndpointKey]) -> None:
        """Have endpoints looked at soon."""
        for key in keys:
            if (bell := self._bells.get(key)) is not None:
                bell.set()
            else:
                bell = self._bells[key] = asyncio.Event()
                self._tasks.start(f"endpoint {key.name}", self._work(key, bell))

    def wake_all(self) -> None:
        """Have all endpoints looked at, and what runs or is routed to without one."""
        self._tasks.start("wake all endpoints", self._wake_all())

    async def _wake_all(self) -> None:
        recorded = await self._world.store.read(endpoints.read_keys)
        reports = self._world.node.all_reports()
        running = {EndpointKey(report.account, report.region, report.endpoint) for report in reports}
        self.wake({*recorded, *running, *self._world.publisher.published})

    async def _work(self, key: EndpointKey, bell: asyncio.Event) -> None:
        try:
            while True:
                bell.clear()
                wake_at = await self._attempt(key)
                if wake_at is None and not bell.is_set():
                    return
                await self._wait(bell, wake_at)
        finally:
            del self._bells[key]

    async def _attempt(self, key: EndpointKey) -> float | None:
        try:
            return await pass_over(key, self._world)
        except ChangedMeanwhile:
            return self._world.clock.now()
        except Exception:
            log.exception("endpoint %s: a pass failed and will be tried again", key.name)
            return self._world.clock.now() + _RETRY_SECONDS

    async def _wait(self, bell: asyncio.Event, wake_at: float | None) -> None:
        seconds = None if wake_at is None else max(0.0, wake_at - self._world.clock.now())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await bell.wait()


async def pass_over(key: EndpointKey, world: World) -> float | None:
    """Look at one endpoint once and do what is next; give the time to look again."""
    if not (world.node.known and world.publisher.ready):
        return None  # each of the two wakes all endpoints when it is
    # Reports before records: what runs was recorded before it was launched, so a report without a record is a stray.
    reports = world.node.reports_of(key)
    endpoint, recorded, tagged = await world.store.read(lambda connection: _read(connection, key))
    await _remove_strays(key, reports, recorded, world)
    if endpoint is None:
        await world.publisher.publish_route(key, None)
        return None
    observed = Observed(
        reports=reports,
        route=world.publisher.route_of(key),
        route_in_force=world.publisher.in_force(key),
        in_use=world.publisher.in_use() | _unheard_of(recorded, world),
    )
    found = _Found(endpoint, recorded, tagged, observed)
    made = plan(endpoint, recorded, observed, world.clock.now(), world.patience)
    if not await _act(found, made, world):
        await _tell_of_variants(found, world)
    return made.wake_at


@dataclass(frozen=True, slots=True)
class _Found:
    """What a pass has found of its endpoint."""

    endpoint: EndpointRecord
    recorded: Sequence[InstanceRecord]
    tagged: Mapping[str, str]
    observed: Observed


async def _tell_of_variants(found: _Found, world: World) -> None:
    """Record a VariantStatus that has changed while nothing of the endpoint's record has: it follows from reports."""
    described = summary.describe(found.endpoint, found.recorded, found.observed.reports, found.observed.route)
    if world.recorder.is_news(found.endpoint.key, described):
        await world.store.transact(lambda connection: world.recorder.record(connection, found.endpoint.key))


def _read(
    connection: Connection, key: EndpointKey
) -> tuple[EndpointRecord | None, list[InstanceRecord], Mapping[str, str]]:
    tagged = tags.read(connection, ResourceKey(key.account, key.region, Kind.ENDPOINT, key.name))
    return endpoints.find(connection, key), instances.of_endpoint(connection, key), tagged


def _unheard_of(recorded: Sequence[InstanceRecord], world: World) -> set[str]:
    """Give the instances that may be in use although no gateway has told this control plane of it.

    Those that were retired under another control plane, whose draining may have been missed; and those that had left
    the routing under it while a gateway still went by the one before.
    """
    heard_by = world.started_at + world.patience.drain_seconds
    return {
        i.instance_id
        for i in recorded
        if i.retired_at is not None
        and (
            i.retired_at < world.started_at
            or (
                i.created_at < world.started_at and i.retired_at < heard_by and not world.publisher.found(i.instance_id)
            )
        )
    }


async def _remove_strays(
    key: EndpointKey,
    reports: Mapping[str, InstanceReport],
    recorded: Sequence[InstanceRecord],
    world: World,
) -> None:
    known = {instance.instance_id for instance in recorded}
    for instance_id, report in reports.items():
        if instance_id in known:
            continue
        if report.state in ENDED:
            await world.node.forget(key, instance_id)
        else:
            await world.node.stop(instance_id)


async def _act(found: _Found, made: Plan, world: World) -> bool:
    """Do what is planned; says whether anything of it was recorded."""
    endpoint, now, launch = found.endpoint, world.clock.now(), made.launch
    decision = decided.decide(made, endpoint, found.recorded, now, world.ids)
    if decision.changes_anything:
        after = await world.store.transact(lambda c: decided.record(c, decision, world.capacity, world.recorder))
        _say(endpoint, made, decision.added)
        if decision.added and made.endpoint is not None:
            # They are recorded now, so that they may be launched without another look at the store.
            launch = plan(made.endpoint, after, found.observed, now, world.patience).launch
    elif any(instance.waits_for for instance in found.recorded):
        # Others may have gone by now, or the machine be another: who waits asks again.
        await world.store.transact(lambda c: decided.settle(c, world.capacity, world.recorder))
    if made.endpoint is not None:
        for instance in launch:
            await world.node.launch(make_spec(made.endpoint, instance, world.patience))
    await world.publisher.publish_route(endpoint.key, made.route, found.tagged)
    for instance_id in made.stop:
        await world.node.stop(instance_id)
    for instance_id in made.forget:
        await world.node.forget(endpoint.key, instance_id)
    return decision.changes_anything


def _say(endpoint: EndpointRecord, made: Plan, added: Sequence[InstanceRecord]) -> None:
    name, after = endpoint.name, made.endpoint
    for instance in added:
        log.info("endpoint %s: variant %s gets instance %s", name, instance.variant, instance.instance_id)
    for instance_id in made.retire:
        log.info("endpoint %s: instance %s leaves", name, instance_id)
    for instance_id in made.forget:
        log.info("endpoint %s: instance %s has ended", name, instance_id)
    if after is None:
        log.info("endpoint %s: deleted", name)
        return
    if after.status != endpoint.status:
        log.info("endpoint %s: %s -> %s", name, endpoint.status, after.status)
    before, now = endpoint.deployment, after.deployment
    if before is not None and now is not None and before.stage != now.stage:
        log.info("endpoint %s: deployment of %s: %s -> %s", name, now.config_name, before.stage, now.stage)
    if after.failure_reason and after.failure_reason != endpoint.failure_reason:
        brief = f"endpoint {name}: {in_brief(after.failure_reason)} (more: moorage logs {name})"
        log.warning("endpoint %s: %s", name, after.failure_reason, extra={"in_brief": brief})
