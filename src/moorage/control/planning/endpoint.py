"""What an endpoint needs next: ``plan(record, instances, observed, now, patience)``.

One pass looks at everything afresh and remembers nothing: each of its steps may be repeated, left half done by a
crash, or overtaken by news, and the next pass finds its way from what is there. An instance's life in the store:

    recorded ─► launched ─► ready, routed to ─► retired ─► out of the routing, drained ─► stopped ─► forgotten

An instance that is recorded and that the node agent does not know was never launched, or ended with its node: in
both cases it is launched (again). One that has ended is forgotten, and missed like one that never was.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from moorage.control.planning.deployment import roll_out
from moorage.control.planning.fleets import Draft, Fleet, Place, keep_fleets, place_of, why_it_fails
from moorage.control.planning.observed import Observed, Patience
from moorage.control.planning.routes import is_in_force, route_of
from moorage.control.planning.status import Event, follow
from moorage.engine.contract import ENDED, Failure, InstanceState
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
    add: tuple[Place, ...] = ()
    """Where a new instance each is needed: recorded, then launched."""
    retire: tuple[str, ...] = ()
    """Instances to take out of service for good."""
    launch: tuple[InstanceRecord, ...] = ()
    """Recorded instances that the node agent does not know."""
    stop: tuple[str, ...] = ()
    """Retired instances that no gateway uses any more."""
    forget: tuple[str, ...] = ()
    """Instances that have ended: delete the record."""
    notices: tuple[str, ...] = ()
    """What to tell people, as events; recorded with the rest."""
    wake_at: float | None = None
    """When to look again if nothing happens before."""


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
    draft = Draft(instances, observed, now, patience)
    if endpoint.status in _LEAVING:
        draft.retire.extend(i.instance_id for i in there if i.retired_at is None)
        after: EndpointRecord | None = endpoint
        if endpoint.status == EndpointStatus.DELETING and not instances and _withdrawn(observed):
            after = None
    else:
        after = _keep(endpoint, draft)
    stop, drain_ends = _stops(there, observed, now, patience)
    draft.wake.extend(drain_ends)
    kept = [i for i in there if i.instance_id not in draft.retire]
    return Plan(
        endpoint=after,
        route=route_of(after, kept, observed.reports) if after is not None else None,
        add=tuple(draft.add),
        retire=tuple(dict.fromkeys(draft.retire)),
        launch=tuple(draft.launch),
        stop=stop,
        forget=forget,
        notices=tuple(draft.notices),
        wake_at=min(draft.wake, default=None),
    )


def _has_ended(instance: InstanceRecord, observed: Observed) -> bool:
    report = observed.reports.get(instance.instance_id)
    if report is None:
        return instance.retired_at is not None
    if report.failure == Failure.UNSUPPORTED and instance.retired_at is None:
        return False  # kept in its place: what replaced it would be refused as well
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
    return frozenset(instance.instance_id for instance in route.instances)


def _keep(endpoint: EndpointRecord, draft: Draft) -> EndpointRecord:
    """Plan for an endpoint that is to serve."""
    _retire_strangers(endpoint, draft)
    if endpoint.deployment is not None:
        return roll_out(endpoint, endpoint.deployment, draft)
    fleets = draft.fleets(endpoint.variants, endpoint.fleet)
    if reason := _failure(endpoint, fleets, draft):
        return _failed(endpoint, reason, draft.now)
    after = replace(endpoint, variants=keep_fleets(fleets, draft))
    if endpoint.status == EndpointStatus.IN_SERVICE:
        return after
    if not _settled(after, fleets, draft):
        return after
    variants = tuple(replace(variant, previous_count=None, previous_weight=None) for variant in after.variants)
    return replace(after, variants=variants, status=follow(endpoint.status, Event.SETTLED), modified_at=draft.now)


def _retire_strangers(endpoint: EndpointRecord, draft: Draft) -> None:
    """Take out of service what belongs to no variant that the endpoint has or is to have."""
    places = {Place(variant.name, endpoint.fleet) for variant in endpoint.variants}
    if endpoint.deployment is not None:
        places |= {Place(variant.name, endpoint.deployment.fleet) for variant in endpoint.deployment.variants}
    draft.retire.extend(i.instance_id for i in draft.instances if place_of(i) not in places and i.retired_at is None)


def _failure(endpoint: EndpointRecord, fleets: Sequence[Fleet], draft: Draft) -> str | None:
    """Say why what was asked for cannot be had, if it cannot."""
    if endpoint.status not in {EndpointStatus.CREATING, EndpointStatus.UPDATING}:
        return None
    # Only the variants whose capacity is being changed can fail a change: the others are repaired meanwhile.
    concerned = [
        fleet
        for fleet in fleets
        if endpoint.status == EndpointStatus.CREATING or fleet.variant.previous_count is not None
    ]
    return why_it_fails(concerned, _change_began_at(endpoint), draft)


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


def _settled(endpoint: EndpointRecord, fleets: Sequence[Fleet], draft: Draft) -> bool:
    """Say whether everything that was asked for is so, and the gateways route by it."""
    in_force = is_in_force(endpoint, draft.instances, draft.observed)
    return in_force and all(_has_arrived(endpoint.status, fleet) for fleet in fleets)


def _has_arrived(status: EndpointStatus, fleet: Fleet) -> bool:
    if status == EndpointStatus.ROLLING_BACK:
        # What was there before may be under repair; only what the change had added must be gone.
        return not fleet.leaving and len(fleet.live) <= fleet.variant.desired_count
    if status == EndpointStatus.UPDATING and fleet.variant.previous_count is None:
        return True
    return fleet.is_whole and not fleet.leaving
