"""Models and endpoint configurations: documents with a name."""

from dataclasses import asdict

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, delete, insert, select

from moorage.state.lists import Page, read_page
from moorage.state.records import Document, Kind, ResourceKey
from moorage.state.tables import DOCUMENTS


def _among(account: str, region: str, kind: Kind) -> ColumnElement[bool]:
    columns = DOCUMENTS.c
    return and_(columns.account == account, columns.region == region, columns.kind == kind)


def _at(key: ResourceKey) -> ColumnElement[bool]:
    return and_(_among(key.account, key.region, key.kind), DOCUMENTS.c.name_key == key.name.lower())


def find(connection: Connection, key: ResourceKey) -> Document | None:
    """Give the one of exactly this name."""
    document = find_any_case(connection, key)
    return document if document is not None and document.name == key.name else None


def find_any_case(connection: Connection, key: ResourceKey) -> Document | None:
    """Give the one that takes this name, whatever its case."""
    row = connection.execute(select(DOCUMENTS).where(_at(key))).mappings().first()
    return _document(row) if row is not None else None


def page(connection: Connection, account: str, region: str, kind: Kind, page: Page) -> list[Document]:
    """Give a page, and one document more when there is another page."""
    rows = read_page(connection, DOCUMENTS, _among(account, region, kind), page)
    return [_document(row) for row in rows]


def add(connection: Connection, document: Document) -> None:
    """Record a new one; raises IntegrityError when the name is taken."""
    connection.execute(insert(DOCUMENTS).values(name_key=document.name.lower(), **asdict(document)))


def remove(connection: Connection, key: ResourceKey) -> None:
    """Delete the one of this name."""
    connection.execute(delete(DOCUMENTS).where(_at(key)))


def _document(row: RowMapping) -> Document:
    values = {name: value for name, value in row.items() if name != "name_key"}
    return Document(**{**values, "kind": Kind(values["kind"])})
