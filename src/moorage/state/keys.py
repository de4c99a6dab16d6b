"""Access keys."""

from dataclasses import asdict

from sqlalchemy import Connection, delete, insert, select

from moorage.state.records import KeyRecord
from moorage.state.tables import KEYS


def read_all(connection: Connection) -> list[KeyRecord]:
    """Give all keys, oldest first."""
    rows = connection.execute(select(KEYS).order_by(KEYS.c.created_at, KEYS.c.access_key_id))
    return [KeyRecord(**row) for row in rows.mappings()]


def add(connection: Connection, key: KeyRecord) -> None:
    """Record a new key."""
    connection.execute(insert(KEYS).values(**asdict(key)))


def remove(connection: Connection, access_key_id: str) -> bool:
    """Delete a key; False when there was none."""
    return connection.execute(delete(KEYS).where(KEYS.c.access_key_id == access_key_id)).rowcount > 0
