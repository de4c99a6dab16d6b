"""Pages of a list neither skip nor repeat, whatever comes and goes between them."""

import asyncio
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from moorage.state import documents, endpoints
from moorage.state.lists import Page
from moorage.state.records import Document, Kind, ResourceKey
from moorage.state.store import FileStore, InlineStore

ACCOUNT, REGION = "000000000000", "us-east-1"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FileStore]:
    opened = FileStore(tmp_path / "state.db")
    yield opened
    opened.close()


def a_model(name: str, created_at: float = 0.0, region: str = REGION) -> Document:
    return Document(ACCOUNT, region, Kind.MODEL, name, {}, created_at)


async def page(store: FileStore | InlineStore, **asked: Any) -> list[str]:
    wanted = Page(**{"sort_by": "created_at", "descending": True, "limit": 10, **asked})
    found = await store.read(lambda c: documents.page(c, ACCOUNT, REGION, Kind.MODEL, wanted))
    return [document.name for document in found]


async def add(store: FileStore | InlineStore, *models: Document) -> None:
    for model in models:
        await store.transact(lambda c, model=model: documents.add(c, model))  # type: ignore[misc]


async def test_order_is_by_the_column_and_then_by_name(store: FileStore) -> None:
    await add(store, a_model("b", 1.0), a_model("a", 1.0), a_model("B2", 2.0), a_model("x", 0.0))
    assert await page(store) == ["B2", "b", "a", "x"]
    assert await page(store, descending=False) == ["x", "a", "b", "B2"]
    assert await page(store, sort_by="name", descending=False) == ["B2", "a", "b", "x"]


async def test_page_gives_one_more_to_show_that_there_is_another(store: FileStore) -> None:
    await add(store, *[a_model(f"m{number}", number) for number in range(5)])
    assert await page(store, limit=2) == ["m4", "m3", "m2"]
    assert await page(store, limit=2, after=(3.0, "m3")) == ["m2", "m1", "m0"]
    assert await page(store, limit=2, after=(1.0, "m1")) == ["m0"]


async def test_filters_have_the_bounds_of_the_api(store: FileStore) -> None:
    await add(store, *[a_model(f"Name-{number}", number) for number in range(4)], a_model("n_me", 9.0))
    assert await page(store, created_after=2.0) == ["n_me", "Name-3", "Name-2"]
    assert await page(store, created_before=2.0) == ["Name-1", "Name-0"]
    assert await page(store, name_contains="nAME-3") == ["Name-3"]
    assert await page(store, name_contains="_") == ["n_me"]


async def test_regions_are_apart(store: FileStore) -> None:
    await add(store, a_model("here"), a_model("there", region="eu-west-1"))
    assert await page(store) == ["here"]


@pytest.mark.parametrize(
    ("table", "sort_by", "index"),
    [
        ("documents", "name", "documents_by_name"),
        ("documents", "created_at", "documents_by_time"),
        ("endpoints", "name", "endpoints_by_name"),
        ("endpoints", "created_at", "endpoints_by_time"),
        ("endpoints", "status", "endpoints_by_status"),
    ],
)
@pytest.mark.parametrize("descending", [True, False])
def test_page_begins_within_an_index_and_sorts_nothing(
    tmp_path: Path,
    table: str,
    sort_by: str,
    index: str,
    descending: bool,  # noqa: FBT001 - one of the cases
) -> None:
    plans: list[str] = []

    def note(connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("SELECT") and "LIMIT" in statement:
            rows = connection.connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(row[3] for row in rows)

    store = InlineStore(tmp_path / "state.db")
    event.listen(store._engine, "before_cursor_execute", note)
    asked = Page(sort_by=sort_by, descending=descending, limit=10, after=("b", "b"))
    if table == "documents":
        asyncio.run(store.read(lambda c: documents.page(c, ACCOUNT, REGION, Kind.MODEL, asked)))
    else:
        asyncio.run(store.read(lambda c: endpoints.page(c, ACCOUNT, REGION, asked)))
    store.close()
    (only,) = plans
    assert f"INDEX {index} " in only
    assert re.search(r"name\)?<" if descending else r"name\)?>", only)


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(st.text("abAB", min_size=1, max_size=3), st.integers(0, 3), min_size=1, max_size=12),
    st.lists(st.tuples(st.booleans(), st.text("abAB", min_size=1, max_size=3)), max_size=8),
    st.booleans(),
    st.sampled_from(["name", "created_at"]),
    st.integers(1, 4),
)
def test_what_stays_is_shown_exactly_once(
    start: dict[str, int],
    changes: list[tuple[bool, str]],
    descending: bool,  # noqa: FBT001 - drawn by hypothesis
    sort_by: str,
    limit: int,
) -> None:
    async def main(store: InlineStore) -> None:
        names: dict[str, str] = {}
        for name, born in start.items():
            if name.lower() not in names:
                names[name.lower()] = name
                await add(store, a_model(name, float(born)))
        stays, shown, ahead, after = set(names.values()), list[str](), iter(changes), None
        while True:
            asked = Page(sort_by=sort_by, descending=descending, limit=limit, after=after)
            found = await store.read(lambda c, asked=asked: documents.page(c, ACCOUNT, REGION, Kind.MODEL, asked))  # type: ignore[misc]
            shown += [document.name for document in found[:limit]]
            if len(found) <= limit:
                break
            after = (getattr(found[limit - 1], sort_by), found[limit - 1].name)
            for create, name in list(ahead)[:2]:
                stays.discard(names.get(name.lower(), name))
                await change(store, names, name, create=create)
        assert len(shown) == len(set(shown))
        assert stays <= set(shown)

    with tempfile.TemporaryDirectory() as folder:
        store = InlineStore(Path(folder) / "state.db")
        asyncio.run(main(store))
        store.close()


async def change(store: InlineStore, names: dict[str, str], name: str, *, create: bool) -> None:
    """Create or delete a model between two pages; one that is made again under another place counts as gone."""
    if create and name.lower() not in names:
        names[name.lower()] = name
        await add(store, a_model(name, 2.0))
    elif not create and name.lower() in names:
        gone = names[name.lower()]
        await store.transact(lambda c: documents.remove(c, ResourceKey(ACCOUNT, REGION, Kind.MODEL, gone)))
