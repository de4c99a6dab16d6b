"""Pages of a list: filters, order, and where to go on.

A page continues after the last item's place in the order, not after a number of items, so that what is created or
deleted between two pages neither hides nor repeats another item (control-plane.md section 4.3).
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Table, and_, or_, select


@dataclass(frozen=True, slots=True)
class Page:
    """What is asked of a list."""

    sort_by: str
    """Name of the column."""
    descending: bool
    limit: int
    after: tuple[Any, str] | None = None
    """Sort value and name of the last item of the page before."""
    name_contains: str | None = None
    """Without regard to case."""
    created_before: float | None = None
    """Excluded itself."""
    created_after: float | None = None
    """Included itself."""
    modified_before: float | None = None
    """Excluded itself."""
    modified_after: float | None = None
    """Excluded itself."""
    status: str | None = None


def read_page(connection: Connection, table: Table, among: ColumnElement[bool], page: Page) -> list[RowMapping]:
    """Give one row more than the page holds when there is another page."""
    conditions = [among, *_filters(table, page)]
    order, name = table.c[page.sort_by], table.c.name
    if page.after is not None:
        value, last = page.after
        if page.descending:
            conditions.append(or_(order < value, and_(order == value, name < last)))
        else:
            conditions.append(or_(order > value, and_(order == value, name > last)))
    ordering = (order.desc(), name.desc()) if page.descending else (order, name)
    statement = select(table).where(*conditions).order_by(*ordering).limit(page.limit + 1)
    return list(connection.execute(statement).mappings())


def _filters(table: Table, page: Page) -> list[ColumnElement[bool]]:
    columns = table.c
    conditions: list[ColumnElement[bool]] = []
    if page.name_contains is not None:
        conditions.append(columns.name_key.contains(page.name_contains.lower(), autoescape=True))
    if page.created_before is not None:
        conditions.append(columns.created_at < page.created_before)
    if page.created_after is not None:
        conditions.append(columns.created_at >= page.created_after)
    if page.modified_before is not None:
        conditions.append(columns.modified_at < page.modified_before)
    if page.modified_after is not None:
        conditions.append(columns.modified_at > page.modified_after)
    if page.status is not None:
        conditions.append(columns.status == page.status)
    return conditions
