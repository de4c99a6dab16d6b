"""Endpoints. Every write says which revision it was made from and marks the endpoint as changed."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, delete, insert, select, update

from moorage.state.lists import Page, read_page
from moorage.state.records import (
    Container,
    DeployedVariant,
    Deployment,
    EndpointKey,
    EndpointRecord,
    EndpointStatus,
    Pool,
    Stage,
)
from moorage.state.store import mark_changed
from moorage.state.tables import ENDPOINTS


class ChangedMeanwhile(RuntimeError):
    """The endpoint is no longer what the writer has read: read again and decide again."""


def _at(key: EndpointKey) -> ColumnElement[bool]:
    columns = ENDPOINTS.c
    return and_(
        columns.account == key.account,
        columns.region == key.region,
        columns.name_key == key.name.lower(),
    )


def find(connection: Connection, key: EndpointKey) -> EndpointRecord | None:
    """Give the one of exactly this name."""
    record = find_any_case(connection, key)
    return record if record is not None and record.name == key.name else None


def find_any_case(connection: Connection, key: EndpointKey) -> EndpointRecord | None:
    """Give the one that takes this name, whatever its case."""
    row = connection.execute(select(ENDPOINTS).where(_at(key))).mappings().first()
    return _record(row) if row is not None else None


def read_keys(connection: Connection) -> list[EndpointKey]:
    """Give the keys of all endpoints of all accounts and regions."""
    columns = ENDPOINTS.c
    return [EndpointKey(*row) for row in connection.execute(select(columns.account, columns.region, columns.name))]


def read_all(connection: Connection, account: str, region: str) -> list[EndpointRecord]:
    """Give all endpoints of an account in a region."""
    among = and_(ENDPOINTS.c.account == account, ENDPOINTS.c.region == region)
    return [_record(row) for row in connection.execute(select(ENDPOINTS).where(among)).mappings()]


def page(connection: Connection, account: str, region: str, page: Page) -> list[EndpointRecord]:
    """Give a page, and one record more when there is another page."""
    among = and_(ENDPOINTS.c.account == account, ENDPOINTS.c.region == region)
    return [_record(row) for row in read_page(connection, ENDPOINTS, among, page)]


def add(connection: Connection, record: EndpointRecord) -> None:
    """Record a new one; raises IntegrityError when the name is taken."""
    connection.execute(insert(ENDPOINTS).values(name_key=record.name.lower(), **asdict(record)))
    mark_changed(connection, record.key)


def change(connection: Connection, record: EndpointRecord) -> EndpointRecord:
    """Replace the revision that the record was made from; raises ChangedMeanwhile when it is gone."""
    changed = replace(record, revision=record.revision + 1)
    statement = update(ENDPOINTS).where(_at(record.key), ENDPOINTS.c.revision == record.revision)
    if connection.execute(statement.values(**asdict(changed))).rowcount != 1:
        raise ChangedMeanwhile(record.name)
    mark_changed(connection, record.key)
    return changed


def remove(connection: Connection, record: EndpointRecord) -> None:
    """Delete it; raises ChangedMeanwhile when it is no longer at this revision."""
    statement = delete(ENDPOINTS).where(_at(record.key), ENDPOINTS.c.revision == record.revision)
    if connection.execute(statement).rowcount != 1:
        raise ChangedMeanwhile(record.name)
    mark_changed(connection, record.key)


def _record(row: RowMapping) -> EndpointRecord:
    values = {key: value for key, value in row.items() if key != "name_key"}
    read = {
        "variants": _variants(values["variants"]),
        "status": EndpointStatus(values["status"]),
        "deployment": _deployment(values["deployment"]),
    }
    return EndpointRecord(**{**values, **read})


def _deployment(document: Mapping[str, Any] | None) -> Deployment | None:
    if document is None:
        return None
    read = {"variants": _variants(document["variants"]), "stage": Stage(document["stage"])}
    return Deployment(**{**document, **read})


def _variants(documents: Iterable[Mapping[str, Any]]) -> tuple[DeployedVariant, ...]:
    return tuple(_variant(document) for document in documents)


def _variant(document: Mapping[str, Any]) -> DeployedVariant:
    pools = tuple(Pool(**{**entry, "containers": _containers(entry)}) for entry in document.get("pools", ()))
    return DeployedVariant(**{**document, "containers": _containers(document), "pools": pools})


def _containers(document: Mapping[str, Any]) -> tuple[Container, ...]:
    return tuple(Container(**_of_today(entry)) for entry in document["containers"])


def _of_today(container: Mapping[str, Any]) -> dict[str, Any]:
    """Give a container as it is written now: what was written before knew of archives only."""
    today = {**container, "additional": tuple(container.get("additional", ()))}
    url = today.pop("model_data_url", None)
    if url is not None:
        today["model"] = {"S3Uri": url, "S3DataType": "S3Object", "CompressionType": "Gzip"}
    return {"model": None, **today}
