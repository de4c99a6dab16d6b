"""Reservations of capacity, by name."""

from dataclasses import asdict

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, delete, insert, select

from moorage.state.records import ReservationRecord
from moorage.state.tables import RESERVATIONS


def _at(account: str, region: str, name: str) -> ColumnElement[bool]:
    columns = RESERVATIONS.c
    return and_(columns.account == account, columns.region == region, columns.name_key == name.lower())


def find(connection: Connection, account: str, region: str, name: str) -> ReservationRecord | None:
    """Give the one of this name, whatever its case."""
    row = connection.execute(select(RESERVATIONS).where(_at(account, region, name))).mappings().first()
    return _record(row) if row is not None else None


def read_all(connection: Connection) -> list[ReservationRecord]:
    """Give those of all accounts and regions, by name: they share the machine."""
    rows = connection.execute(select(RESERVATIONS).order_by(RESERVATIONS.c.name_key)).mappings()
    return [_record(row) for row in rows]


def add(connection: Connection, record: ReservationRecord) -> None:
    """Record a new one; raises IntegrityError when the name is taken."""
    connection.execute(insert(RESERVATIONS).values(name_key=record.name.lower(), **asdict(record)))


def remove(connection: Connection, record: ReservationRecord) -> None:
    """Delete it."""
    connection.execute(delete(RESERVATIONS).where(_at(record.account, record.region, record.name)))


def _record(row: RowMapping) -> ReservationRecord:
    return ReservationRecord(**{key: value for key, value in row.items() if key != "name_key"})
