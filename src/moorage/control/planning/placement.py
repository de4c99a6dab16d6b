"""Where instances find room, when capacity is strict: ``give_places(claims, held, reservations, total)``. Pure.

An instance that is recorded *claims* a place; one that has its place *holds* what its instance type is made of until
nothing is left of it, or one of the places of a reservation. What is free is given by these rules:

1. First come, first served. Who comes later never overtakes one that waits, however small it is: what becomes free
   is left for the first until that is enough, so that nobody waits for ever. (A claim takes the place in the queue of
   the lost instance that it replaces, and so is always before those who wait.)
2. A claim that could not be satisfied by the empty machine is in nobody's way.
3. A claim of several instance types takes the first of them for which there is room now.
4. Who names a reservation gets a place of it or none, and nobody else gets what is reserved. This holds also where
   capacity is not strict (``total`` is None): then there is room for everybody else.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from moorage.aws.instance_types import instance_type

_GPU_MAKER = "NVIDIA"
_GIB = 1024


@dataclass(frozen=True, slots=True)
class Resources:
    """What a machine has, or an instance takes."""

    vcpus: float
    memory_mib: int
    gpus: int = 0
    """Of whatever model: a machine's own GPU stands for those of the instance type."""
    others: int = 0
    """Accelerators of other kinds, which no machine of Moorage has."""

    def __add__(self, more: "Resources") -> "Resources":
        return Resources(
            self.vcpus + more.vcpus,
            self.memory_mib + more.memory_mib,
            self.gpus + more.gpus,
            self.others + more.others,
        )

    def __mul__(self, count: int) -> "Resources":
        return Resources(self.vcpus * count, self.memory_mib * count, self.gpus * count, self.others * count)

    def __sub__(self, less: "Resources") -> "Resources":
        return self + less * -1

    def holds(self, wanted: "Resources") -> bool:
        """Say whether there is room for what is wanted."""
        left = self - wanted
        return min(left.vcpus, left.memory_mib, left.gpus, left.others) >= 0

    def __str__(self) -> str:
        parts = [f"{self.vcpus:g} vCPUs", f"{self.memory_mib / _GIB:.4g} GiB of memory"]
        parts += [f"{self.gpus} GPUs"] if self.gpus else []
        parts += [f"{self.others} accelerators that are no GPUs"] if self.others else []
        return ", ".join(parts)


NOTHING = Resources(0, 0)


@dataclass(frozen=True, slots=True)
class Claim:
    """An instance that has no place yet."""

    instance_id: str
    types: tuple[str, ...]
    """Instance types of which it may be, the best first."""
    since: float
    """When it, or the first of those that it comes after, was asked for."""
    reservation: str | None = None
    """ARN of the reservation whose places are the only ones for it."""


@dataclass(frozen=True, slots=True)
class Held:
    """A place that is taken."""

    instance_type: str
    reservation: str | None = None


@dataclass(frozen=True, slots=True)
class Reserved:
    """Places that are kept for who names the reservation."""

    arn: str
    instance_type: str
    count: int


def resources_of(name: str) -> Resources:
    """Give what an instance of a type takes; raises KeyError for an unknown type."""
    kind = instance_type(name)
    is_gpu = (kind.accelerator_kind or "").startswith(_GPU_MAKER)
    return Resources(
        kind.vcpus,
        kind.memory_mib,
        gpus=kind.accelerators if is_gpu else 0,
        others=0 if is_gpu else kind.accelerators,
    )


def sum_of(types: Iterable[str]) -> Resources:
    """Give what instances of these types take together."""
    return sum((resources_of(name) * count for name, count in Counter(types).items()), NOTHING)


def unreserved(total: Resources, reservations: Iterable[Reserved]) -> Resources:
    """Give what of a machine is for those who name no reservation."""
    return total - sum((resources_of(one.instance_type) * one.count for one in reservations), NOTHING)


def exceeded(total: Resources, promised: Resources) -> frozenset[str]:
    """Name the resources of which more is promised than there is."""
    left = total - promised
    amounts = {"vCPUs": left.vcpus, "memory": left.memory_mib, "GPUs": left.gpus, "accelerators": left.others}
    return frozenset(name for name, amount in amounts.items() if amount < 0)


def give_places(
    claims: Iterable[Claim], held: Sequence[Held], reservations: Sequence[Reserved], total: Resources | None
) -> Mapping[str, str]:
    """Give the instance type of each claim that gets a place now, by its instance's id."""
    queue = sorted(claims, key=lambda claim: (claim.since, claim.instance_id))
    named = [claim for claim in queue if claim.reservation is not None]
    others = [claim for claim in queue if claim.reservation is None]
    return {**_of_reservations(named, held, reservations), **_of_machine(others, held, reservations, total)}


def _of_reservations(queue: Sequence[Claim], held: Sequence[Held], reservations: Sequence[Reserved]) -> dict[str, str]:
    used = Counter(one.reservation for one in held)
    left = {one.arn: one.count - used[one.arn] for one in reservations}
    types = {one.arn: one.instance_type for one in reservations}
    given = {}
    for claim in queue:
        arn = claim.reservation or ""
        if left.get(arn, 0) > 0 and types[arn] in claim.types:
            left[arn] -= 1
            given[claim.instance_id] = types[arn]
    return given


def _of_machine(
    queue: Sequence[Claim], held: Sequence[Held], reservations: Sequence[Reserved], total: Resources | None
) -> dict[str, str]:
    if total is None:
        return {claim.instance_id: claim.types[0] for claim in queue}
    whole = unreserved(total, reservations)
    free = whole - sum_of(one.instance_type for one in held if one.reservation is None)
    given = {}
    for claim in queue:
        if (fitting := _first_that_fits(claim.types, free)) is not None:
            given[claim.instance_id] = fitting
            free -= resources_of(fitting)
        elif _first_that_fits(claim.types, whole) is not None:
            break  # the first that waits: nobody overtakes it
    return given


def _first_that_fits(types: Sequence[str], room: Resources) -> str | None:
    return next((name for name in types if room.holds(resources_of(name))), None)
