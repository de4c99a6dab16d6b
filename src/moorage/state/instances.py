"""Instances: the intent that each exists, recorded before anybody is asked to start it."""

from collections.abc import Iterable
from dataclasses import asdict

from sqlalchemy import Connection, RowMapping, delete, insert, select, update

from moorage.state.records import EndpointKey, InstanceRecord
from moorage.state.tables import INSTANCES


def of_endpoint(connection: Connection, key: EndpointKey) -> list[InstanceRecord]:
    """Give the instances of an endpoint, oldest first."""
    columns = INSTANCES.c
    statement = select(INSTANCES).where(
        columns.account == key.account, columns.region == key.region, columns.endpoint == key.name
    )
    rows = connection.execute(statement.order_by(columns.created_at, columns.instance_id))
    return [_record(row) for row in rows.mappings()]


def read_all(connection: Connection) -> list[InstanceRecord]:
    """Give the instances of all accounts and regions: they share the machine."""
    return [_record(row) for row in connection.execute(select(INSTANCES)).mappings()]


def add(connection: Connection, records: Iterable[InstanceRecord]) -> None:
    """Record new ones."""
    for record in records:
        connection.execute(insert(INSTANCES).values(**asdict(record)))


def give_place(connection: Connection, instance_id: str, instance_type: str) -> None:
    """Let an instance that waits have its place, as one of this type."""
    place = {"instance_type": instance_type, "waits_for": []}
    connection.execute(update(INSTANCES).where(INSTANCES.c.instance_id == instance_id).values(**place))


def retire(connection: Connection, instance_ids: Iterable[str], now: float) -> None:
    """Take instances out of service for good."""
    statement = update(INSTANCES).where(INSTANCES.c.instance_id.in_(list(instance_ids)))
    connection.execute(statement.where(INSTANCES.c.retired_at.is_(None)).values(retired_at=now))


def remove(connection: Connection, instance_ids: Iterable[str]) -> None:
    """Forget instances that have ended."""
    connection.execute(delete(INSTANCES).where(INSTANCES.c.instance_id.in_(list(instance_ids))))


def _record(row: RowMapping) -> InstanceRecord:
    return InstanceRecord(**{**row, "waits_for": tuple(row["waits_for"] or ())})
