"""What a pass over an endpoint has decided, recorded in one transaction, with the places that instances get by it."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from moorage.base.ids import Ids
from moorage.control.capacity import Capacity, Given, held_of
from moorage.control.events import Recorder
from moorage.control.planning import notices
from moorage.control.planning.endpoint import Plan
from moorage.control.planning.fleets import Place, place_of
from moorage.control.planning.placement import Resources, resources_of, sum_of
from moorage.control.planning.pools import types_of
from moorage.control.planning.specs import variant_of
from moorage.state import endpoints, instances, tags
from moorage.state.records import EndpointKey, EndpointRecord, InstanceRecord, Kind, ResourceKey


@dataclass(frozen=True, slots=True)
class Decision:
    """A plan, what it was made from, and the instances that it adds."""

    endpoint: EndpointRecord
    recorded: Sequence[InstanceRecord]
    plan: Plan
    added: Sequence[InstanceRecord]
    now: float

    @property
    def changes_anything(self) -> bool:
        """Whether there is anything to record."""
        plan = self.plan
        return plan.endpoint != self.endpoint or bool(self.added or plan.retire or plan.forget)


def decide(plan: Plan, endpoint: EndpointRecord, recorded: Sequence[InstanceRecord], now: float, ids: Ids) -> Decision:
    """Make the instances that a plan adds; those that replace lost ones have their turn in the queue for room."""
    if plan.endpoint is None:
        return Decision(endpoint, recorded, plan, (), now)
    turns: dict[Place, list[float]] = defaultdict(list)
    for instance in recorded:
        if instance.instance_id in plan.forget and instance.retired_at is None:
            turns[place_of(instance)].append(instance.claimed_at)
    added = [_make(plan.endpoint, place, turns[place], now, ids) for place in plan.add]
    return Decision(endpoint, recorded, plan, added, now)


def _make(endpoint: EndpointRecord, place: Place, turns: list[float], now: float, ids: Ids) -> InstanceRecord:
    """Make an instance that waits for its place; it takes the first of the turns that were left by others."""
    made = InstanceRecord(
        instance_id=ids.instance_id(),
        account=endpoint.account,
        region=endpoint.region,
        endpoint=endpoint.name,
        variant=place.variant,
        created_at=now,
        fleet=place.fleet,
        claimed_at=turns.pop(0) if turns else now,
    )
    variant = variant_of(endpoint, made)
    reservation = (variant.reservation or {}).get("MlReservationArn")
    return replace(made, waits_for=types_of(variant), reservation=reservation)


def record(
    connection: Connection, decision: Decision, capacity: Capacity, recorder: Recorder
) -> Sequence[InstanceRecord]:
    """Record a decision, and give places to those whose turn it then is; gives all instances if some are new."""
    endpoint, plan, now = decision.endpoint, decision.plan, decision.now
    in_turn = capacity.wants_turns((*decision.recorded, *decision.added))
    promised = _promised(connection) if decision.added and not in_turn else None
    if plan.forget:
        instances.remove(connection, plan.forget)
    if plan.retire:
        instances.retire(connection, plan.retire, now)
    if promised is not None:
        _add_where_all_have_room(connection, decision, capacity, recorder, promised)
    elif decision.added:
        instances.add(connection, decision.added)
    if plan.endpoint is None:
        tags.remove_all(connection, ResourceKey(endpoint.account, endpoint.region, Kind.ENDPOINT, endpoint.name))
        endpoints.remove(connection, endpoint)
    else:
        # Also when nothing of it has changed: the plan was made for this revision and no other.
        endpoints.change(connection, plan.endpoint)
        machine = _machine_notices(decision, plan.endpoint, capacity)
        recorder.tell(connection, endpoint.key, (*plan.notices, *machine))
    if in_turn:
        given = settle(connection, capacity, recorder)
        recorder.tell(connection, endpoint.key, _waiting_notices(decision, given, capacity))
    return instances.of_endpoint(connection, endpoint.key) if decision.added else ()


def settle(connection: Connection, capacity: Capacity, recorder: Recorder) -> Sequence[Given]:
    """Give places to those whose turn it is, and tell whose instances are not of the type that is best for them."""
    given = capacity.settle(connection)
    by_endpoint: dict[EndpointKey, list[Given]] = defaultdict(list)
    for one in given:
        if one.instance_type != one.instance.waits_for[0]:
            key = EndpointKey(one.instance.account, one.instance.region, one.instance.endpoint)
            by_endpoint[key].append(one)
    for key, fallen in by_endpoint.items():
        counts = Counter((one.instance.variant, one.instance.waits_for[0], one.instance_type) for one in fallen)
        texts = [notices.fallback(*what, count) for what, count in counts.items()]
        recorder.tell(connection, key, texts)
    return given


def _promised(connection: Connection) -> Resources:
    """Sum up what the instances of all endpoints have by their types."""
    return sum_of(held.instance_type for held in held_of(connection, instances.read_all(connection)))


def _add_where_all_have_room(
    connection: Connection, decision: Decision, capacity: Capacity, recorder: Recorder, before: Resources
) -> None:
    """Record new instances with their places, and tell when more is promised by them than the machine has.

    ``before`` is what was promised with those that this decision forgets: who only takes another's place is no news.
    """
    placed = [replace(one, instance_type=one.waits_for[0], waits_for=()) for one in decision.added]
    if (machine := capacity.machine) is not None:
        left = _promised(connection) if decision.plan.forget else before
        after = left + sum_of(one.instance_type for one in placed)
        recorder.tell(connection, decision.endpoint.key, notices.overcommitted(machine, before, after))
    instances.add(connection, placed)


def _machine_notices(decision: Decision, endpoint: EndpointRecord, capacity: Capacity) -> Iterable[str]:
    """Tell of machine images with GPU drivers where there is no GPU, once a fleet."""
    machine = capacity.machine
    known = {place_of(instance) for instance in decision.recorded}
    new = {place_of(instance): instance for instance in decision.added if place_of(instance) not in known}
    for instance in new.values():
        variant = variant_of(endpoint, instance)
        if machine is not None and variant.machine_image is not None:
            yield from notices.machine_image(variant.name, variant.machine_image, machine, capacity.gpu_driver())


def _waiting_notices(decision: Decision, given: Sequence[Given], capacity: Capacity) -> Iterable[str]:
    """Tell of new instances for which there is no room."""
    placed = {one.instance.instance_id for one in given}
    waiting = Counter((i.variant, i.waits_for, i.reservation) for i in decision.added if i.instance_id not in placed)
    for (variant, types, reservation), count in waiting.items():
        needs = " or ".join(f"{name} ({resources_of(name)})" for name in types)
        yield notices.waits(variant, count, needs, reservation, capacity.machine)
