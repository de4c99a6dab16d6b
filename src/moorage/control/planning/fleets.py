"""The instances of one variant of one generation, and what each of them needs next.

A fleet is kept as large as its variant asks, whatever is being done to its endpoint: what is missing is added, what
is too much is retired, what has ended is replaced, later and later the more often that happens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from moorage.control.planning import notices
from moorage.control.planning.failures import NO_CAPACITY, crash_loop_reason, failure_reason, no_room_reason
from moorage.control.planning.observed import Observed, Patience
from moorage.control.planning.pools import pool_of, pools_of, rank_of, with_containers
from moorage.engine.contract import ENDED, Failure, InstanceReport, InstanceState
from moorage.state.records import DeployedVariant, InstanceRecord

ADDED_AT_ONCE = 100
"""New instances of a fleet in one pass, at most: the next pass follows at once, and others have their turn between."""


class Place(NamedTuple):
    """Where an instance belongs."""

    variant: str
    fleet: int


@dataclass(frozen=True, slots=True)
class Fleet:
    """The instances of one variant of one generation, sorted by what is to be done about them."""

    variant: DeployedVariant
    number: int
    """The generation."""
    live: tuple[tuple[InstanceRecord, InstanceReport | None], ...]
    """Neither retired nor ended."""
    lost: tuple[tuple[InstanceRecord, InstanceReport], ...]
    """Ended by themselves."""
    refused: tuple[tuple[InstanceRecord, InstanceReport], ...]
    """Cannot be run on this machine as they are: another launch would be another refusal, so none follows them."""
    leaving: int
    """How many are retired and still there."""

    @classmethod
    def of(
        cls, variant: DeployedVariant, number: int, instances: Sequence[InstanceRecord], observed: Observed
    ) -> "Fleet":
        """Sort a variant's instances of one generation."""
        mine = [(i, observed.reports.get(i.instance_id)) for i in instances if place_of(i) == (variant.name, number)]
        serving = [(i, report) for i, report in mine if i.retired_at is None]
        ended = [(i, report) for i, report in serving if report is not None and report.state in ENDED]
        return cls(
            variant=variant,
            number=number,
            live=tuple((i, report) for i, report in serving if report is None or report.state not in ENDED),
            lost=tuple((i, report) for i, report in ended if report.failure != Failure.UNSUPPORTED),
            refused=tuple((i, report) for i, report in ended if report.failure == Failure.UNSUPPORTED),
            leaving=sum(1 for i, _ in mine if i.retired_at is not None),
        )

    @property
    def ready(self) -> list[InstanceReport]:
        """Give the reports of those that take invocations."""
        return [r for _, r in self.live if r is not None and r.state == InstanceState.READY]

    @property
    def waiting(self) -> int:
        """Count those for which there is no room yet."""
        return sum(1 for instance, _ in self.live if instance.waits_for)

    @property
    def is_whole(self) -> bool:
        """Whether exactly as many as are asked for are there, and all take invocations."""
        return len(self.live) == len(self.ready) == self.variant.desired_count


@dataclass(slots=True)
class Draft:
    """A plan while it is made, and what it is made from."""

    instances: Sequence[InstanceRecord]
    observed: Observed
    now: float
    patience: Patience
    add: list[Place] = field(default_factory=list)
    retire: list[str] = field(default_factory=list)
    launch: list[InstanceRecord] = field(default_factory=list)
    wake: list[float] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    """What people are to be told."""

    def fleets(self, variants: Sequence[DeployedVariant], number: int) -> list[Fleet]:
        """Sort the instances of variants of one generation."""
        return [Fleet.of(variant, number, self.instances, self.observed) for variant in variants]

    def any_of(self, number: int) -> bool:
        """Say whether any instance of a generation is left, in service or not."""
        return any(instance.fleet == number for instance in self.instances)


def place_of(instance: InstanceRecord) -> Place:
    """Say where an instance belongs."""
    return Place(instance.variant, instance.fleet)


def why_it_fails(fleets: Sequence[Fleet], began_at: float, draft: Draft) -> str | None:
    """Say why fleets that have been asked for cannot be had, if they cannot."""
    now, patience = draft.now, draft.patience
    for fleet in fleets:
        for instance, report in (*fleet.refused, *fleet.lost):
            if report.state == InstanceState.FAILED:
                _tell_of_stand_ins(fleet.variant, rank_of(fleet.variant, instance), report, draft)
                return failure_reason(fleet.variant, pool_of(fleet.variant, instance).containers, report)
        if fleet.variant.setbacks + bool(fleet.lost) > patience.setbacks:
            return crash_loop_reason(fleet.variant, fleet.lost[0][1] if fleet.lost else None)
    for fleet in fleets:
        room_by = began_at + patience.capacity_seconds_of(fleet.variant)
        latest = began_at + patience.change_seconds(fleet.variant)
        if fleet.waiting and now >= room_by:
            return no_room_reason(fleet.variant, fleet.waiting, patience.capacity_seconds_of(fleet.variant))
        if now >= latest:
            return NO_CAPACITY
        draft.wake.append(room_by if fleet.waiting else latest)
    return None


def keep_fleets(fleets: Sequence[Fleet], draft: Draft) -> tuple[DeployedVariant, ...]:
    """Bring variants to their numbers of instances."""
    return tuple(_keep(fleet, draft) for fleet in fleets)


def _keep(fleet: Fleet, draft: Draft) -> DeployedVariant:
    variant = _count_setbacks(_learn_images(fleet, draft), fleet, draft)
    surplus = len(fleet.live) + len(fleet.refused) - variant.desired_count
    if surplus > 0:
        leaving = [*fleet.refused, *_least_useful(fleet)][:surplus]
        draft.retire.extend(instance.instance_id for instance, _ in leaving)
    if surplus < 0:
        # Also when the launch has to wait: what is recorded keeps its room, or its turn among those who wait for room.
        draft.add.extend([Place(variant.name, fleet.number)] * min(-surplus, ADDED_AT_ONCE))
        if -surplus > ADDED_AT_ONCE:
            draft.wake.append(draft.now)
    _launch(variant, fleet, draft)
    return variant


def _launch(variant: DeployedVariant, fleet: Fleet, draft: Draft) -> None:
    """Launch what has its place and is not known to the node agent, unless the losses before bid to wait."""
    waiting = [
        i for i, report in fleet.live if report is None and not i.waits_for and i.instance_id not in draft.retire
    ]
    if not waiting:
        return
    if draft.now < variant.launch_not_before:
        draft.wake.append(variant.launch_not_before)
        return
    for rank in range(len(pools_of(variant))):
        mine = [instance for instance in waiting if rank_of(variant, instance) == rank]
        draft.launch.extend(mine[: _most_at_once(variant, fleet, rank)])


def _most_at_once(variant: DeployedVariant, fleet: Fleet, rank: int) -> int | None:
    """Say how many instances of a pool may be launched now; None: all.

    The first one finds out what its images' tags mean today; the others follow once that is known, and run the same.
    """
    if all(container.resolved_image for container in pools_of(variant)[rank].containers):
        return None
    known = [report for i, report in fleet.live if report is not None and rank_of(variant, i) == rank]
    if any(report.state != InstanceState.PREPARING for report in known):
        return None
    return 0 if known else 1


def retire_fleet(number: int, draft: Draft) -> None:
    """Take all instances of a generation out of service."""
    draft.retire.extend(i.instance_id for i in draft.instances if i.fleet == number and i.retired_at is None)


def _least_useful(fleet: Fleet) -> list[tuple[InstanceRecord, InstanceReport | None]]:
    """Order the instances by what can best be spared.

    What waits for room goes before what has it, what does not serve before what does, what is of a pool of lower
    priority before what is of a higher one, the younger before the older.
    """
    return sorted(
        fleet.live,
        key=lambda pair: (
            not pair[0].waits_for,
            pair[1] is not None and pair[1].state == InstanceState.READY,
            -rank_of(fleet.variant, pair[0]),
            -pair[0].created_at,
        ),
    )


def _count_setbacks(variant: DeployedVariant, fleet: Fleet, draft: Draft) -> DeployedVariant:
    now, patience = draft.now, draft.patience
    if fleet.lost:
        setbacks = variant.setbacks + 1
        delay = patience.delay_after(setbacks)
        if setbacks in {1, patience.setbacks}:  # an event each time would drive all others out of the journal
            draft.notices.append(notices.lost(variant.name, fleet.lost[0][1].message, setbacks, delay))
        return replace(variant, setbacks=setbacks, launch_not_before=now + delay)
    if variant.setbacks and len(fleet.ready) >= variant.desired_count:
        calm_at = max((report.since for report in fleet.ready), default=now) + patience.calm_seconds
        if now >= calm_at:
            return replace(variant, setbacks=0, launch_not_before=0.0)
        draft.wake.append(calm_at)
    return variant


def _tell_of_stand_ins(variant: DeployedVariant, rank: int, report: InstanceReport, draft: Draft) -> None:
    """Tell people what runs in place of images, with the first report of a deployment that knows it."""
    if not all(container.resolved_image for container in pools_of(variant)[rank].containers):
        draft.notices += [notices.stand_in(variant.name, text) for text in report.stand_ins]


def _learn_images(fleet: Fleet, draft: Draft) -> DeployedVariant:
    """Note which image each container really runs, once an instance tells."""
    variant = fleet.variant
    for instance, report in fleet.live:
        rank = rank_of(variant, instance)
        containers = pools_of(variant)[rank].containers
        if report is None or not report.resolved_images or all(container.resolved_image for container in containers):
            continue
        _tell_of_stand_ins(variant, rank, report, draft)
        learned = tuple(
            replace(container, resolved_image=image, resolved_at=report.since)
            for container, image in zip(containers, report.resolved_images, strict=False)
        )
        variant = with_containers(variant, rank, learned + containers[len(learned) :])
    return variant
