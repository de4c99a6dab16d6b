"""Policies of keys and the secret of session tokens are kept."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from moorage.state import keys
from moorage.state.records import KeyRecord
from moorage.state.store import FileStore

PLAIN = KeyRecord("AKIA1", "s", "000000000000", "ann", 1.0)
LIMITED = KeyRecord("AKIA2", "s", "000000000000", "bob", 2.0, ("{}", "{ }"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FileStore]:
    made = FileStore(tmp_path / "state.db")
    yield made
    made.close()


async def test_a_key_without_policies_is_not_one_with_none(store: FileStore) -> None:
    for key in (PLAIN, LIMITED):
        await store.transact(lambda c, key=key: keys.add(c, key))  # type: ignore[misc]
    assert await store.read(keys.read_all) == [PLAIN, LIMITED]
    await store.transact(lambda c: keys.set_policies(c, "AKIA1", ()))
    await store.transact(lambda c: keys.set_policies(c, "AKIA2", None))
    assert [key.policies for key in await store.read(keys.read_all)] == [(), None]


async def test_the_first_token_secret_stays(store: FileStore, tmp_path: Path) -> None:
    assert await store.transact(lambda c: keys.token_secret(c, "one")) == "one"
    again = FileStore(tmp_path / "state.db")
    assert await again.transact(lambda c: keys.token_secret(c, "two")) == "one"
    again.close()
