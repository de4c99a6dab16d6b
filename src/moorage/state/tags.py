"""Tags of models, endpoint configurations and endpoints."""

from collections.abc import Iterable, Mapping

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, select

from moorage.state.records import ResourceKey
from moorage.state.tables import TAGS


def _at(key: ResourceKey) -> ColumnElement[bool]:
    columns = TAGS.c
    return and_(
        columns.account == key.account,
        columns.region == key.region,
        columns.kind == key.kind,
        columns.name_key == key.name.lower(),
    )


def read(connection: Connection, key: ResourceKey) -> dict[str, str]:
    """Give a resource's tags, ordered by key."""
    statement = select(TAGS.c.key, TAGS.c.value).where(_at(key)).order_by(TAGS.c.key)
    return {row.key: row.value for row in connection.execute(statement)}


def put(connection: Connection, key: ResourceKey, given: Mapping[str, str]) -> None:
    """Set tags, replacing those of the same keys."""
    remove(connection, key, given)
    place = {"account": key.account, "region": key.region, "kind": key.kind, "name_key": key.name.lower()}
    for name, value in given.items():
        connection.execute(insert(TAGS).values(**place, key=name, value=value))


def remove(connection: Connection, key: ResourceKey, names: Iterable[str]) -> None:
    """Delete tags; those that are not there are left alone."""
    connection.execute(delete(TAGS).where(_at(key), TAGS.c.key.in_(list(names))))


def remove_all(connection: Connection, key: ResourceKey) -> None:
    """Delete all tags of a resource that goes."""
    connection.execute(delete(TAGS).where(_at(key)))
