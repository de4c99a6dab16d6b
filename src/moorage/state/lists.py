"""Pages of a list: filters, order, and where to go on.

A page continues after the last item's place in the order, not after a number of items, so that what is created or
deleted between two pages neither hides nor repeats another item (control-plane.md section 4.3).
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Table, func, literal, select, tuple_


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


def read_page(
    connection: Connection, table: Table, among: ColumnElement[bool], page: Page, *shown: ColumnElement[Any]
) -> list[RowMapping]:
    """Give one row more than the page holds when there is another page; whole rows unless columns are named."""
    conditions = [among, *_filters(table, page)]
    if page.after is not None:
        conditions.append(_beyond(table, page.sort_by, page.after, descending=page.descending))
    order = list(dict.fromkeys((page.sort_by, "name")))
    ordering = [table.c[column].desc() if page.descending else table.c[column] for column in order]
    statement = select(*(shown or table.c)).where(*conditions).order_by(*ordering).limit(page.limit + 1)
    return list(connection.execute(statement).mappings())


def _beyond(table: Table, sort_by: str, after: tuple[Any, str], *, descending: bool) -> ColumnElement[bool]:
    """Say what comes after a place in the order, in the one form of which databases make a start within the index."""
    order, name = table.c[sort_by], table.c.name
    value, last = after
    if order is name:
        return name < last if descending else name > last
    place, here = tuple_(order, name), tuple_(literal(value), literal(last))
    return place < here if descending else place > here


def _filters(table: Table, page: Page) -> list[ColumnElement[bool]]:
    columns = table.c
    conditions: list[ColumnElement[bool]] = []
    if page.name_contains is not None:
        # The name is in the indexes, its lower-case twin is not.
        conditions.append(func.lower(columns.name).contains(page.name_contains.lower(), autoescape=True))
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
