"""Room for instances: what the machine has, what is reserved, and who gets a place next.

``planning.placement`` decides; this module brings it what the store has and records what it gives, in the transaction
of whoever adds instances, lets go of some, or changes reservations. All writes follow one another, so a place is
never given twice, also not by a control plane that is killed and started again: what was given stands in the store
before anybody is asked to start it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from moorage.aws.arns import make_arn
from moorage.base.settings import Settings
from moorage.control.planning.placement import Claim, Held, Reserved, Resources, give_places
from moorage.control.planning.specs import variant_of
from moorage.state import endpoints, instances, reservations
from moorage.state.records import EndpointKey, InstanceRecord, ReservationRecord
from moorage.state.store import mark_changed

RESERVATION = "ml-reservation"
"""Kind of a reservation's ARN, whose pattern allows for 14 characters."""


@dataclass(frozen=True, slots=True)
class Given:
    """A place that an instance has got."""

    instance: InstanceRecord
    """As it was while it waited."""
    instance_type: str


@dataclass(frozen=True, slots=True)
class Capacity:
    """What this installation has room for."""

    measured: Callable[[], Resources | None]
    """What the node agent has found; None as long as it has not said."""
    strict: bool = False
    """Instances run only where there is room for all that their types promise."""
    vcpus: int | None = None
    memory_mib: int | None = None
    gpus: int | None = None
    """What to go by instead of what was found."""
    gpu_driver: Callable[[], str] = str
    """What the node agent has found of the GPUs' driver: its version, or empty."""

    @property
    def machine(self) -> Resources | None:
        """What the machine has; None as long as nobody knows."""
        found = self.measured()
        if found is None:
            return None
        return Resources(
            vcpus=found.vcpus if self.vcpus is None else self.vcpus,
            memory_mib=found.memory_mib if self.memory_mib is None else self.memory_mib,
            gpus=found.gpus if self.gpus is None else self.gpus,
        )

    def wants_turns(self, records: Iterable[InstanceRecord]) -> bool:
        """Say whether instances have to wait for their turn, or find room as soon as they are recorded."""
        return self.strict or any(record.reservation is not None for record in records)

    def settle(self, connection: Connection) -> list[Given]:
        """Give places to those whose turn it is, of whatever endpoint; their endpoints are marked as changed."""
        total = (self.machine or Resources(0, 0)) if self.strict else None
        recorded = instances.read_all(connection)
        waiting = {i.instance_id: i for i in recorded if i.waits_for and i.retired_at is None}
        if not waiting:
            return []
        claims = [Claim(i.instance_id, i.waits_for, i.claimed_at, i.reservation) for i in waiting.values()]
        places = give_places(claims, held_of(connection, recorded), read_reservations(connection), total)
        for instance_id, instance_type in places.items():
            instances.give_place(connection, instance_id, instance_type)
            mark_changed(connection, _endpoint_of(waiting[instance_id]))
        return [Given(waiting[instance_id], instance_type) for instance_id, instance_type in places.items()]


def held_of(connection: Connection, recorded: Sequence[InstanceRecord]) -> list[Held]:
    """Give the places that recorded instances have."""
    return [Held(_type_of(connection, i), i.reservation) for i in recorded if not i.waits_for]


def _type_of(connection: Connection, instance: InstanceRecord) -> str:
    """Give the type of an instance that has its place; of one of before there were pools, its variant's."""
    if instance.instance_type:
        return instance.instance_type
    endpoint = endpoints.find(connection, _endpoint_of(instance))
    if endpoint is None:
        raise LookupError(instance.instance_id)
    return variant_of(endpoint, instance).instance_type


def _endpoint_of(instance: InstanceRecord) -> EndpointKey:
    return EndpointKey(instance.account, instance.region, instance.endpoint)


def reservation_arn(record: ReservationRecord) -> str:
    """Make the ARN of a reservation."""
    return make_arn(record.region, record.account, RESERVATION, record.name)


def read_reservations(connection: Connection) -> list[Reserved]:
    """Give all reservations of this machine."""
    return [
        Reserved(reservation_arn(record), record.instance_type, record.count)
        for record in reservations.read_all(connection)
    ]


def capacity_of(
    settings: Settings, measured: Callable[[], Resources | None], gpu_driver: Callable[[], str]
) -> Capacity:
    """Make what the settings say of capacity."""
    return Capacity(
        measured,
        strict=settings.capacity == "strict",
        vcpus=settings.node_vcpus,
        memory_mib=settings.node_memory_mib,
        gpus=settings.node_gpus,
        gpu_driver=gpu_driver,
    )
