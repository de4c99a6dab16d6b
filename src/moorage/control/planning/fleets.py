"""The instances of one variant of one generation, and what each of them needs next.

A fleet is kept as large as its variant asks, whatever is being done to its endpoint: what is missing is added, what
is too much is retired, what has ended is replaced, later and later the more often that happens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from moorage.control.planning.failures import NO_CAPACITY, crash_loop_reason, failure_reason
from moorage.control.planning.observed import Observed, Patience
from moorage.engine.contract import ENDED, InstanceReport, InstanceState
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
    lost: tuple[InstanceReport, ...]
    """Ended by themselves."""
    leaving: int
    """How many are retired and still there."""

    @classmethod
    def of(
        cls, variant: DeployedVariant, number: int, instances: Sequence[InstanceRecord], observed: Observed
    ) -> "Fleet":
        """Sort a variant's instances of one generation."""
        mine = [(i, observed.reports.get(i.instance_id)) for i in instances if place_of(i) == (variant.name, number)]
        serving = [(i, report) for i, report in mine if i.retired_at is None]
        return cls(
            variant=variant,
            number=number,
            live=tuple((i, report) for i, report in serving if report is None or report.state not in ENDED),
            lost=tuple(report for _, report in serving if report is not None and report.state in ENDED),
            leaving=sum(1 for i, _ in mine if i.retired_at is not None),
        )

    @property
    def ready(self) -> list[InstanceReport]:
        """Give the reports of those that take invocations."""
        return [r for _, r in self.live if r is not None and r.state == InstanceState.READY]

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
        for report in fleet.lost:
            if report.state == InstanceState.FAILED:
                return failure_reason(fleet.variant, report)
        if fleet.variant.setbacks + bool(fleet.lost) > patience.setbacks:
            return crash_loop_reason(fleet.variant, fleet.lost[0] if fleet.lost else None)
    for fleet in fleets:
        latest = began_at + patience.change_seconds(fleet.variant)
        if now >= latest:
            return NO_CAPACITY
        draft.wake.append(latest)
    return None


def keep_fleets(fleets: Sequence[Fleet], draft: Draft) -> tuple[DeployedVariant, ...]:
    """Bring variants to their numbers of instances."""
    return tuple(_keep(fleet, draft) for fleet in fleets)


def _keep(fleet: Fleet, draft: Draft) -> DeployedVariant:
    variant = _count_setbacks(_learn_images(fleet), fleet, draft)
    surplus = len(fleet.live) - variant.desired_count
    if surplus > 0:
        draft.retire.extend(instance.instance_id for instance, _ in _least_useful(fleet)[:surplus])
    draft.launch.extend(
        instance for instance, report in fleet.live if report is None and instance.instance_id not in draft.retire
    )
    if surplus < 0:
        if draft.now >= variant.launch_not_before:
            draft.add.extend([Place(variant.name, fleet.number)] * min(-surplus, ADDED_AT_ONCE))
            if -surplus > ADDED_AT_ONCE:
                draft.wake.append(draft.now)
        else:
            draft.wake.append(variant.launch_not_before)
    return variant


def retire_fleet(number: int, draft: Draft) -> None:
    """Take all instances of a generation out of service."""
    draft.retire.extend(i.instance_id for i in draft.instances if i.fleet == number and i.retired_at is None)


def _least_useful(fleet: Fleet) -> list[tuple[InstanceRecord, InstanceReport | None]]:
    """Order the instances: what does not serve goes before what does, the younger before the older."""
    return sorted(
        fleet.live,
        key=lambda pair: (
            pair[1] is not None and pair[1].state == InstanceState.READY,
            -pair[0].created_at,
        ),
    )


def _count_setbacks(variant: DeployedVariant, fleet: Fleet, draft: Draft) -> DeployedVariant:
    now, patience = draft.now, draft.patience
    if fleet.lost:
        setbacks = variant.setbacks + 1
        return replace(variant, setbacks=setbacks, launch_not_before=now + patience.delay_after(setbacks))
    if variant.setbacks and len(fleet.ready) >= variant.desired_count:
        calm_at = max((report.since for report in fleet.ready), default=now) + patience.calm_seconds
        if now >= calm_at:
            return replace(variant, setbacks=0, launch_not_before=0.0)
        draft.wake.append(calm_at)
    return variant


def _learn_images(fleet: Fleet) -> DeployedVariant:
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
