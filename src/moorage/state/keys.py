"""Access keys, and the secret that session tokens are made with."""

from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import Connection, RowMapping, delete, insert, null, select, update

from moorage.state.records import KeyRecord
from moorage.state.tables import KEYS, SECRETS

_TOKEN_SECRET = "session tokens"  # noqa: S105 - a name


def read_all(connection: Connection) -> list[KeyRecord]:
    """Give all keys, oldest first."""
    rows = connection.execute(select(KEYS).order_by(KEYS.c.created_at, KEYS.c.access_key_id))
    return [_key(row) for row in rows.mappings()]


def _key(row: RowMapping) -> KeyRecord:
    policies = row["policies"]
    return KeyRecord(**{**row, "policies": None if policies is None else tuple(policies)})


def add(connection: Connection, key: KeyRecord) -> None:
    """Record a new key."""
    connection.execute(insert(KEYS).values(**{**asdict(key), "policies": _stored(key.policies)}))


def set_policies(connection: Connection, access_key_id: str, policies: Sequence[str] | None) -> None:
    """Give a key other policies."""
    where = KEYS.c.access_key_id == access_key_id
    connection.execute(update(KEYS).where(where).values(policies=_stored(policies)))


def _stored(policies: Sequence[str] | None) -> object:
    return null() if policies is None else list(policies)


def remove(connection: Connection, access_key_id: str) -> bool:
    """Delete a key; False when there was none."""
    return connection.execute(delete(KEYS).where(KEYS.c.access_key_id == access_key_id)).rowcount > 0


def token_secret(connection: Connection, proposed: str) -> str:
    """Give the secret that session tokens are made with; the first one that is proposed stays."""
    found: str | None = connection.execute(select(SECRETS.c.value).where(SECRETS.c.name == _TOKEN_SECRET)).scalar()
    if found is None:
        connection.execute(insert(SECRETS).values(name=_TOKEN_SECRET, value=proposed))
    return found or proposed
