"""Tags of models, endpoint configurations and endpoints."""

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, and_, bindparam, delete, insert, select

from moorage.state.records import ResourceKey
from moorage.state.tables import TAGS

# Made once: to make a statement takes longer than to execute it.
_AT = and_(*(TAGS.c[name] == bindparam(f"its_{name}") for name in ("account", "region", "kind", "name_key")))
_READ = select(TAGS.c.key, TAGS.c.value).where(_AT).order_by(TAGS.c.key)
_ADD = insert(TAGS)
_REMOVE = delete(TAGS).where(_AT, TAGS.c.key == bindparam("its_key"))
_REMOVE_ALL = delete(TAGS).where(_AT)


def _place(key: ResourceKey, before: str = "its_") -> dict[str, str]:
    values = {"account": key.account, "region": key.region, "kind": key.kind, "name_key": key.name.lower()}
    return {before + name: value for name, value in values.items()}


def read(connection: Connection, key: ResourceKey) -> dict[str, str]:
    """Give a resource's tags, ordered by key."""
    return {row.key: row.value for row in connection.execute(_READ, _place(key))}


def put(connection: Connection, key: ResourceKey, given: Mapping[str, str]) -> None:
    """Set tags, replacing those of the same keys."""
    remove(connection, key, given)
    add(connection, key, given)


def add(connection: Connection, key: ResourceKey, given: Mapping[str, str]) -> None:
    """Set tags of keys that the resource, being new, does not have."""
    if given:
        place = _place(key, "")
        connection.execute(_ADD, [{**place, "key": name, "value": value} for name, value in given.items()])


def remove(connection: Connection, key: ResourceKey, names: Iterable[str]) -> None:
    """Delete tags; those that are not there are left alone."""
    if rows := [{**_place(key), "its_key": name} for name in names]:
        connection.execute(_REMOVE, rows)


def remove_all(connection: Connection, key: ResourceKey) -> None:
    """Delete all tags of a resource that goes."""
    connection.execute(_REMOVE_ALL, _place(key))
