"""Moorage's own pages about reservations of capacity, which ``moorage reservations`` reads."""

import re
from typing import Any

from moorage.aws.errors import ClientFault, validation_exception
from moorage.aws.instance_types import instance_type
from moorage.control.authorize import check
from moorage.control.capacity import RESERVATION, reservation_arn
from moorage.control.exchange import Exchange, read_content
from moorage.control.operations.call import Call
from moorage.control.operations.reservations import create_reservation, delete_reservation, list_reservations
from moorage.iam.sagemaker import Need
from moorage.state.records import ReservationRecord

RESERVATIONS = "/_moorage/reservations"
ONE = re.compile(r"/_moorage/reservations/([A-Za-z0-9-]{1,63})")

_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", re.ASCII)
_MOST = 1000


async def show_all(exchange: Exchange) -> dict[str, Any]:
    """List the reservations of the caller's account and region."""
    call = await _call(exchange, "ListMlReservations", "*")
    return {"reservations": [_shown(record, used) for record, used in await list_reservations(call)]}


async def create(exchange: Exchange) -> dict[str, Any]:
    """Make a reservation."""
    content = read_content(exchange)
    name, kind, count = content.get("name"), content.get("instance_type"), content.get("count")
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise validation_exception("name must have 1 to 63 letters, digits or single hyphens between them.")
    if type(count) is not int or not 1 <= count <= _MOST:
        raise validation_exception(f"count must be a whole number from 1 to {_MOST}.")
    if not isinstance(kind, str) or not _is_type(kind):
        raise validation_exception("instance_type must be an instance type of the API, such as ml.m5.large.")
    call = await _call(exchange, "CreateMlReservation", name)
    return _shown(await create_reservation(call, name, kind, count), 0)


async def delete(exchange: Exchange) -> dict[str, Any]:
    """Delete a reservation."""
    found = ONE.fullmatch(exchange.http.path)
    name = found[1] if found else ""
    await delete_reservation(await _call(exchange, "DeleteMlReservation", name), name)
    return {}


def _is_type(name: str) -> bool:
    try:
        instance_type(name)
    except KeyError:
        return False
    return True


async def _call(exchange: Exchange, action: str, name: str) -> Call:
    """Give what operations are given, when the caller may do this."""
    caller = exchange.caller
    if caller is None:
        raise ClientFault("MissingAuthenticationTokenException", "Missing Authentication Token")
    services = exchange.desk.services
    call = Call(services, caller.account, caller.region, round(exchange.desk.clock.now(), 3))
    resource = f"arn:aws:sagemaker:{call.region}:{call.account}:{RESERVATION}/{name}"
    await check(exchange, caller, Need(f"sagemaker:{action}", resource, {}))
    return call


def _shown(record: ReservationRecord, used: int) -> dict[str, Any]:
    return {
        "name": record.name,
        "arn": reservation_arn(record),
        "instance_type": record.instance_type,
        "count": record.count,
        "used": used,
        "created_at": record.created_at,
    }
