"""Models, endpoint configurations, model packages and their groups: documents with a name.

The statements that nearly every call uses are made once: to make one takes longer than to execute it.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, bindparam, delete, insert, select, update

from moorage.state.lists import Page, read_page
from moorage.state.records import Document, Kind, Listed, ResourceKey
from moorage.state.tables import DOCUMENTS


def _among(account: str, region: str, kind: Kind) -> ColumnElement[bool]:
    columns = DOCUMENTS.c
    return and_(columns.account == account, columns.region == region, columns.kind == kind)


_AT = and_(*(DOCUMENTS.c[name] == bindparam(f"its_{name}") for name in ("account", "region", "kind", "name_key")))
_FIND = select(DOCUMENTS).where(_AT)
_ADD = insert(DOCUMENTS)
_CHANGE = update(DOCUMENTS).where(_AT)
_REMOVE = delete(DOCUMENTS).where(_AT)


def _place(key: ResourceKey) -> dict[str, Any]:
    """Give the values of ``_AT``."""
    return {
        "its_account": key.account,
        "its_region": key.region,
        "its_kind": key.kind,
        "its_name_key": key.name.lower(),
    }


def find(connection: Connection, key: ResourceKey) -> Document | None:
    """Give the one of exactly this name."""
    document = find_any_case(connection, key)
    return document if document is not None and document.name == key.name else None


def find_any_case(connection: Connection, key: ResourceKey) -> Document | None:
    """Give the one that takes this name, whatever its case."""
    row = connection.execute(_FIND, _place(key)).mappings().first()
    return _document(row) if row is not None else None


def page(connection: Connection, account: str, region: str, kind: Kind, page: Page) -> list[Listed]:
    """Give a page, and one document more when there is another page."""
    # Only what the indexes hold: a list never reads the documents themselves.
    shown = (DOCUMENTS.c.name, DOCUMENTS.c.created_at)
    rows = read_page(connection, DOCUMENTS, _among(account, region, kind), page, *shown)
    return [Listed(row["name"], row["created_at"]) for row in rows]


def add(connection: Connection, document: Document) -> None:
    """Record a new one; raises IntegrityError when the name is taken."""
    row = {name: getattr(document, name) for name in Document.__dataclass_fields__}
    connection.execute(_ADD, {"name_key": document.name.lower(), **row})


def change(connection: Connection, key: ResourceKey, members: Mapping[str, Any]) -> None:
    """Give the one of this name other members."""
    connection.execute(_CHANGE, {**_place(key), "members": dict(members)})


def remove(connection: Connection, key: ResourceKey) -> None:
    """Delete the one of this name."""
    connection.execute(_REMOVE, _place(key))


def _document(row: RowMapping) -> Document:
    values = {name: value for name, value in row.items() if name != "name_key"}
    return Document(**{**values, "kind": Kind(values["kind"])})
