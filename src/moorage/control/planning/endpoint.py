"""What an endpoint needs next: ``plan(record, instances, observed, now, patience)``.

One pass looks at everything afresh and remembers nothing: each of its steps may be repeated, left half done by a
crash, or overtaken by news, and the next pass finds its way from what is there. An instance's life in the store:

    recorded ─► launched ─► ready, routed to ─► retired ─► out of the routing, drained ─► stopped ─► forgotten

An instance that is recorded and that the node agent does not know was never launched, or ended with its node: in
both cases it is launched (again). One that has ended is forgotten, and missed like one that never was.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from moorage.control.planning.failures import NO_CAPACITY, crash_loop_reason, failure_reason
from moorage.control.planning.observed import Observed, Patience
from moorage.control.planning.routes import route_of
from moorage.control.planning.status import Event, follow
from moorage.engine.contract import ENDED, InstanceReport, InstanceState
from moorage.routing.snapshot import Endpoint
from moorage.state.records import DeployedVariant, EndpointRecord, EndpointStatus, InstanceRecord

_LEAVING = frozenset({EndpointStatus.DELETING, EndpointStatus.FAILED})


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now, in the order of the fields, and when to look again."""

    endpoint: EndpointRecord | None
    """What to record; None: nothing is left of it, delete the record."""
    route: Endpoint | None = None
    """What to publish."""
    add: tuple[str, ...] = ()
    """Variants that get a new instance each: recorded, then launched."""
    retire: tuple[str, ...] = ()
    """Instances to take out of service for good."""
    launch: tuple[InstanceRecord, ...] = ()
    """Recorded instances that the node agent does not know."""
    stop: tuple[str, ...] = ()
    """Retired instances that no gateway uses any more."""
    forget: tuple[str, ...] = ()
    """Instances that have ended: delete the record."""
    wake_at: float | None = None
    """When to look again if nothing happens before."""


@dataclass(slots=True)
class _Draft:
    """The plan while it is made."""

    add: list[str] = field(default_factory=list)
    retire: list[str] = field(default_factory=list)
    launch: list[InstanceRecord] = field(default_factory=list)
    wake: list[float] = field(default_factory=list)


def plan(
    endpoint: EndpointRecord,
    instances: Sequence[InstanceRecord],
    observed: Observed,
    now: float,
    patience: Patience,
) -> Plan:
    """Compare what is desired with what is there, and say what to do about it."""
    forget = tuple(i.instance_id for i in instances if _has_ended(i, observed))
    there = [i for i in instances if i.instance_id not in forget]
    draft = _Draft()
    if endpoint.status in _LEAVING:
        draft.retire.extend(i.instance_id for i in there if i.retired_at is None)
        after: EndpointRecord | None = endpoint
        if endpoint.status == EndpointStatus.DELETING and not instances and _withdrawn(observed):
            after = None
    else:
        after = _keep(endpoint, instances, observed, now, patience, draft)
    stop, drain_ends = _stops(there, observed, now, patience)
    draft.wake.extend(drain_ends)
    kept = [i for i in there if i.instance_id not in draft.retire]
    return Plan(
        endpoint=after,
        route=route_of(after, kept, observed.reports) if after is not None else None,
        add=tuple(draft.add),
        retire=tuple(draft.retire),
        launch=tuple(draft.launch),
        stop=stop,
        forget=forget,
        wake_at=min(draft.wake, default=None),
    )


def _has_ended(instance: InstanceRecord, observed: Observed) -> bool:
    report = observed.reports.get(instance.instance_id)
    if report is None:
        return instance.retired_at is not None
    return report.state in ENDED


def _withdrawn(observed: Observed) -> bool:
    return observed.route is None and observed.route_in_force


def _stops(
    there: Sequence[InstanceRecord], observed: Observed, now: float, patience: Patience
) -> tuple[tuple[str, ...], list[float]]:
    """Choose the retired instances to stop now, and give the ends of the others' waits."""
    routed = _routed(observed.route)
    stop, waits = [], []
    for instance in there:
        report = observed.reports.get(instance.instance_id)
        if instance.retired_at is None or report is None or report.state == InstanceState.STOPPING:
            continue
        deadline = instance.retired_at + patience.drain_seconds
        if now >= deadline or instance.instance_id not in routed | observed.in_use:
            stop.append(instance.instance_id)
        else:
            waits.append(deadline)
    return tuple(stop), waits


def _routed(route: Endpoint | None) -> frozenset[str]:
    if route is None:
        return frozenset()
    return frozenset(instance.instance_id for variant in route.variants for instance in variant.instances)


def _keep(  # noqa: PLR0913, PLR0917 - plan's own arguments and its draft
    endpoint: EndpointRecord,
    instances: Sequence[InstanceRecord],
    observed: Observed,
    now: float,
    patience: Patience,
    draft: _Draft,
) -> EndpointRecord:
    """Plan for an endpoint that is to serve."""
    fleets = [_Fleet.of(variant, instances, observed) for variant in endpoint.variants]
    if reason := _failure(endpoint, fleets, now, patience):
        return _failed(endpoint, reason, now)
    names = {variant.name for variant in endpoint.variants}
    draft.retire.extend(i.instance_id for i in instances if i.variant not in names and i.retired_at is None)
    variants = tuple(_keep_variant(fleet, now, patience, draft) for fleet in fleets)
    after = replace(endpoint, variants=variants)
    if endpoint.status == EndpointStatus.IN_SERVICE:
        return after
    if endpoint.status != EndpointStatus.ROLLING_BACK:
        draft.wake.append(_change_began_at(endpoint) + patience.change_seconds)
    if not _settled(after, fleets, instances, observed):
        return after
    variants = tuple(replace(variant, previous_count=None, previous_weight=None) for variant in variants)
    return replace(after, variants=variants, status=follow(endpoint.status, Event.SETTLED), modified_at=now)


@dataclass(frozen=True, slots=True)
class _Fleet:
    """The instances of one variant, sorted by what is to be done about them."""

    variant: DeployedVariant
    live: tuple[tuple[InstanceRecord, InstanceReport | None], ...]
    """Neither retired nor ended."""
    lost: tuple[InstanceReport, ...]
    """Ended by themselves."""
    leaving: int
    """How many are retired and still there."""

    @classmethod
    def of(cls, variant: DeployedVariant, instances: Sequence[InstanceRecord], observed: Observed) -> "_Fleet":
        """Sort a variant's instances."""
        mine = [(i, observed.reports.get(i.instance_id)) for i in instances if i.variant == variant.name]
        serving = [(i, report) for i, report in mine if i.retired_at is None]
        return cls(
            variant=variant,
            live=tuple((i, report) for i, report in serving if report is None or report.state not in ENDED),
            lost=tuple(report for _, report in serving if report is not None and report.state in ENDED),
            leaving=sum(1 for i, _ in mine if i.retired_at is not None),
        )

    @property
    def ready(self) -> list[InstanceReport]:
        """Give the reports of those that take invocations."""
        return [r for _, r in self.live if r is not None and r.state == InstanceState.READY]


def _failure(endpoint: EndpointRecord, fleets: Sequence[_Fleet], now: float, patience: Patience) -> str | None:
    """Say why what was asked for cannot be had, if it cannot."""
    if endpoint.status not in {EndpointStatus.CREATING, EndpointStatus.UPDATING}:
        return None
    # Only the variants whose capacity is being changed can fail a change: the others are repaired meanwhile.
    concerned = [
        fleet
        for fleet in fleets
        if endpoint.status == EndpointStatus.CREATING or fleet.variant.previous_count is not None
    ]
    for fleet in concerned:
        for report in fleet.lost:
            if report.state == InstanceState.FAILED:
                return failure_reason(fleet.variant, report)
        if fleet.variant.setbacks + bool(fleet.lost) > patience.setbacks:
            return crash_loop_reason(fleet.variant, fleet.lost[0] if fleet.lost else None)
    if concerned and now >= _change_began_at(endpoint) + patience.change_seconds:
        return NO_CAPACITY
    return None


def _change_began_at(endpoint: EndpointRecord) -> float:
    return endpoint.modified_at


def _failed(endpoint: EndpointRecord, reason: str, now: float) -> EndpointRecord:
    """Give up a creation, or go back to what was before a change."""
    status = follow(endpoint.status, Event.FAILED)
    variants = endpoint.variants
    if status == EndpointStatus.ROLLING_BACK:
        variants = tuple(_rolled_back(variant) for variant in variants)
    return replace(endpoint, variants=variants, status=status, failure_reason=reason, modified_at=now)


def _rolled_back(variant: DeployedVariant) -> DeployedVariant:
    count, weight = variant.previous_count, variant.previous_weight
    return replace(
        variant,
        desired_count=variant.desired_count if count is None else count,
        desired_weight=variant.desired_weight if weight is None else weight,
        previous_count=None,
        previous_weight=None,
    )


def _keep_variant(fleet: _Fleet, now: float, patience: Patience, draft: _Draft) -> DeployedVariant:
    """Bring one variant to its number of instances."""
    variant = _count_setbacks(_learn_images(fleet), fleet, now, patience, draft)
    surplus = len(fleet.live) - variant.desired_count
    if surplus > 0:
        draft.retire.extend(instance.instance_id for instance, _ in _least_useful(fleet)[:surplus])
    draft.launch.extend(
        instance for instance, report in fleet.live if report is None and instance.instance_id not in draft.retire
    )
    if surplus < 0:
        if now >= variant.launch_not_before:
            draft.add.extend([variant.name] * -surplus)
        else:
            draft.wake.append(variant.launch_not_before)
    return variant


def _least_useful(fleet: _Fleet) -> list[tuple[InstanceRecord, InstanceReport | None]]:
    """Order the instances: what does not serve goes before what does, the younger before the older."""
    return sorted(
        fleet.live,
        key=lambda pair: (
            pair[1] is not None and pair[1].state == InstanceState.READY,
            -pair[0].created_at,
        ),
    )


def _count_setbacks(
    variant: DeployedVariant, fleet: _Fleet, now: float, patience: Patience, draft: _Draft
) -> DeployedVariant:
    if fleet.lost:
        setbacks = variant.setbacks + 1
        return replace(variant, setbacks=setbacks, launch_not_before=now + patience.delay_after(setbacks))
    if variant.setbacks and len(fleet.ready) >= variant.desired_count:
        calm_at = max((report.since for report in fleet.ready), default=now) + patience.calm_seconds
        if now >= calm_at:
            return replace(variant, setbacks=0, launch_not_before=0.0)
        draft.wake.append(calm_at)
    return variant


def _learn_images(fleet: _Fleet) -> DeployedVariant:
    """Note which image each container really runs, once an instance tells."""
    variant = fleet.variant
    told = next((report for report in fleet.ready if report.resolved_images), None)
    if told is None or all(container.resolved_image for container in variant.containers):
        return variant
    containers = tuple(
        replace(container, resolved_image=image, resolved_at=told.since)
        for container, image in zip(variant.containers, told.resolved_images, strict=False)
    )
    return replace(variant, containers=containers + variant.containers[len(containers) :])


def _settled(
    endpoint: EndpointRecord,
    fleets: Sequence[_Fleet],
    instances: Sequence[InstanceRecord],
    observed: Observed,
) -> bool:
    """Say whether everything that was asked for is so, and the gateways route by it."""
    if not (observed.route_in_force and observed.route is not None):
        return False
    if route_of(endpoint, instances, observed.reports) != observed.route:
        return False
    return all(_has_arrived(endpoint.status, fleet) for fleet in fleets)


def _has_arrived(status: EndpointStatus, fleet: _Fleet) -> bool:
    wanted = fleet.variant.desired_count
    if status == EndpointStatus.ROLLING_BACK:
        # What was there before may be under repair; only what the change had added must be gone.
        return not fleet.leaving and len(fleet.live) <= wanted
    if status == EndpointStatus.UPDATING and fleet.variant.previous_count is None:
        return True
    return len(fleet.live) == wanted and len(fleet.ready) == wanted and not fleet.leaving
