"""Reservations of capacity: Moorage's own, made by ``moorage reservations`` and named by CapacityReservationConfig."""

from collections import Counter
from collections.abc import Iterable, Mapping

from sqlalchemy import Connection

from moorage.aws.arns import make_arn, parse_arn
from moorage.aws.errors import validation_exception
from moorage.control.capacity import RESERVATION, held_of, read_reservations, reservation_arn
from moorage.control.operations.call import Call
from moorage.control.planning.placement import Reserved, resources_of, sum_of, unreserved
from moorage.control.planning.summary import Reservation
from moorage.state import endpoints, instances, reservations
from moorage.state.records import DeployedVariant, EndpointRecord, ReservationRecord


async def create_reservation(call: Call, name: str, instance_type: str, count: int) -> ReservationRecord:
    """Keep capacity for variants that name it; where capacity is strict, only what nobody has can be kept."""
    made = ReservationRecord(call.account, call.region, name, instance_type, count, call.now)

    def record(connection: Connection) -> None:
        if reservations.find(connection, call.account, call.region, name) is not None:
            raise validation_exception(f'Cannot create already existing reservation "{reservation_arn(made)}".')
        _check_room(connection, call, made)
        reservations.add(connection, made)

    await call.services.store.transact(record)
    return made


def _check_room(connection: Connection, call: Call, wanted: ReservationRecord) -> None:
    capacity = call.services.capacity
    if not capacity.strict:
        return
    if (machine := capacity.machine) is None:
        raise validation_exception("It is not known yet what this machine has: try again in a moment.")
    held = held_of(connection, instances.read_all(connection))
    free = unreserved(machine, read_reservations(connection))
    free -= sum_of(one.instance_type for one in held if one.reservation is None)
    needed = resources_of(wanted.instance_type) * wanted.count
    if not free.holds(needed):
        raise validation_exception(
            f"There is no room for {wanted.count} x {wanted.instance_type} ({needed}): {free} are neither used nor "
            "reserved. Delete an endpoint or a reservation, or reserve less."
        )


async def list_reservations(call: Call) -> list[tuple[ReservationRecord, int]]:
    """Give the caller's reservations, each with the number of its places that are taken."""

    def read(connection: Connection) -> list[tuple[ReservationRecord, int]]:
        used = used_of(connection)
        return [
            (record, used[reservation_arn(record)])
            for record in reservations.read_all(connection)
            if (record.account, record.region) == (call.account, call.region)
        ]

    return await call.services.store.read(read)


async def delete_reservation(call: Call, name: str) -> None:
    """Give capacity back to all, unless an endpoint names it."""

    def record(connection: Connection) -> None:
        found = reservations.find(connection, call.account, call.region, name)
        if found is None:
            arn = make_arn(call.region, call.account, RESERVATION, name)
            raise validation_exception(f'Could not find reservation "{arn}".')
        arn = reservation_arn(found)
        for endpoint in endpoints.read_all(connection, call.account, call.region):
            if arn in _named_by(endpoint):
                message = (
                    f'The reservation "{arn}" is used by the endpoint {endpoint.name}: delete or update that first.'
                )
                raise validation_exception(message)
        reservations.remove(connection, found)
        call.services.capacity.settle(connection)

    await call.services.store.transact(record)


def _named_by(endpoint: EndpointRecord) -> set[str]:
    variants = (*endpoint.variants, *(endpoint.deployment.variants if endpoint.deployment is not None else ()))
    return {variant.reservation.get("MlReservationArn", "") for variant in variants if variant.reservation}


def used_of(connection: Connection) -> Counter[str]:
    """Count the places that are taken of each reservation, by its ARN."""
    return Counter(i.reservation for i in instances.read_all(connection) if i.reservation and not i.waits_for)


def known_to(connection: Connection, call: Call, arn: str) -> Reserved | None:
    """Give the caller's reservation of an ARN, whatever the case of its name."""
    parsed = parse_arn(arn)
    if parsed is None or (parsed.kind, parsed.account, parsed.region) != (RESERVATION, call.account, call.region):
        return None
    found = reservations.find(connection, call.account, call.region, parsed.name)
    return None if found is None else Reserved(reservation_arn(found), found.instance_type, found.count)


def summaries(connection: Connection, call: Call, variants: Iterable[DeployedVariant]) -> Mapping[str, Reservation]:
    """Say how much is used of the reservations that variants name."""
    arns = {variant.reservation["MlReservationArn"] for variant in variants if variant.reservation}
    if not arns:
        return {}
    used = used_of(connection)
    found = {arn: known_to(connection, call, arn) for arn in arns}
    return {arn: Reservation(one.count, used[one.arn]) for arn, one in found.items() if one is not None}


def check_reservation(connection: Connection, call: Call, variant: str, types: Iterable[str], arn: str) -> Reserved:
    """Give a reservation, or refuse one that is not there or has places of none of a variant's instance types."""
    if (found := known_to(connection, call, arn)) is None:
        raise validation_exception(f'Could not find reservation "{arn}": variant {variant}.')
    if found.instance_type not in types:
        raise validation_exception(
            f'The reservation "{arn}" is for {found.instance_type}, which is not an instance type of the variant '
            f"{variant}."
        )
    return found
